"""One supernet, many budgets: what does a network within 4k, 6k and 10k weights reach, without a
search for each?

The supernet of a small elastic ResNet is trained once by the sandwich rule, NSGA-II searches it for
accuracy against weights, and `raynas specialize` takes the best network within any bounds out of
it, with its weights, in seconds:

    raynas run experiments/many_budgets.py
    raynas specialize runs/many_budgets --max params=4e3
    raynas specialize runs/many_budgets --max params=6e3
    raynas specialize runs/many_budgets --max params=1e4
    raynas specialize runs/many_budgets --max macs=1e6 --max latency_ms=2

Expected: the supernet's 20 epochs take 30 s of worker time, 100 architectures 3 s. Without any
training of their own the three networks read 98.3, 99.0 and 99.3 % of the 288 validation images
(one image is .35 points) with 3,560, 4,350 and 8,190 weights; larger ones read no more. Digits are
too easy to tell whether inherited weights rank well: see supernet_fashion_mnist.py for that.
Time and hardware: a minute on one CPU core for the supernet and the search (with `--set
baselines=() --set ranking_check=none --set finalists.top=0`, as above), two with what the report
compares; no download.
"""

from raynas.core import Objective
from raynas.data import Digits
from raynas.evaluators import FineTune, Inherited, Retrain, TrainSupernet
from raynas.experiment import Budget, Experiment, Finalists, RankingCheck
from raynas.samplers import NSGA2
from raynas.spaces import ElasticResNet
from raynas.supernet import Sandwich
from raynas.training import Recipe


def experiment() -> Experiment:
    recipe = Recipe(epochs=20, batch_size=64, flip=False, crop_pad=1, grad_clip=5.0)
    alone = Recipe(epochs=15, batch_size=64, flip=False, crop_pad=1)
    return Experiment(
        space=ElasticResNet(
            widths=((8, 12, 16), (16, 24, 32)), strides=(1, 2), depths=(1, 2, 3), kernels=(3, 5)
        ),
        data=Digits(),
        evaluator=Inherited(TrainSupernet(recipe, Sandwich()), calibration=512),
        sampler=NSGA2(population=20),
        objectives=(Objective("val_accuracy"), Objective("params", "min")),
        budget=Budget(trials=100),
        finalists=Finalists(
            top=3,
            seeds=2,
            evaluator=Retrain(alone),
            inherited=FineTune(Recipe(epochs=5, lr=0.02, batch_size=64, flip=False, crop_pad=1)),
        ),
        ranking_check=RankingCheck(Retrain(alone), count=24),
        smoke={
            "space.depths": (1, 2),
            "budget.trials": 6,
            "evaluator.training.recipe.epochs": 2,
            "evaluator.calibration": 64,
            "finalists.top": 1,
            "finalists.seeds": 1,
            "finalists.evaluator.recipe.epochs": 1,
            "finalists.inherited.recipe.epochs": 1,
            "ranking_check.count": 4,
            "ranking_check.evaluator.recipe.epochs": 1,
            "data.subset": 256,
        },
    )
