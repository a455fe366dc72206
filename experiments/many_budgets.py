"""One supernet, many budgets: what does a network within 20k, 60k and 150k weights reach, without
a search for each?

The supernet of a small elastic ResNet is trained once by the sandwich rule, NSGA-II searches it for
accuracy against weights, and `raynas specialize` takes the best network within any bounds out of
it, with its weights:

    raynas run experiments/many_budgets.py
    raynas specialize runs/many_budgets --max params=2e4
    raynas specialize runs/many_budgets --max params=6e4
    raynas specialize runs/many_budgets --max macs=3e6 --max latency_ms=2
"""

from raynas.core import Objective
from raynas.data import Digits
from raynas.evaluators import FineTune, Inherited, Retrain, TrainSupernet
from raynas.experiment import Budget, Experiment, Finalists, Truth
from raynas.samplers import NSGA2
from raynas.spaces import ElasticResNet
from raynas.supernet import Sandwich
from raynas.training import Recipe


def experiment() -> Experiment:
    recipe = Recipe(epochs=60, batch_size=64, flip=False, crop_pad=1, grad_clip=5.0)
    alone = Recipe(epochs=15, batch_size=64, flip=False, crop_pad=1)
    return Experiment(
        space=ElasticResNet(
            widths=((8, 12, 16), (16, 24, 32)), strides=(1, 2), depths=(1, 2, 3), kernels=(3, 5)
        ),
        data=Digits(),
        evaluator=Inherited(TrainSupernet(recipe, Sandwich()), calibration=512),
        sampler=NSGA2(population=20),
        objectives=(Objective("val_accuracy"), Objective("params", "min")),
        budget=Budget(trials=300),
        finalists=Finalists(
            top=3,
            seeds=2,
            evaluator=Retrain(alone),
            inherited=FineTune(Recipe(epochs=5, lr=0.02, batch_size=64, flip=False, crop_pad=1)),
        ),
        truth=Truth(Retrain(alone), count=24),
        smoke={
            "space.depths": (1, 2),
            "budget.trials": 6,
            "evaluator.training.recipe.epochs": 2,
            "evaluator.calibration": 64,
            "finalists.top": 1,
            "finalists.seeds": 1,
            "finalists.evaluator.recipe.epochs": 1,
            "finalists.inherited.recipe.epochs": 1,
            "truth.count": 4,
            "truth.evaluator.recipe.epochs": 1,
            "data.subset": 256,
        },
    )
