"""Images as uint8 arrays, splits, and the views that searches and final trainings get."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Images:
    """``pixels`` (n, height, width, channels) uint8 and ``labels`` (n,) int64."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class View:
    """What an evaluator sees: images to train on and images held out to measure on.

    In a search the held-out images are the validation split (``held_out_name == "val"``) and no
    test image is reachable from here. The finalists' training gets train + valid, and the test
    split as held-out images (``"test"``). ``mean`` and ``std`` per channel, in units of 0..255.
    """

    train: Images
    held_out: Images
    held_out_name: Literal["val", "test"]
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width), as networks are built for it."""
        _, height, width, channels = self.train.pixels.shape
        return channels, height, width


class Dataset(ABC):
    """A data set; subclasses are frozen dataclasses (``Digits()``, ``CIFAR10(folder=...)``).

    ``search_view(seed)`` and ``final_view(seed)`` are what the rest of raynas uses.
    """

    name: ClassVar[str]

    @abstractmethod
    def search_view(self, seed: int) -> View:
        """Train and validation images. Raises: UserError naming the file and the cure."""

    @abstractmethod
    def final_view(self, seed: int) -> View:
        """Train + validation images, and the test images held out. For finalists only."""
