"""The early-NAS baseline: sample, train to the end, keep the best. Does the sampler matter?

Random search, regularized evolution and TPE get the same worker time, side by side, and every
sampled cell of NAS-Bench-201 is trained in full: no early stopping, no weight sharing, no proxy.
Expected: on so small a budget the three end within one or two tenths of a percent of each other
and their order changes with the seed; that is what made the field look for cheaper rankings.
Time and hardware: about 6 minutes on 2 CPU cores. `--set budget.trials=500 --address auto` is
the full-size baseline on a cluster.
"""

from raynas.data import Digits
from raynas.evaluators import Retrain
from raynas.experiment import Budget, Experiment, Finalists
from raynas.samplers import TPE, Random, RegularizedEvolution
from raynas.spaces import NASBench201
from raynas.training import Recipe


def experiment() -> Experiment:
    return Experiment(
        space=NASBench201(channels=8, cells=1),
        data=Digits(),
        evaluator=Retrain(Recipe(epochs=9, batch_size=64, flip=False, crop_pad=1)),
        sampler=Random(),
        against=(RegularizedEvolution(population=10, sample=3), TPE(n_startup=10)),
        budget=Budget(trials=40),
        finalists=Finalists(top=1, seeds=3),
        smoke={
            "budget.trials": 2,
            "evaluator.recipe.epochs": 2,
            "finalists.seeds": 1,
            "data.subset": 128,
        },
    )
