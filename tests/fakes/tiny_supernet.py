"""A small space with a supernet, and images that it can learn, for tests of training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import nn

from raynas.core import Choice, Option
from raynas.data.base import DataView, Images
from raynas.layers import (
    ElasticBatchNorm2d,
    ElasticConv2d,
    ElasticLinear,
    Flatten,
    OneOf,
    Sequential,
)
from raynas.spaces.base import InputShape, SearchSpace
from raynas.spaces.supernet import Supernet

OPERATIONS = ("a", "b", "c")


@dataclass(frozen=True)
class Tiny(SearchSpace):
    """An elastic convolution, two times one of three operations, a classifier.

    ``norms``: with batch norm; ``dropout`` before the classifier.
    """

    name: ClassVar[str] = "tiny"
    norms: bool = True
    dropout: float = 0.0
    widths: tuple[int, ...] = (2, 4, 6)

    @property
    def choices(self) -> tuple[Choice, ...]:
        return (
            Choice("s1_width", self.widths, ordered=True),
            Choice("s1_kernel", (1, 3), ordered=True),
            Choice("op_1", OPERATIONS),
            Choice("op_2", OPERATIONS),
        )

    def format(self, values: Mapping[str, Option]) -> str:
        return "-".join(str(values[choice.name]) for choice in self.choices)

    def parse(self, text: str) -> dict[str, Option]:
        width, kernel, *operations = text.split("-")
        names = [choice.name for choice in self.choices]
        return dict(zip(names, (int(width), int(kernel), *operations), strict=True))

    def supernet(self, input_shape: InputShape = (3, 32, 32), num_classes: int = 10) -> Supernet:
        width, kernel, *operations = self.choices
        most = self.widths[-1]

        def norm(channels: Choice | int) -> list[nn.Module]:
            return [ElasticBatchNorm2d(channels)] if self.norms else []

        def one_of(choice: Choice) -> OneOf:
            # a linear layer on 8 channels behind one that makes them of any width
            return OneOf(choice, {o: Sequential(ElasticConv2d(8, 8, 1)) for o in OPERATIONS})

        body = Sequential(
            ElasticConv2d(input_shape[0], width, kernel, bias=not self.norms),
            *norm(width),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            ElasticConv2d(most, 8, 1),
            *(one_of(choice) for choice in operations),
            *norm(8),
            nn.ReLU(),
            nn.Dropout(self.dropout),
            Flatten(4),
            ElasticLinear(32, num_classes),
        )
        return Supernet(self, body, input_shape, num_classes)


def quarters(n: int, seed: int) -> Images:
    """Noise of 8 x 8 with a bright quarter; which quarter is the label. Read-only."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 120, (n, 8, 8, 1)).astype(np.uint8)
    labels = rng.integers(0, 4, n).astype(np.int64)
    for image, label in zip(pixels, labels, strict=True):
        top, left = 4 * (label // 2), 4 * (label % 2)
        image[top : top + 4, left : left + 4] += 100
    pixels.flags.writeable = labels.flags.writeable = False
    return Images(pixels, labels)


def tiny_view(train: int = 64) -> DataView:
    return DataView(quarters(train, 1), quarters(40, 2), "val", 4, (80.0,), (50.0,))
