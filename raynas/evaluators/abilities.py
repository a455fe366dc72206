"""This module lists what an evaluator may do beyond its required methods, and asks for it.

Each optional ability is a protocol of one method. An evaluator has it when it defines the method;
:class:`~raynas.evaluators.base.Evaluator` defines none of them. The function below a protocol asks
for the ability, and gives the default where it is absent. The rest of raynas calls these functions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from raynas.core import Architecture, Job, Measurement, Metric
from raynas.core.ability import has
from raynas.data.base import DataView
from raynas.evaluators.base import Evaluator
from raynas.spaces.base import SearchSpace

if TYPE_CHECKING:
    from torch import nn

Results = Iterator[tuple[int, Measurement | Exception | None]]
"""Pairs of an index and a result; the last result of an index is None or an exception."""


@runtime_checkable
class ChecksArchitecture(Protocol):
    """An evaluator with a cheap test of one architecture, before anything is spent."""

    def check(self, arch: Architecture) -> None:
        """Test that space, data and settings fit together, after ``setup``.

        Args:
            arch: The architecture to test with.

        Raises:
            UserError: They do not fit together.
        """


def check_architecture(evaluator: Evaluator, arch: Architecture) -> None:
    """Run the evaluator's cheap test on one architecture, after ``setup``.

    Args:
        evaluator: The evaluator; without a test, nothing is done.
        arch: The architecture to test with.

    Raises:
        UserError: Space, data and settings do not fit together.
    """
    if isinstance(evaluator, ChecksArchitecture):
        evaluator.check(arch)


@runtime_checkable
class GivesRemarks(Protocol):
    """An evaluator that tells a user something before the search begins."""

    def remarks(self) -> tuple[str, ...]:
        """Return one sentence for each remark.

        Raises:
            UserError: Files that it needs cannot be read.
        """


def remarks_of(evaluator: Evaluator) -> tuple[str, ...]:
    """Return what a user should know before the search begins.

    Args:
        evaluator: The evaluator.

    Returns:
        One sentence for each remark; empty by default.

    Raises:
        UserError: Files that it needs cannot be read.
    """
    return evaluator.remarks() if isinstance(evaluator, GivesRemarks) else ()


@runtime_checkable
class CountsPasses(Protocol):
    """An evaluator that knows how many forward passes one step takes."""

    def passes(self, view: DataView) -> float:
        """Return the forward passes of single images that one step takes, without ``setup``.

        Args:
            view: Training and held-out images.

        Returns:
            Number of passes; a forward and backward pass together count as three.
        """


def passes_per_step(evaluator: Evaluator, view: DataView) -> float:
    """Return the forward passes of single images that one step takes, without ``setup``.

    A forward and backward pass together count as three forward passes. Searches with a
    deterministic order cannot use seconds as a price. There a screening score is charged as a part
    of a training step, by the ratio of these numbers.

    Args:
        evaluator: The evaluator.
        view: Training and held-out images.

    Returns:
        Number of passes. The default is one epoch of training and one measurement on the held-out
        images.
    """
    if isinstance(evaluator, CountsPasses):
        return evaluator.passes(view)
    return max(3.0 * len(view.train.labels) + len(view.held_out.labels), 1.0)


@runtime_checkable
class EstimatesMemory(Protocol):
    """An evaluator that estimates device memory from the shapes of a network."""

    def memory(self, arch: Architecture, space: SearchSpace, view: DataView) -> int | None:
        """Return the bytes of an evaluation, without ``setup``; None when they are not known.

        Args:
            arch: The architecture.
            space: The search space that builds it.
            view: The data; its images count too.
        """


def memory_of(
    evaluator: Evaluator, arch: Architecture, space: SearchSpace, view: DataView
) -> int | None:
    """Estimate the device memory of an evaluation from the shapes of the network.

    Args:
        evaluator: The evaluator; ``setup`` is not needed.
        arch: The architecture.
        space: The search space that builds it.
        view: The data; its images count too.

    Returns:
        Bytes, or None when the memory is not known (the default).
    """
    return evaluator.memory(arch, space, view) if isinstance(evaluator, EstimatesMemory) else None


@runtime_checkable
class KeepsNetwork(Protocol):
    """An evaluator whose trained networks can be loaded."""

    def network(self, arch: Architecture, workdir: Path) -> nn.Module | None:
        """Load the trained network that ``evaluate`` left in a folder.

        Args:
            arch: The architecture of the network.
            workdir: The folder of its trial.

        Returns:
            The network in eval mode on the CPU, or None where no network is kept.
        """


def trained_network(evaluator: Evaluator, arch: Architecture, workdir: Path) -> nn.Module | None:
    """Load the trained network that ``evaluate`` left in a folder.

    Args:
        evaluator: The evaluator.
        arch: The architecture of the network.
        workdir: The folder of its trial.

    Returns:
        The network in eval mode on the CPU, or None where no network is kept (the default).
    """
    return evaluator.network(arch, workdir) if isinstance(evaluator, KeepsNetwork) else None


@runtime_checkable
class NamesTestMetrics(Protocol):
    """An evaluator whose metrics have other names on the test images."""

    @property
    def final_metrics(self) -> tuple[Metric, ...]:
        """The metrics of a finalist's evaluation, in the order of the store's columns."""


def final_metrics_of(evaluator: Evaluator) -> tuple[Metric, ...]:
    """Return the metrics of a finalist's evaluation, on the test images.

    Args:
        evaluator: The evaluator.

    Returns:
        The metrics in the order of the store's columns; those of a search by default.
    """
    if isinstance(evaluator, NamesTestMetrics):
        return evaluator.final_metrics
    return evaluator.metrics


@runtime_checkable
class MayLackTestData(Protocol):
    """An evaluator that cannot always measure on the test images."""

    def no_test_reason(self) -> str:
        """Return the reason as a sentence; empty where finalists can be measured."""


def no_test_reason_of(evaluator: Evaluator) -> str:
    """Return the reason why finalists cannot be measured on the test images.

    Args:
        evaluator: The evaluator.

    Returns:
        A sentence; empty where finalists can be measured (the default).
    """
    return evaluator.no_test_reason() if isinstance(evaluator, MayLackTestData) else ""


@runtime_checkable
class EvaluatesTogether(Protocol):
    """An evaluator that measures several architectures faster together; see ``preferred_batch``."""

    def evaluate_many(self, archs: Sequence[Architecture], jobs: Sequence[Job]) -> Results:
        """Yield what ``evaluate`` yields for each of several architectures.

        Args:
            archs: The n architectures.
            jobs: Their n jobs.

        Yields:
            Pairs of an index from 0 to n - 1 and a result of that architecture, in any order. The
            last result of an index is None, or the exception that ended its evaluation.
        """


def evaluate_many(
    evaluator: Evaluator, archs: Sequence[Architecture], jobs: Sequence[Job]
) -> Results:
    """Return an iterator over what ``evaluate`` yields for each of several architectures.

    Args:
        evaluator: The evaluator, after ``setup``. By default it evaluates one architecture after
            the other.
        archs: The n architectures.
        jobs: Their n jobs.

    Returns:
        Pairs of an index from 0 to n - 1 and a result of that architecture, in any order. The last
        result of an index is None, or the exception that ended its evaluation.
    """
    if has(evaluator, EvaluatesTogether):
        return evaluator.evaluate_many(archs, jobs)
    return _one_by_one(evaluator, archs, jobs)


def _one_by_one(
    evaluator: Evaluator, archs: Sequence[Architecture], jobs: Sequence[Job]
) -> Results:
    for index, (arch, job) in enumerate(zip(archs, jobs, strict=True)):
        try:
            for measurement in evaluator.evaluate(arch, job):
                yield index, measurement
        except Exception as error:
            yield index, error
        else:
            yield index, None


@runtime_checkable
class RequiresWeights(Protocol):
    """An evaluator that works with weights which another evaluator must make first."""

    def requires(self) -> Evaluator | None:
        """Return the evaluator that makes the weights, or None when nothing is missing."""


def requirement_of(evaluator: Evaluator) -> Evaluator | None:
    """Return the evaluator that must run once before this one, to make its weights.

    It is evaluated on the space's largest architecture, which is a label only. It leaves what is to
    be kept in ``job.workdir / "weights"``.

    Args:
        evaluator: The evaluator.

    Returns:
        The evaluator that makes the weights, or None when nothing is missing (the default).
    """
    return evaluator.requires() if isinstance(evaluator, RequiresWeights) else None


@runtime_checkable
class BindsWeights(Protocol):
    """An evaluator of which a copy can work with the weights in a folder."""

    def bind_weights(self, folder: Path) -> Evaluator:
        """Return a copy that works with the weights in a folder.

        Args:
            folder: The folder with the prepared weights.

        Raises:
            UserError: ``folder`` holds no such weights.
        """


def bound_to(evaluator: Evaluator, folder: Path) -> Evaluator:
    """Return the evaluator that works with what :func:`requirement_of` has left.

    Args:
        evaluator: The evaluator.
        folder: The folder with the prepared weights.

    Returns:
        A copy with the weights, or the evaluator itself where it takes none (the default).

    Raises:
        UserError: ``folder`` holds no such weights.
    """
    return evaluator.bind_weights(folder) if isinstance(evaluator, BindsWeights) else evaluator


@runtime_checkable
class InheritsWeights(Protocol):
    """An evaluator whose results depend on inherited weights, which have a version."""

    def weights_version(self) -> str | None:
        """Return the version of the weights, or None where there are none yet.

        Raises:
            UserError: The weights cannot be read.
        """


def weights_version_of(evaluator: Evaluator) -> str | None:
    """Return the version of the inherited weights, which every row is stored with.

    Args:
        evaluator: The evaluator.

    Returns:
        The version, or None where no weights are inherited (the default).

    Raises:
        UserError: The weights cannot be read.
    """
    return evaluator.weights_version() if isinstance(evaluator, InheritsWeights) else None


@runtime_checkable
class SharesAssets(Protocol):
    """An evaluator with large arrays that every worker needs beside the view, such as weights."""

    def assets(self) -> Mapping[str, NDArray[Any]]:
        """Return arrays by name; empty where there are none.

        Raises:
            UserError: The arrays cannot be read.
        """


@runtime_checkable
class LoadsAssets(Protocol):
    """An evaluator that takes the arrays of :class:`SharesAssets` in a worker."""

    def load_assets(self, assets: Mapping[str, NDArray[Any]]) -> None:
        """Take what ``assets`` returned in the driver, before ``setup``.

        Args:
            assets: Arrays by name, in shared memory: read only.
        """


def assets_of(evaluator: Evaluator) -> Mapping[str, NDArray[Any]]:
    """Return large arrays that every worker needs beside the view, such as weights.

    Args:
        evaluator: The evaluator.

    Returns:
        Arrays by name; empty where there are none (the default).

    Raises:
        UserError: The arrays cannot be read.
    """
    return evaluator.assets() if isinstance(evaluator, SharesAssets) else {}


def load_assets(evaluator: Evaluator, assets: Mapping[str, NDArray[Any]]) -> None:
    """Give an evaluator in a worker what :func:`assets_of` returned, before ``setup``.

    Args:
        evaluator: The evaluator; without assets, nothing is done.
        assets: Arrays by name, in shared memory: read only.
    """
    if isinstance(evaluator, LoadsAssets):
        evaluator.load_assets(assets)
