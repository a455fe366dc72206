"""This module defines the contract of an evaluator: a generator of measurements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from numpy.typing import NDArray

from raynas.core import Architecture, Job, Measurement, Metric
from raynas.data.base import DataView
from raynas.spaces.base import SearchSpace

if TYPE_CHECKING:
    from torch import nn


class Evaluator(ABC):
    """A way to measure architectures, as a generator of measurements.

    ``evaluate`` yields one measurement after the other. Whoever iterates may stop, which ends the
    evaluation early (pruning).

    Subclasses are dataclasses whose init fields are settings. ``setup`` is called once per process
    before the first ``evaluate``; it must leave the settings as they are. An exception out of
    ``evaluate`` makes the trial FAILED; so does an objective that is not finite.

    Attributes:
        name: Name in ``EVALUATORS``, in the store and on the command line.
        quick: Whether an evaluation takes milliseconds to seconds and keeps no files.
        serial: Whether it measures time, so that evaluations must run one after the other.
        needs_network: Whether it builds the network of an architecture.
        crowd: Number of architectures that are cheaper to measure together.
        simulated: Whether the seconds of its measurements are looked up instead of spent.
        processes: Number of processes that one evaluation keeps busy.
    """

    name: ClassVar[str]
    #: An evaluation takes milliseconds to seconds and keeps no files (``job.workdir`` is None).
    #: Batches of quick evaluations go through persistent actors; none is stopped in the middle.
    quick: ClassVar[bool] = False
    #: It measures time: evaluations run one after the other, in a worker of their own, and the
    #: resources of one more trial are left free beside it.
    serial: ClassVar[bool] = False
    #: It builds the network of an architecture. Where building raises, the trial fails before a
    #: worker gets it. If this is False, the trial is evaluated without costs instead.
    needs_network: ClassVar[bool] = True
    #: Number of architectures that are cheaper to measure together than one after the other.
    crowd: int = 1
    #: The seconds of its measurements are looked up or simulated, not spent: it needs no cluster.
    simulated: ClassVar[bool] = False

    #: Number of processes that one evaluation keeps busy; each gets the resources of a trial.
    processes: int = 1

    @property
    @abstractmethod
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics of a search.

        Returns:
            All metrics that measurements carry, in the order of the store's columns.
        """

    @property
    @abstractmethod
    def max_step(self) -> int:
        """The last step of a full evaluation.

        Returns:
            Number of epochs for a training, 1 for an evaluation with a single measurement.
        """

    @abstractmethod
    def setup(self, space: SearchSpace, view: DataView) -> None:
        """Take the space and the data.

        Args:
            space: The search space. It may be in shared memory: read only.
            view: Training and held-out images. They may be in shared memory: read only.
        """

    @abstractmethod
    def evaluate(self, arch: Architecture, job: Job) -> Iterator[Measurement]:
        """Yield measurements of one architecture.

        Args:
            arch: The architecture.
            job: Seed, device, threads, last step and folder of the evaluation.

        Yields:
            Measurements with increasing steps, the last one at ``job.max_step``.
        """

    def evaluate_many(
        self, archs: Sequence[Architecture], jobs: Sequence[Job]
    ) -> Iterator[tuple[int, Measurement | Exception | None]]:
        """Yield what ``evaluate`` yields for each of several architectures.

        The default evaluates one architecture after the other. A faster way also raises ``crowd``.

        Args:
            archs: The n architectures.
            jobs: Their n jobs.

        Yields:
            Pairs of an index from 0 to n - 1 and a result of that architecture, in any order. The
            last result of an index is None, or the exception that ended its evaluation.
        """
        for place, (arch, job) in enumerate(zip(archs, jobs, strict=True)):
            try:
                for measurement in self.evaluate(arch, job):
                    yield place, measurement
            except Exception as error:
                yield place, error
            else:
                yield place, None

    def assets(self) -> Mapping[str, NDArray[Any]]:
        """Return large arrays that every worker needs beside the view, such as weights.

        Returns:
            Arrays by name; empty where there are none.

        Raises:
            UserError: The arrays cannot be read.
        """
        return {}

    def equip(self, assets: Mapping[str, NDArray[Any]]) -> None:
        """Take what :meth:`assets` returned, before ``setup``.

        Args:
            assets: Arrays by name, in shared memory: read only.
        """

    @property
    def final_metrics(self) -> tuple[Metric, ...]:
        """The metrics of a finalist's evaluation, on the test images.

        Returns:
            The metrics in the order of the store's columns.
        """
        return self.metrics

    def no_test_reason(self) -> str:
        """Return the reason why finalists cannot be measured on the test images.

        Returns:
            A sentence; empty where finalists can be measured.
        """
        return ""

    def network(self, arch: Architecture, workdir: Path) -> nn.Module | None:
        """Load the trained network that ``evaluate`` left in a folder.

        Args:
            arch: The architecture of the network.
            workdir: The folder of its trial.

        Returns:
            The network in eval mode on the CPU, or None where no network is kept.
        """
        return None

    def needs(self) -> Evaluator | None:
        """Return the evaluator that must run once before this one, to make its weights.

        It is evaluated on the space's largest architecture, which is a label only. It leaves what
        is to be kept in ``job.workdir / "weights"``.

        Returns:
            The evaluator, or None when nothing is missing.
        """
        return None

    def with_prepared(self, folder: Path) -> Evaluator:
        """Return a copy that works with what :meth:`needs` has left.

        Args:
            folder: The folder with the prepared weights.

        Returns:
            The copy, or the evaluator itself where nothing has to be prepared.

        Raises:
            UserError: ``folder`` holds no such weights.
        """
        return self

    def weights_version(self) -> str | None:
        """Return the version of the inherited weights, which every row is stored with.

        Returns:
            The version, or None where no weights are inherited.

        Raises:
            UserError: The weights cannot be read.
        """
        return None

    def remarks(self) -> tuple[str, ...]:
        """Return what a user should know before the search begins.

        Returns:
            One sentence for each remark.

        Raises:
            UserError: The weights cannot be read.
        """
        return ()

    def memory(self, arch: Architecture, space: SearchSpace, view: DataView) -> int | None:
        """Estimate the device memory of an evaluation from the shapes of the network.

        It does not need ``setup``.

        Args:
            arch: The architecture.
            space: The search space that builds it.
            view: The data; its images count too.

        Returns:
            Bytes, or None when the memory is not known.
        """
        return None

    def passes(self, view: DataView) -> float:
        """Return the forward passes of single images that one step takes, without ``setup``.

        A forward and backward pass together count as three forward passes. Searches with a
        deterministic order cannot use seconds as a price. There a screening score is charged as a
        part of a training step, by the ratio of these numbers. The default is one epoch of training
        and one measurement on the held-out images.

        Args:
            view: Training and held-out images.

        Returns:
            Number of passes.
        """
        return max(3.0 * len(view.train.labels) + len(view.held_out.labels), 1.0)

    def check(self, arch: Architecture) -> None:
        """Run a cheap test on one architecture before anything is spent, after ``setup``.

        Args:
            arch: The architecture to test with.

        Raises:
            UserError: Space and data do not fit together.
        """
        return
