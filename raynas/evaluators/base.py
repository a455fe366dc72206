"""This module defines the contract of an evaluator: a generator of measurements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from raynas.core import Architecture, Job, Measurement, Metric
from raynas.core.renamed import adopt_old_members, old_member
from raynas.data.base import DataView
from raynas.spaces.base import SearchSpace

_OLD_MEMBERS = {
    "quick": "lightweight",
    "serial": "exclusive",
    "crowd": "preferred_batch",
    "needs": "requires",
    "with_prepared": "bind_weights",
    "equip": "load_assets",
}
"""Name in raynas 0.1 -> name."""


class Evaluator(ABC):
    """A way to measure architectures, as a generator of measurements.

    ``evaluate`` yields one measurement after the other. Whoever iterates may stop, which ends the
    evaluation early (pruning).

    A subclass defines the methods that are abstract here. Whatever else an evaluator may do is
    listed in :mod:`raynas.evaluators.abilities`: a subclass that has such an ability defines its
    method, and nothing else. No method that is implemented here is replaced by a subclass.

    =====================  =========================================================================
    Optional method        The evaluator ...
    =====================  =========================================================================
    ``check``              has a cheap test of one architecture, before anything is spent
    ``remarks``            tells a user something before the search begins
    ``passes``             knows how many forward passes one step takes
    ``memory``             estimates the device memory of an evaluation
    ``network``            keeps trained networks, which can be loaded
    ``final_metrics``      has other names for its metrics on the test images (a property)
    ``no_test_reason``     cannot always measure on the test images
    ``evaluate_many``      measures several architectures faster together
    ``requires``           works with weights that another evaluator must make first
    ``bind_weights``       makes a copy of itself that works with the weights in a folder
    ``weights_version``    gives results that depend on inherited weights, which have a version
    ``assets``             has large arrays that every worker needs
    ``load_assets``        takes these arrays in a worker
    =====================  =========================================================================

    Subclasses are dataclasses whose init fields are settings. ``setup`` is called once per process
    before the first ``evaluate``; it must leave the settings as they are. An exception out of
    ``evaluate`` makes the trial FAILED; so does an objective that is not finite.

    Attributes:
        name: Name in ``EVALUATORS``, in the store and on the command line.
        lightweight: Whether an evaluation takes milliseconds to seconds and keeps no files.
        exclusive: Whether it measures time, so that evaluations must run one after the other.
        needs_network: Whether it builds the network of an architecture.
        preferred_batch: Number of architectures that are cheaper to measure together.
        simulated: Whether the seconds of its measurements are looked up instead of spent.
        processes: Number of processes that one evaluation keeps busy.
    """

    name: ClassVar[str]
    #: An evaluation takes milliseconds to seconds and keeps no files (``job.workdir`` is None).
    #: Batches of such evaluations go through persistent actors; none is stopped in the middle.
    lightweight: ClassVar[bool] = False
    #: It measures time: evaluations run one after the other, in a worker of their own, and the
    #: resources of one more trial are left free beside it.
    exclusive: ClassVar[bool] = False
    #: It builds the network of an architecture. Where building raises, the trial fails before a
    #: worker gets it. If this is False, the trial is evaluated without costs instead.
    needs_network: ClassVar[bool] = True
    #: Number of architectures that are cheaper to measure together than one after the other.
    preferred_batch: int = 1
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

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        adopt_old_members(cls, _OLD_MEMBERS)

    if not TYPE_CHECKING:  # else type checkers would accept any attribute

        def __getattr__(self, name: str) -> Any:
            return old_member(self, name, _OLD_MEMBERS)
