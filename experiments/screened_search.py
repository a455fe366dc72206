"""Do scores of untrained networks make a search better, when scoring costs worker time, too?

TPE proposes cells of NAS-Bench-201 in batches of 16. NASWOT, synflow and the number of parameters
rank each batch together, and the best four are trained with ASHA; the others are stored with their
scores and told to TPE as stopped. Random search trains all it draws, with the same worker time.
Expected: 32 of 128 candidates are trained, and about a tenth of the worker time goes into scores.
One run gave TPE 98.96 % and random search 98.61 % on the validation images, which is one image of
288, in 37 s of worker time each; another seed may turn that round. Of the seven scored cells that
were trained to the end, neither score ranks them better than the number of parameters.
Time and hardware: 1 min 45 s of worker time in all (6 minutes by the clock, one process on a busy
machine of 2 CPU cores); no download.
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
