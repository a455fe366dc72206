"""The contract of a tabular benchmark: ``query`` stands for a training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from raynas.core import Architecture, Measurement, Metric, UserError
from raynas.core.fields import check_fields
from raynas.data.base import Dataset, Images, View
from raynas.data.source import Source
from raynas.spaces.base import SearchSpace


class TabularBenchmark(ABC):
    """Trainings that were recorded, or are made up by a formula.

    Subclasses are dataclasses whose init fields are settings. ``setup`` is called once per
    process before the first ``query``; called again with the same space, it changes nothing.
    """

    name: ClassVar[str]
    source: ClassVar[Source | None] = None
    """Where its table lies; None for what needs none."""

    @property
    @abstractmethod
    def datasets(self) -> tuple[str, ...]:
        """The names of the data sets."""

    @property
    @abstractmethod
    def max_step(self) -> int:
        """The last step of a whole training."""

    @property
    @abstractmethod
    def costs(self) -> tuple[Metric, ...]:
        """What :meth:`cost` knows, such as latencies on devices."""

    def has_test(self, dataset: str) -> bool:
        """Return whether test accuracies at the last step are recorded.

        Raises: UserError when there is no table.
        """
        return True

    def remarks(self) -> tuple[str, ...]:
        """Return what a user should know of the table before it is used, a sentence each.

        Raises: UserError when there is no table.
        """
        return ()

    @abstractmethod
    def setup(self, space: SearchSpace) -> None:
        """Raises: UserError when there is no table, or it is of another space."""

    @abstractmethod
    def steps(self, dataset: str) -> tuple[int, ...]:
        """The steps with a measurement, increasing; the last one is ``max_step``.

        Raises: UserError when the table lacks what the settings ask for.
        """

    @abstractmethod
    def query(self, arch: Architecture, dataset: str, step: int, seed: int) -> Measurement:
        """``val_accuracy``, and ``test_accuracy`` where recorded (percent), at one of ``steps``.

        ``seconds``: simulated, since the step before. A value that is not recorded is left out,
        and the note says so. Searches must not look at ``test_accuracy``: evaluators drop it.
        """

    @abstractmethod
    def cost(self, arch: Architecture, dataset: str, metric: str) -> float | None:
        """The value of one of ``costs``; None where it was not measured."""


@dataclass(frozen=True)
class NoImages(Dataset):
    """Stands for the images that an experiment on a table does not need.

    ``classes`` and ``size`` (height and width; three channels) give the networks' costs: 10 and
    32 for CIFAR-10, 100 and 32 for CIFAR-100, 120 and 16 for ImageNet16-120.
    """

    name: ClassVar[str] = "no_images"

    classes: int = 10
    size: int = 32

    def __post_init__(self) -> None:
        check_fields(self)
        if self.classes < 2 or self.size < 1:
            raise UserError(
                f"NoImages has classes={self.classes}, size={self.size}",
                allowed="classes from 2, size from 1",
            )

    def search_view(self, seed: int) -> View:
        none = self._none()
        return View(none, none, "val", self.classes, (0.0,) * 3, (255.0,) * 3)

    def final_view(self, seed: int) -> View:
        none = self._none()
        return View(none, none, "test", self.classes, (0.0,) * 3, (255.0,) * 3)

    def _none(self) -> Images:
        pixels = np.zeros((0, self.size, self.size, 3), dtype=np.uint8)
        return Images(pixels, np.zeros(0, dtype=np.int64))
