"""raynas: neural architecture search as one distributed pipeline.

``import raynas as rn`` gives all that an experiment needs: its parts (``rn.Experiment``,
``rn.TPE``, ``rn.NASBench201``, ...; ``dir(rn)`` lists them), the packages in which they are
(``rn.samplers``, ``rn.spaces``, ...), and the functions that carry it out: ``rn.run``, ``rn.open``
and ``rn.resume``. A name is loaded when it is first used, so that the import itself takes no time.

Example:
    >>> import raynas as rn
    >>> rn.Budget(trials=8)
    Budget(trials=8, hours=None)
"""

import importlib
from typing import TYPE_CHECKING, Any

from raynas.moved import install as _install
from raynas.version import __version__

if TYPE_CHECKING:
    from raynas import (
        benchmarks,
        callbacks,
        core,
        costs,
        data,
        evaluators,
        experiment,
        layers,
        proxies,
        samplers,
        schedulers,
        spaces,
        supernet,
        training,
    )
    from raynas.api import Run, open, resume, run
    from raynas.benchmarks import NASBench201Table, Synthetic, TabularBenchmark
    from raynas.callbacks import MLflow, Prometheus, RunCallback, TensorBoard, WandB
    from raynas.core import (
        AllTrialsFailed,
        Architecture,
        Bound,
        Choice,
        Costs,
        InfeasibleArchitecture,
        InvalidScore,
        Job,
        Measurement,
        Metric,
        Objective,
        RaynasError,
        SpaceExhausted,
        TrainingDiverged,
        Trial,
        TrialState,
        UserError,
    )
    from raynas.data import (
        CIFAR10,
        CIFAR100,
        IDX,
        Arrays,
        Dataset,
        Digits,
        FashionMNIST,
        ImageNet16,
        Images,
        ImageSet,
        StandIn,
    )
    from raynas.evaluators import (
        Evaluator,
        FineTune,
        FunctionEvaluator,
        Inherited,
        MeasuredLatency,
        Retrain,
        Screen,
        Tabular,
        TrainSupernet,
        ZeroShot,
    )
    from raynas.experiment import Budget, Experiment, Finalists, RankingCheck
    from raynas.pipeline.architecture_result import ArchitectureResult, FinalistTest
    from raynas.proxies import (
        AZNAS,
        EPENAS,
        NASWOT,
        SNIP,
        TENAS,
        Fisher,
        GradNorm,
        GraSP,
        JacobCov,
        L2Norm,
        MACs,
        MeCo,
        Params,
        Plain,
        Proxy,
        SynFlow,
        ZenScore,
        ZiCo,
    )
    from raynas.runners.base import Resources
    from raynas.samplers import (
        BOHB,
        CMAES,
        GP,
        NSGA2,
        TPE,
        ElitistEvolution,
        Exhaustive,
        Guided,
        Listed,
        LocalSearch,
        OptunaRandom,
        Random,
        RegularizedEvolution,
        Reinforce,
        Sampler,
    )
    from raynas.schedulers import (
        ASHA,
        PASHA,
        CurvePrediction,
        Hyperband,
        NoStopping,
        PromotionASHA,
        Scheduler,
        SuccessiveHalving,
    )
    from raynas.search.retention import Checkpoints
    from raynas.spaces import ElasticResNet, NASBench201, NASBench201Cells, SearchSpace, ZenNAS
    from raynas.supernet import Sandwich, SinglePath, StrictFairness
    from raynas.supernet.evaluation.race import Race
    from raynas.training import Recipe

#: module -> the names that the facade takes from it
_NAMES = {
    "raynas.api": "Run open resume run",
    "raynas.pipeline.architecture_result": "ArchitectureResult FinalistTest",
    "raynas.benchmarks": "NASBench201Table Synthetic TabularBenchmark",
    "raynas.callbacks": "MLflow Prometheus RunCallback TensorBoard WandB",
    "raynas.core": (
        "AllTrialsFailed Architecture Bound Choice Costs InfeasibleArchitecture InvalidScore Job "
        "Measurement Metric Objective RaynasError SpaceExhausted TrainingDiverged Trial "
        "TrialState UserError"
    ),
    "raynas.data": (
        "Arrays CIFAR10 CIFAR100 Dataset Digits FashionMNIST IDX ImageNet16 ImageSet Images StandIn"
    ),
    "raynas.evaluators": (
        "Evaluator FineTune FunctionEvaluator Inherited MeasuredLatency Retrain Screen Tabular "
        "TrainSupernet ZeroShot"
    ),
    "raynas.experiment": "Budget Experiment Finalists RankingCheck",
    "raynas.proxies": (
        "AZNAS EPENAS Fisher GraSP GradNorm JacobCov L2Norm MACs MeCo NASWOT Params Plain Proxy "
        "SNIP SynFlow TENAS ZenScore ZiCo"
    ),
    "raynas.runners.base": "Resources",
    "raynas.samplers": (
        "BOHB CMAES ElitistEvolution Exhaustive GP Guided Listed LocalSearch NSGA2 OptunaRandom "
        "Random RegularizedEvolution Reinforce Sampler TPE"
    ),
    "raynas.schedulers": (
        "ASHA CurvePrediction Hyperband NoStopping PASHA PromotionASHA Scheduler SuccessiveHalving"
    ),
    "raynas.search.retention": "Checkpoints",
    "raynas.spaces": "ElasticResNet NASBench201 NASBench201Cells SearchSpace ZenNAS",
    "raynas.supernet": "Sandwich SinglePath StrictFairness",
    "raynas.supernet.evaluation.race": "Race",
    "raynas.training": "Recipe",
}
_HOME = {name: module for module, names in _NAMES.items() for name in names.split()}
_PACKAGES = (
    "benchmarks", "callbacks", "core", "costs", "data", "evaluators", "experiment", "layers",
    "proxies", "samplers", "schedulers", "spaces", "supernet", "training",
)  # fmt: skip

__all__ = [
    "ASHA", "AZNAS", "AllTrialsFailed", "Architecture", "ArchitectureResult", "Arrays", "BOHB",
    "Bound", "Budget", "CIFAR10", "CIFAR100", "CMAES", "Checkpoints", "Choice", "Costs",
    "CurvePrediction", "Dataset", "Digits", "EPENAS", "ElasticResNet", "ElitistEvolution",
    "Evaluator", "Exhaustive", "Experiment", "FashionMNIST", "FinalistTest", "Finalists",
    "FineTune", "Fisher", "FunctionEvaluator", "GP", "GraSP", "GradNorm", "Guided",
    "Hyperband", "IDX", "ImageNet16",
    "ImageSet", "Images", "InfeasibleArchitecture", "Inherited", "InvalidScore", "JacobCov", "Job",
    "L2Norm", "Listed", "LocalSearch", "MACs", "MLflow", "MeCo", "MeasuredLatency", "Measurement",
    "Metric", "NASBench201", "NASBench201Cells", "NASBench201Table", "NASWOT", "NSGA2",
    "NoStopping", "Objective", "OptunaRandom", "PASHA", "Params", "Plain", "Prometheus",
    "PromotionASHA", "Proxy", "Race", "Random", "RankingCheck", "RaynasError", "Recipe",
    "RegularizedEvolution", "Reinforce", "Resources", "Retrain", "Run", "RunCallback", "SNIP",
    "Sampler", "Sandwich", "Scheduler", "Screen", "SearchSpace", "SinglePath", "SpaceExhausted",
    "StandIn", "StrictFairness", "SuccessiveHalving", "SynFlow", "Synthetic", "TENAS", "TPE",
    "Tabular", "TabularBenchmark", "TensorBoard", "TrainSupernet", "TrainingDiverged", "Trial",
    "TrialState", "UserError", "WandB", "ZenNAS", "ZenScore", "ZeroShot", "ZiCo", "__version__",
    "benchmarks", "callbacks", "core", "costs", "data", "evaluators", "experiment", "layers",
    "open", "proxies", "resume", "run", "samplers", "schedulers", "spaces", "supernet", "training",
]  # fmt: skip

_install()


def __getattr__(name: str) -> Any:
    """Load a name of the facade when it is first used."""
    if name in _PACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
