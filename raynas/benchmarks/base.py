"""The contract of a tabular benchmark, whose ``query`` stands for a training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np

from raynas.core import Architecture, Measurement, Metric, UserError
from raynas.core.fields import check_fields
from raynas.data.base import Dataset, DataView, Images
from raynas.data.source import DatasetSource
from raynas.spaces.base import SearchSpace


@runtime_checkable
class MayLackTestAccuracies(Protocol):
    """A benchmark in which test accuracies may not be recorded."""

    def has_test(self, dataset: str) -> bool:
        """Return whether test accuracies at the last step are recorded.

        Args:
            dataset: One of ``datasets``.

        Raises:
            UserError: When there is no table.
        """


def has_test_accuracies(benchmark: TabularBenchmark, dataset: str) -> bool:
    """Return whether test accuracies at the last step are recorded.

    Args:
        benchmark: The benchmark.
        dataset: One of its ``datasets``.

    Returns:
        True by default.

    Raises:
        UserError: When there is no table.
    """
    return not isinstance(benchmark, MayLackTestAccuracies) or benchmark.has_test(dataset)


@runtime_checkable
class HasTableRemarks(Protocol):
    """A benchmark that tells a user something before its table is used."""

    def remarks(self) -> tuple[str, ...]:
        """Return one sentence for each remark.

        Raises:
            UserError: When there is no table.
        """


def table_remarks(benchmark: TabularBenchmark) -> tuple[str, ...]:
    """Return sentences that a user should read before the table is used.

    Args:
        benchmark: The benchmark.

    Returns:
        One text per remark; empty when there is nothing to say (the default).

    Raises:
        UserError: When there is no table.
    """
    return benchmark.remarks() if isinstance(benchmark, HasTableRemarks) else ()


class TabularBenchmark(ABC):
    """A source of training results that were recorded, or are computed by a formula.

    Subclasses are dataclasses whose init fields are settings. ``setup`` is called once per process
    before the first ``query``; called again with the same space, it changes nothing. A subclass may
    also define ``has_test`` (:class:`MayLackTestAccuracies`) and ``remarks``
    (:class:`HasTableRemarks`).

    Attributes:
        name: The name on the command line and in the store.
        source: The location of the table; None for benchmarks without one.
    """

    name: ClassVar[str]
    source: ClassVar[DatasetSource | None] = None
    """The location of the table; None for benchmarks without one."""

    @property
    @abstractmethod
    def datasets(self) -> tuple[str, ...]:
        """The names of the data sets."""

    @property
    @abstractmethod
    def max_step(self) -> int:
        """The last step of a complete training."""

    @property
    @abstractmethod
    def costs(self) -> tuple[Metric, ...]:
        """The metrics that :meth:`cost` can give, such as latencies on devices."""

    @abstractmethod
    def setup(self, space: SearchSpace) -> None:
        """Load the table and check that it fits ``space``.

        Args:
            space: The search space of the experiment.

        Raises:
            UserError: When there is no table.
            UserError: When the table is of another space.
        """

    @abstractmethod
    def steps(self, dataset: str) -> tuple[int, ...]:
        """Return the steps that have a measurement.

        Args:
            dataset: One of ``datasets``.

        Returns:
            Increasing step numbers; the last one is ``max_step``.

        Raises:
            UserError: When the table lacks data that the settings require.
        """

    @abstractmethod
    def query(self, arch: Architecture, dataset: str, step: int, seed: int) -> Measurement:
        """Return the measurement of a training at one of ``steps``.

        Args:
            arch: The architecture.
            dataset: One of ``datasets``.
            step: One of ``steps``.
            seed: Of the training.

        Returns:
            ``val_accuracy``, and ``test_accuracy`` where recorded (percent), with the simulated
            ``seconds`` since the step before. A value that is not recorded is left out, and the
            note says so. Searches must not look at ``test_accuracy``: evaluators drop it.
        """

    @abstractmethod
    def cost(self, arch: Architecture, dataset: str, metric: str) -> float | None:
        """Return one of the recorded costs of an architecture.

        Args:
            arch: The architecture.
            dataset: One of ``datasets``.
            metric: The name of one of ``costs``.

        Returns:
            The value in the unit of the metric; None when it was not measured.
        """


@dataclass(frozen=True)
class NoImages(Dataset):
    """A data set without images, for experiments on a table.

    Number of classes and size of images determine the costs of networks: 10 and 32 for CIFAR-10,
    100 and 32 for CIFAR-100, 120 and 16 for ImageNet16-120.

    Attributes:
        classes: Number of classes, at least 2.
        size: Height and width of an image in pixels, at least 1; there are three channels.

    Raises:
        UserError: When a setting is below its least value.

    Example:
        >>> view = NoImages(classes=100).search_view(seed=0)
        >>> view.num_classes, len(view.train)
        (100, 0)
    """

    name: ClassVar[str] = "no_images"

    classes: int = 10
    size: int = 32

    def __post_init__(self) -> None:
        check_fields(self)
        if self.classes < 2 or self.size < 1:
            raise UserError(
                f"NoImages has classes={self.classes}, size={self.size}",
                expected="classes from 2, size from 1",
            )

    def search_view(self, seed: int) -> DataView:
        """Return a view without training and validation images."""
        none = self._none()
        return DataView(none, none, "val", self.classes, (0.0,) * 3, (255.0,) * 3)

    def final_view(self, seed: int) -> DataView:
        """Return a view without training and test images."""
        none = self._none()
        return DataView(none, none, "test", self.classes, (0.0,) * 3, (255.0,) * 3)

    def _none(self) -> Images:
        pixels = np.zeros((0, self.size, self.size, 3), dtype=np.uint8)
        return Images(pixels, np.zeros(0, dtype=np.int64))
