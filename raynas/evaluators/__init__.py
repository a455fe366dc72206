"""Evaluators measure how good an architecture is.

Each evaluator of the package is one file here and one line in ``EVALUATORS``. Importing this
package does not import torch; ``evaluate`` does.
"""

from raynas.evaluators.base import Evaluator
from raynas.evaluators.fine_tune import FineTune
from raynas.evaluators.function import FunctionEvaluator
from raynas.evaluators.inherited import Inherited
from raynas.evaluators.latency import MeasuredLatency
from raynas.evaluators.retrain import Retrain, load_trained
from raynas.evaluators.screen import Screen
from raynas.evaluators.tabular import Tabular
from raynas.evaluators.train_supernet import TrainSupernet
from raynas.evaluators.zero_shot import ZeroShot

EVALUATORS: dict[str, type[Evaluator]] = {
    Retrain.name: Retrain,
    FineTune.name: FineTune,
    FunctionEvaluator.name: FunctionEvaluator,
    ZeroShot.name: ZeroShot,
    MeasuredLatency.name: MeasuredLatency,
    TrainSupernet.name: TrainSupernet,
    Inherited.name: Inherited,
    Tabular.name: Tabular,
}

__all__ = [
    "EVALUATORS",
    "Evaluator",
    "FineTune",
    "FunctionEvaluator",
    "Inherited",
    "MeasuredLatency",
    "Retrain",
    "Screen",
    "Tabular",
    "TrainSupernet",
    "ZeroShot",
    "load_trained",
]
