"""The contract of an evaluator: a generator of measurements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

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
    #: Its measurements' seconds are looked up or made up, not spent: it needs no cluster.
    simulated: ClassVar[bool] = False

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

    @property
    def final_metrics(self) -> tuple[Metric, ...]:
        """The metrics of a finalist's evaluation, on the test images."""
        return self.metrics

    def network(self, arch: Architecture, workdir: Path) -> nn.Module | None:
        """The trained network that ``evaluate`` left in ``workdir``, on the CPU, or None."""
        return None

    def check(self, arch: Architecture) -> None:
        """Cheap test on one architecture before anything is spent, after ``setup``.

        Raises: UserError when space and data do not fit together.
        """
        return
