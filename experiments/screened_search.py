"""Do scores of untrained networks make a search better, when scoring costs worker time, too?

TPE proposes cells of NAS-Bench-201 in batches of 16. NASWOT, synflow and the number of parameters
rank each batch together, and the best four are trained with ASHA; the others are stored with their
scores and told to TPE as stopped. Random search trains all it draws, with the same worker time.
Expected: 32 of 128 candidates are trained, scoring takes a few percent of the worker time, and
cells that cannot work are no longer trained. The best cell ends within one or two of the 288
validation images of random search's (the images are small, and many cells are good); on
harder data the gap is larger. The report says whether a proxy ranks better than size alone.
Time and hardware: 2 to 4 minutes on 2 CPU cores; no download.
"""

from raynas.core import Ensemble
from raynas.data import Digits
from raynas.evaluators import Retrain, Screen, ZeroShot
from raynas.experiment import Budget, Experiment, Finalists
from raynas.proxies import NASWOT, SynFlow
from raynas.samplers import TPE
from raynas.schedulers import ASHA
from raynas.spaces import NASBench201
from raynas.training import Recipe


def experiment() -> Experiment:
    return Experiment(
        space=NASBench201(channels=8, cells=1),
        data=Digits(),
        evaluator=Retrain(Recipe(epochs=9, batch_size=64, flip=False, crop_pad=1)),
        sampler=TPE(n_startup=12),
        screen=Screen(
            ZeroShot((NASWOT(), SynFlow()), batch=64),
            keep=0.25,
            batch=16,
            by=Ensemble(("naswot", "synflow", "params")),
        ),
        scheduler=ASHA(min_step=1, factor=3),
        budget=Budget(trials=32),
        finalists=Finalists(top=3, seeds=3),
        smoke={
            "budget.trials": 3,
            "screen.batch": 6,
            "evaluator.recipe.epochs": 2,
            "finalists.top": 1,
            "finalists.seeds": 1,
            "data.subset": 128,
        },
    )
