"""This module times the network of an architecture, so that latency can bound a search."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from raynas.core import (
    Architecture,
    Job,
    Measurement,
    Metric,
    RaynasError,
    UserError,
    commonest_reason,
    rng_for,
)
from raynas.core.fields import check_fields
from raynas.core.metrics import LATENCY, LATENCY_IQR
from raynas.data.base import DataView
from raynas.evaluators.base import Evaluator
from raynas.evaluators.networks import build_network, check_network
from raynas.spaces.base import SearchSpace
from raynas.spaces.guard import ArchitectureError, one_architecture

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from raynas.costs import LatencyTable


@dataclass
class MeasuredLatency(Evaluator):
    """The median time of a forward pass in milliseconds, measured on the worker's device.

    There is one measurement. The network is the one that ``space.build`` returns, which equals
    what a supernet's ``extract`` returns. It runs in eval mode, ``repeats`` times after ten
    passes that do not count.

    ``screen=Screen(MeasuredLatency(), keep=1.0)`` with ``bounds=(Bound("latency_ms", max=2),)``
    is a hard bound before anything is evaluated.

    Attributes:
        batch: Images per forward pass.
        repeats: Number of timed passes.
        dtype: Type of weights and images, "float32" for instance.
        table: 0 times every network. Else each distinct layer is timed once, and a line maps the
            sum of the layers to a network's latency. The line is fitted on this many drawn
            networks; its error on as many others is the note of every measurement. There is no
            interquartile range then.

    Raises:
        UserError: A setting is outside its range.
    """

    name: ClassVar[str] = "latency"
    lightweight: ClassVar[bool] = True
    exclusive: ClassVar[bool] = True

    batch: int = 1
    repeats: int = 50
    dtype: str = "float32"
    table: int = 0
    _given: tuple[SearchSpace, DataView] | None = field(
        default=None, init=False, repr=False, compare=False
    )
    _tables: dict[str, tuple[LatencyTable, str]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        check_fields(self)
        from raynas.costs.latency import check_latency

        check_latency(batch=self.batch, repeats=self.repeats, dtype=self.dtype)
        if self.table < 0 or self.table == 1:
            raise UserError(f"MeasuredLatency has table={self.table}", expected="0, or from 2 up")

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics: median latency, and its interquartile range where networks are timed.

        Returns:
            ``latency_ms`` and, with ``table=0``, ``latency_iqr_ms``.
        """
        return (LATENCY,) if self.table else (LATENCY, LATENCY_IQR)

    @property
    def max_step(self) -> int:
        """The last step: 1, since there is one measurement."""
        return 1

    def setup(self, space: SearchSpace, view: DataView) -> None:
        """Take the space and the data, and forget tables of earlier data.

        Args:
            space: The search space.
            view: The data, of which only the input shape and the classes count.
        """
        self._given, self._tables = (space, view), {}

    def passes(self, view: DataView) -> float:
        """Return the images of all timed passes.

        Args:
            view: The data, not used.

        Returns:
            Number of forward passes of single images; 0 where a table is used instead.
        """
        from raynas.costs.latency import passes_of

        return 0.0 if self.table else float(passes_of(self.batch, self.repeats))

    def check(self, arch: Architecture) -> None:
        """Build the network and run it on two images.

        Args:
            arch: The architecture to test with.

        Raises:
            UserError: The network fails, or its output is not (2, classes) logits.
        """
        check_network(self._ready()[0], arch, self._ready()[1])

    def evaluate(self, arch: Architecture, job: Job) -> Iterator[Measurement]:
        """Time one network, or look it up in the table.

        Args:
            arch: The architecture.
            job: Device and threads of the evaluation.

        Yields:
            One measurement, in milliseconds.
        """
        from raynas.costs import measure_latency

        began, network = time.monotonic(), self._network(arch)
        if self.table:
            table, note = self._table(job)
            values = {LATENCY.name: table.predict_ms(network)}
        else:
            shape = self._ready()[1].input_shape
            found = measure_latency(network, shape, **self._under(job))
            values = {LATENCY.name: found.median_ms, LATENCY_IQR.name: found.iqr_ms}
            note = str(found)
        yield Measurement(1, values, time.monotonic() - began, note=note)

    def _table(self, job: Job) -> tuple[LatencyTable, str]:
        """Return the fitted table for the job's device, and a note on its error."""
        if job.device not in self._tables:
            from raynas.costs import LatencyTable

            space, view = self._ready()
            rng = rng_for("latency table", space.name)
            drawn = self._drawn(2 * self.table, rng)
            table = LatencyTable(view.input_shape, **self._under(job))
            table.fit(drawn[: self.table])
            note = f"from a table of {{}} layers: {table.error(drawn[self.table :])}"
            self._tables[job.device] = table, note.format(len(table))
        return self._tables[job.device]

    def _drawn(self, count: int, rng: np.random.Generator) -> list[nn.Module]:
        """Return random networks; architectures whose network does not run are left out.

        Raises:
            UserError: More than nine of ten networks do not run.
        """
        space, view = self._ready()
        found: list[nn.Module] = []
        errors: list[str] = []
        while len(found) < count and len(errors) < 10 * count:
            try:
                with one_architecture("a network for the table"):
                    arch = space.sample_canonical(rng)
                    check_network(space, arch, view)
                    found.append(self._network(arch))
            except ArchitectureError as error:
                errors.append(str(error))
        if len(found) < count:
            raise UserError(
                f"MeasuredLatency(table={self.table}) needs {count} networks, and {len(errors)} of "
                f"{len(errors) + len(found)} random ones fail: {commonest_reason(errors)[0]}",
                hint="use table=0, or fix the space's build()",
            )
        return found

    def _network(self, arch: Architecture) -> nn.Module:
        space, view = self._ready()
        return build_network(space, arch, view.input_shape, view.num_classes, seed=0)

    def _under(self, job: Job) -> dict[str, Any]:
        """Return the conditions under which times are measured."""
        shared = {"batch": self.batch, "repeats": self.repeats, "dtype": self.dtype}
        return {**shared, "device": job.device, "threads": job.threads}

    def _ready(self) -> tuple[SearchSpace, DataView]:
        if self._given is None:
            raise RaynasError("MeasuredLatency is used before setup(space, view)")
        return self._given
