"""The contract of an evaluator: a generator of measurements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from numpy.typing import NDArray

from raynas.core import Architecture, Job, Measurement, Metric
from raynas.data.base import View
from raynas.spaces.base import SearchSpace

if TYPE_CHECKING:
    from torch import nn


class Evaluator(ABC):
    """``for m in evaluator.evaluate(arch, job)``; whoever iterates may stop, that is pruning.

    Subclasses are dataclasses whose init fields are settings. ``setup`` is called once per
    process before the first ``evaluate``; it must leave the settings as they are.
    An exception out of ``evaluate`` makes the trial FAILED; a metric that is not finite, too.
    """

    name: ClassVar[str]
    #: An evaluation takes milliseconds to seconds and keeps nothing (it gets no ``job.workdir``).
    #: Batches of quick evaluations go through persistent actors; none is stopped in the middle.
    quick: ClassVar[bool] = False
    #: It takes the time of something: one evaluation after the other, in a worker of its own,
    #: beside which room for one trial is left free.
    serial: ClassVar[bool] = False
    #: It builds the network of an architecture. Where that raises, the trial fails before it is
    #: given to a worker; without the need it goes without costs.
    needs_network: ClassVar[bool] = True
    #: So many architectures at a time are cheaper than one after the other.
    crowd: int = 1
    #: Its measurements' seconds are looked up or made up, not spent: it needs no cluster.
    simulated: ClassVar[bool] = False

    #: How many processes one evaluation keeps busy at once; each gets the resources of a trial.
    processes: int = 1

    @property
    @abstractmethod
    def metrics(self) -> tuple[Metric, ...]:
        """All metrics that its measurements carry, in the order of the store's columns."""

    @property
    @abstractmethod
    def max_step(self) -> int:
        """The last step of a full evaluation (epochs for training, else 1)."""

    @abstractmethod
    def setup(self, space: SearchSpace, view: View) -> None:
        """Take the space and the data; both may be shared memory: read only."""

    @abstractmethod
    def evaluate(self, arch: Architecture, job: Job) -> Iterator[Measurement]:
        """Yield measurements with increasing steps, the last one at ``job.max_step``."""

    def evaluate_many(
        self, archs: Sequence[Architecture], jobs: Sequence[Job]
    ) -> Iterator[tuple[int, Measurement | Exception | None]]:
        """What ``evaluate`` yields for each architecture, with its place among them.

        Places may come in any order; None or an exception is a place's last. One architecture
        after the other is the default; a better way raises ``crowd``.
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
        """Large arrays that every worker needs beside the view, such as weights.

        Raises: UserError when they cannot be read.
        """
        return {}

    def equip(self, assets: Mapping[str, NDArray[Any]]) -> None:
        """Take what :meth:`assets` gave, before ``setup``; it is shared memory: read only."""

    @property
    def final_metrics(self) -> tuple[Metric, ...]:
        """The metrics of a finalist's evaluation, on the test images."""
        return self.metrics

    def no_test_reason(self) -> str:
        """Why it cannot measure finalists on the test images; nothing where it can."""
        return ""

    def network(self, arch: Architecture, workdir: Path) -> nn.Module | None:
        """The trained network that ``evaluate`` left in ``workdir``, on the CPU, or None."""
        return None

    def needs(self) -> Evaluator | None:
        """What must be evaluated once before: it makes the weights that this one works with.

        None when nothing is missing. It is evaluated on the space's largest architecture, which
        is a label only, and leaves what is to be kept in ``job.workdir / "weights"``.
        """
        return None

    def with_prepared(self, folder: Path) -> Evaluator:
        """A copy that works with what :meth:`needs` has left, now in ``folder``.

        Raises: UserError when there is nothing of the kind in ``folder``.
        """
        return self

    def weights_version(self) -> str | None:
        """The version of the inherited weights; None without any. Every row is stored with it.

        Raises: UserError when they cannot be read.
        """
        return None

    def remarks(self) -> tuple[str, ...]:
        """What a user should know before the search begins, a sentence each.

        Raises: UserError when the weights cannot be read.
        """
        return ()

    def memory(self, arch: Architecture, space: SearchSpace, view: View) -> int | None:
        """Bytes that an evaluation takes of its device, by the network's shapes; None when that is
        not known. It needs no ``setup``."""
        return None

    def passes(self, view: View) -> float:
        """Return the forward passes of single images that one step takes, without ``setup``.

        Forward and backward together count as three. Where results take effect in a fixed order
        seconds cannot be a price, and scores cost their part of a training step by this number.
        The default is an epoch of training and one measurement on the held-out images.
        """
        return max(3.0 * len(view.train.labels) + len(view.held_out.labels), 1.0)

    def check(self, arch: Architecture) -> None:
        """Cheap test on one architecture before anything is spent, after ``setup``.

        Raises: UserError when space and data do not fit together.
        """
        return
