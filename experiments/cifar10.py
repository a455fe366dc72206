"""NAS-Bench-201 on CIFAR-10 with the benchmark's own recipe: does the search reach its optimum?

The space has 6,466 different cells; the best has 94.37 % on the test images (mean of the
benchmark's seeds). 25,000 images train, 25,000 validate, as in the benchmark's `cifar10-valid`;
the finalists train on all 50,000. TPE with ASHA (rungs at 7, 22, 66 of 200 epochs).
Expected: within half a point of the optimum after 60 cells, most of them stopped at 7 epochs.
Time and hardware: needs GPUs to be quick; one full training takes about an hour on one of them,
so this is some ten GPU-hours and as many hours fewer as there are GPUs. Four trials share one.
Data: CIFAR10(folder=...) with the python batches or the Parquet files, or $RAYNAS_DATA.
"""

from raynas.data import CIFAR10
from raynas.evaluators import Retrain
from raynas.experiment import Budget, Experiment, Finalists
from raynas.runners.base import Resources
from raynas.samplers import TPE
from raynas.schedulers import ASHA
from raynas.spaces import NASBench201
from raynas.training import NASBENCH201


def experiment() -> Experiment:
    return Experiment(
        space=NASBench201(),
        data=CIFAR10(valid_share=0.5),
        evaluator=Retrain(NASBENCH201),
        sampler=TPE(n_startup=20),
        scheduler=ASHA(min_step=7, factor=3),
        budget=Budget(trials=60),
        finalists=Finalists(top=3, seeds=3),
        resources=Resources(cpus=2, gpus=None),
        smoke={
            "space.channels": 4,
            "space.cells": 1,
            "evaluator.recipe.epochs": 1,
            "scheduler.min_step": 1,
            "budget.trials": 2,
            "finalists.top": 1,
            "finalists.seeds": 1,
            "data.subset": 256,
            "resources.cpus": 1,
        },
    )
