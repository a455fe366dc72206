"""The early-NAS baseline: sample, train to the end, keep the best. Does the sampler matter?

Random search, regularized evolution and TPE get the same worker time, side by side, and every
sampled cell of NAS-Bench-201 is trained in full: no early stopping, no weight sharing, no proxy.
Expected: the three end within one of the 288 validation images (0.35 %) of each other, at 99.3 to
99.7 %, and their order says nothing; the finalist has about 98 % on the test images.
Time and hardware: 2 to 3 minutes on 2 CPU cores. `--set budget.trials=500 --address auto` is
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
        baselines=(RegularizedEvolution(population=10, sample=3), TPE(n_startup=10)),
        budget=Budget(trials=40),
        finalists=Finalists(top=1, seeds=3),
        smoke={
            "budget.trials": 2,
            "evaluator.recipe.epochs": 2,
            "finalists.seeds": 1,
            "data.subset": 128,
        },
    )
