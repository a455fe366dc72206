"""This module scores architectures without training them, the cheap evaluation."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from raynas.core import Architecture, Job, Measurement, Metric, RaynasError, UserError
from raynas.core.fields import check_fields
from raynas.core.metrics import LATENCY, MACS, PARAMS
from raynas.data.base import DataView
from raynas.evaluators.base import Evaluator
from raynas.evaluators.networks import build_network, check_network
from raynas.spaces.base import SearchSpace

if TYPE_CHECKING:
    from raynas.proxies import Batch, Proxy

_COSTS = {PARAMS.name, MACS.name}  # every search counts these exactly


@dataclass
class ZeroShot(Evaluator):
    """The scores of zero-cost proxies for networks with initial weights.

    There is one measurement. An architecture without a score of an objective fails, with the
    reason; other missing scores are noted.

    Attributes:
        proxies: The proxies.
        batch: Number of training images, the same for every architecture.
        latency: Number of images of a timed forward pass (milliseconds); 0 times nothing.

    Raises:
        UserError: The proxies cannot be combined, or a setting is outside its range.
    """

    name: ClassVar[str] = "zero_shot"
    lightweight: ClassVar[bool] = True

    proxies: tuple[Proxy, ...]
    batch: int = 64
    latency: int = 0
    _given: tuple[SearchSpace, DataView] | None = field(
        default=None, init=False, repr=False, compare=False
    )
    _batch: Batch | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_fields(self, unchecked=("proxies",))
        from raynas.proxies import check_proxies

        check_proxies(self.proxies)
        if self.batch < 2 or self.latency < 0:
            raise UserError(
                f"ZeroShot has batch={self.batch}, latency={self.latency}",
                expected="batch from 2, latency from 0 images",
            )

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics of the proxies, and the latency if it is measured.

        Returns:
            The metrics without parameters and MACs, which every search counts anyway.
        """
        scores = (m for p in self.proxies for m in p.metrics if m.name not in _COSTS)
        return (*scores, *([LATENCY] if self.latency else []))

    @property
    def max_step(self) -> int:
        """The last step: 1, since there is one measurement."""
        return 1

    def passes(self, view: DataView) -> float:
        """Return one forward and backward pass of the batch per proxy, and the timed passes.

        Proxies that share passes cost less; those with passes of their own may cost more.

        Args:
            view: The data, not used.

        Returns:
            Number of forward passes of single images.
        """
        from raynas.costs.latency import passes_of

        counted = sum(p.name not in _COSTS for p in self.proxies)
        return 3.0 * self.batch * counted + (passes_of(self.latency) if self.latency else 0)

    def setup(self, space: SearchSpace, view: DataView) -> None:
        """Take the space and the data, and draw the batch.

        Args:
            space: The search space.
            view: Training images, of which ``batch`` are drawn.

        Raises:
            UserError: There are too few images.
        """
        from raynas.proxies import Batch

        self._given = space, view
        self._batch = Batch.draw(view, self.batch)

    def check(self, arch: Architecture) -> None:
        """Build the network and run it on two images.

        Args:
            arch: The architecture to test with.

        Raises:
            UserError: The network fails, or its output is not (2, classes) logits.
        """
        check_network(self._ready()[0], arch, self._ready()[1])

    def evaluate(self, arch: Architecture, job: Job) -> Iterator[Measurement]:
        """Score one network.

        Args:
            arch: The architecture.
            job: Seed, device and threads of the evaluation.

        Yields:
            One measurement. On a CPU its seconds are processor time divided by the threads.
        """
        import torch

        from raynas.proxies import score

        space, view = self._ready()
        assert self._batch is not None
        torch.set_num_threads(job.threads)
        began = _worked(job)
        network = build_network(space, arch, view.input_shape, view.num_classes, job.seed)
        network = network.to(job.device)
        proxies = [p for p in self.proxies if p.name not in _COSTS]
        found = score(network, self._batch.to(job.device), proxies, seed=job.seed)
        values = dict(found.values)
        if self.latency:
            from raynas.costs import latency_ms

            shape = view.input_shape
            values[LATENCY.name] = latency_ms(
                network, shape, self.latency, job.device, threads=job.threads
            )
        yield Measurement(1, values, _worked(job) - began, note=found.note)

    def _ready(self) -> tuple[SearchSpace, DataView]:
        if self._given is None:
            raise RaynasError("ZeroShot is used before setup(space, view)")
        return self._given


def _worked(job: Job) -> float:
    """Return a clock in seconds; on a CPU processor time, which does not depend on other load."""
    if job.device == "cpu":
        return time.process_time() / max(job.threads, 1)
    return time.monotonic()
