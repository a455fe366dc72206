"""Zen-NAS on CIFAR-10: what does evolution by Zen-Score find below a million weights?

The block space of Zen-NAS from its CIFAR start, at most 10^6 weights and 18 layers, population
256; the best network is trained. The paper has 96.2 % on CIFAR-10 for it (NASWOT 96.0, random
93.5), after 96,000 steps and a recipe of 1,440 epochs with stronger augmentation than here.
Expected: Zen-Score grows for tens of thousands of steps; random search stays far below it.
Time and hardware: a score takes 0.1 to 0.3 s on a core, so two hours on 8 cores for the 96,000 of
the paper; `--set budget.trials=2000` shows the growth in 5 minutes on 2 cores. The finalist's
training (200 epochs) wants a GPU; `--set finalists.top=0` leaves it out.
Data: as for cifar10.py.
"""

from raynas.core import Bound, Objective
from raynas.data import CIFAR10
from raynas.evaluators import Retrain, ZeroShot
from raynas.experiment import Budget, Experiment, Finalists
from raynas.proxies import ZenScore
from raynas.samplers import ElitistEvolution, Random
from raynas.spaces import ZenNAS
from raynas.spaces.zennas.space import CIFAR_START
from raynas.training import NASBENCH201


def experiment() -> Experiment:
    return Experiment(
        space=ZenNAS(start=CIFAR_START),
        data=CIFAR10(),
        evaluator=ZeroShot((ZenScore(),), batch=16),
        sampler=ElitistEvolution(population=256, start=CIFAR_START),
        objectives=(Objective("zen"),),
        bounds=(Bound("params", max=1e6), Bound("layers", max=18)),
        budget=Budget(trials=96_000),
        finalists=Finalists(top=1, seeds=1, evaluator=Retrain(NASBENCH201)),
        baselines=(Random(),),
        smoke={
            "budget.trials": 4,
            "finalists.evaluator.recipe.epochs": 1,
            "data.subset": 128,
        },
    )
