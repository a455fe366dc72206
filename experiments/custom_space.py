"""A search space of your own, in one file: what does a small convolutional net need?

Copy this file and change the choices and `supernet`; nothing has to be registered. Text form,
sampling, mutation, encoding, parameter and MAC counts, bounds, samplers, schedulers, Ray and the
report all work from those two. Each elastic layer names the choice that decides its size, so the
same lines make the plain network of one architecture, trained from scratch as here, and the one
network in which all of them share their weights. Who wants plain networks only may define
`build(arch)` instead, as in CONTRIBUTING.md.
Expected: three or four layers with normalisation win; activation hardly matters.
Time and hardware: 2 minutes on 2 CPU cores; no download.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from raynas.core import Bound
from raynas.data import Digits
from raynas.evaluators import Retrain
from raynas.experiment import Budget, Experiment, Finalists
from raynas.layers import (
    ElasticBatchNorm2d,
    ElasticConv2d,
    ElasticLinear,
    Flatten,
    OneOf,
    Repeat,
    Sequential,
)
from raynas.samplers import TPE
from raynas.schedulers import ASHA
from raynas.spaces import Choice, SearchSpace, Supernet
from raynas.training import Recipe

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}


@dataclass(frozen=True)
class PlainNet(SearchSpace):
    """A chain of equal convolutions."""

    name: ClassVar[str] = "plain_net"
    widths: tuple[int, ...] = (8, 16, 24, 32)

    @property
    def choices(self) -> tuple[Choice, ...]:
        return (
            Choice("layers", (1, 2, 3, 4), ordered=True),
            Choice("width", self.widths, ordered=True),
            Choice("kernel", (1, 3, 5), ordered=True),
            Choice("activation", tuple(ACTIVATIONS)),
            Choice("norm", ("batch", "none")),
        )

    def supernet(
        self, input_shape: tuple[int, int, int] = (3, 32, 32), num_classes: int = 10
    ) -> Supernet:
        layers, width, kernel, activation, norm = self.choices
        blocks = []
        for number in range(4):
            norms = {"batch": ElasticBatchNorm2d(width), "none": nn.Identity()}
            blocks.append(
                Sequential(
                    ElasticConv2d(width if number else input_shape[0], width, kernel, bias=True),
                    OneOf(norm, norms),
                    OneOf(activation, {name: make() for name, make in ACTIVATIONS.items()}),
                )
            )
        body = Sequential(
            Repeat(layers, blocks),
            nn.AdaptiveAvgPool2d(2),
            Flatten(positions=4),
            ElasticLinear(4 * max(self.widths), num_classes),
        )
        return Supernet(self, body, input_shape, num_classes)


def experiment() -> Experiment:
    return Experiment(
        space=PlainNet(),
        data=Digits(),
        evaluator=Retrain(Recipe(epochs=9, batch_size=64, lr=0.05, flip=False, crop_pad=1)),
        sampler=TPE(),
        scheduler=ASHA(min_step=1, factor=3),
        bounds=(Bound("params", max=30_000),),
        budget=Budget(trials=32),
        finalists=Finalists(top=2, seeds=3),
        smoke={
            "budget.trials": 2,
            "evaluator.recipe.epochs": 1,
            "finalists.top": 1,
            "finalists.seeds": 1,
            "data.subset": 128,
        },
    )
