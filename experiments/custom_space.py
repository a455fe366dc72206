"""A search space of your own, in one file: what does a small convolutional net need?

Copy this file and change the choices and `build`; nothing has to be registered. Text form,
sampling, mutation, encoding, parameter and MAC counts, bounds, samplers, schedulers, Ray and the
report all work from those two.
Expected: three or four layers with normalisation win; activation hardly matters.
Time and hardware: 2 minutes on 2 CPU cores; no download.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from raynas.core import Architecture, Bound
from raynas.data import Digits
from raynas.evaluators import Retrain
from raynas.experiment import Budget, Experiment, Finalists
from raynas.samplers import TPE
from raynas.schedulers import ASHA
from raynas.spaces import Choice, SearchSpace
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

    def build(
        self,
        arch: Architecture,
        input_shape: tuple[int, int, int] = (3, 32, 32),
        num_classes: int = 10,
    ) -> nn.Module:
        layers: list[nn.Module] = []
        channels, width, kernel = input_shape[0], int(arch["width"]), int(arch["kernel"])
        for _ in range(int(arch["layers"])):
            layers.append(nn.Conv2d(channels, width, kernel, padding=kernel // 2))
            if arch["norm"] == "batch":
                layers.append(nn.BatchNorm2d(width))
            layers.append(ACTIVATIONS[str(arch["activation"])]())
            channels = width
        pool = nn.AdaptiveAvgPool2d(2)
        return nn.Sequential(*layers, pool, nn.Flatten(), nn.Linear(4 * width, num_classes))


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
