"""Which cell of NAS-Bench-201 reads handwritten digits best, within three minutes on a laptop?

Expected: TPE with ASHA tries 40 cells, stops about 33 of them after one epoch or three, and finds
one with 99.3 % on the validation images, 97.5 to 98 % on the test images. Random search with the
same worker time ends level with it or one of the 288 validation images ahead (the space is benign,
the images are small); the report shows both.
Time and hardware: 1 to 2 minutes on 2 CPU cores; no download.
"""

from raynas.data import Digits
from raynas.evaluators import Retrain
from raynas.experiment import Budget, Experiment, Finalists
from raynas.samplers import TPE
from raynas.schedulers import ASHA
from raynas.spaces import NASBench201
from raynas.training import Recipe


def experiment() -> Experiment:
    """Return the experiment that `raynas demo` runs."""
    return Experiment(
        space=NASBench201(channels=8, cells=1),
        data=Digits(),
        evaluator=Retrain(Recipe(epochs=9, batch_size=64, flip=False, crop_pad=1)),
        sampler=TPE(n_startup=12),
        scheduler=ASHA(min_step=1, factor=3),
        budget=Budget(trials=40),
        finalists=Finalists(top=3, seeds=3),
        smoke={
            "budget.trials": 3,
            "evaluator.recipe.epochs": 2,
            "finalists.top": 1,
            "finalists.seeds": 2,
            "data.subset": 128,
        },
    )
