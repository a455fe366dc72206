"""Do scores of untrained networks make a search better, when scoring costs worker time, too?

TPE proposes cells of NAS-Bench-201 in batches of 16. NASWOT, synflow and the number of parameters
rank each batch together, and the best four are trained with ASHA; the others are stored with their
scores and told to TPE as stopped. Random search trains all it draws, with the same worker time.
Expected: 32 of 128 candidates are trained, and about a tenth of the worker time goes into scores.
The best cell has 98.6 to 99.3 % on the validation images, level with random search's or one or two
of the 288 images (0.35 %) ahead: the space is benign and one run of each proves little. Of seven
cells trained to the end, neither score ranks better than the number of parameters; the report says
so, with intervals.
Time and hardware: less than 2 minutes of worker time (a CPU core, one seed: TPE 98.96 %, random
98.61 %, both in 37 s); about 2 minutes on 2 idle CPU cores; no download.
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
