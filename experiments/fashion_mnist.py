"""Does the search beat a ResNet drawn by hand at the same MACs, on Fashion-MNIST, on a CPU?

An elastic ResNet (depth, width, kernel and expansion of every block are open) below 3 million
MACs; TPE with ASHA on 12,000 training images, finalists on all of them over 3 seeds.
`python experiments/fashion_mnist.py` trains the hand-made network the same way as the
finalists and prints its test accuracy; experiments/LOG.md has the comparison.
Expected: the finalist's test accuracy is some tenths of a percent above the hand-made network's.
Time and hardware: about 15 minutes on 2 CPU cores, minutes on a GPU.
Data: `apt-get install dataset-fashion-mnist`, or FashionMNIST(folder=...).
"""

from raynas.core import Bound
from raynas.data import FashionMNIST
from raynas.evaluators import Retrain
from raynas.experiment import Budget, Experiment, Finalists
from raynas.samplers import TPE
from raynas.schedulers import ASHA
from raynas.spaces import ElasticResNet
from raynas.training import Recipe

#: all stages of equal depth, 3 x 3 kernels, widths that double where the image halves
BY_HAND = {"width": (16, 32, 64), "depth": 2, "kernel": 3, "expansion": 0.5}


def experiment() -> Experiment:
    return Experiment(
        space=ElasticResNet(
            widths=((8, 16, 24), (16, 32, 48), (32, 64, 96)), depths=(1, 2, 3), stem_width=8
        ),
        data=FashionMNIST(subset=12_000),
        evaluator=Retrain(Recipe(epochs=9, batch_size=128, lr=0.1, crop_pad=2)),
        sampler=TPE(n_startup=12),
        scheduler=ASHA(min_step=1, factor=3),
        bounds=(Bound("macs", max=3e6),),
        budget=Budget(trials=32),
        finalists=Finalists(top=2, seeds=3),
        smoke={
            "budget.trials": 2,
            "evaluator.recipe.epochs": 1,
            "finalists.top": 1,
            "finalists.seeds": 1,
            "data.subset": 256,
        },
    )
