"""This module looks a training up in a tabular benchmark instead of running it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from raynas.benchmarks.base import TabularBenchmark, has_test_accuracies, table_remarks
from raynas.core import (
    Architecture,
    Job,
    Measurement,
    Metric,
    RaynasError,
    UserError,
    unknown_option,
)
from raynas.core.fields import check_fields
from raynas.core.metrics import TEST_ACCURACY, VAL_ACCURACY
from raynas.data.base import DataView
from raynas.evaluators.base import Evaluator
from raynas.spaces.base import SearchSpace

_HELD_OUT = {"val": VAL_ACCURACY, "test": TEST_ACCURACY}


@dataclass
class Tabular(Evaluator):
    """The recorded training of an architecture in a tabular benchmark.

    There is one measurement per recorded step; its seconds are those that the training took when
    it was recorded. In a search the test accuracy is not read. A finalist's training reads it, in
    a single measurement at the last step.

    Attributes:
        benchmark: The table.
        dataset: One of the benchmark's data sets; empty takes the first.
        costs: Names of costs of the benchmark that every measurement carries, such as
            ``edgegpu_latency_ms``. A cost that was not recorded is missing, and the note says so.

    Raises:
        UserError: The benchmark has no such data set or cost.
    """

    name: ClassVar[str] = "tabular"
    lightweight: ClassVar[bool] = True
    simulated: ClassVar[bool] = True
    needs_network: ClassVar[bool] = False

    benchmark: TabularBenchmark
    dataset: str = ""
    costs: tuple[str, ...] = ()
    _view: DataView | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_fields(self)
        self.dataset = self.dataset or self.benchmark.datasets[0]
        if self.dataset not in self.benchmark.datasets:
            raise unknown_option(
                f"data set in {self.benchmark.name}:", self.dataset, self.benchmark.datasets
            )
        known = [metric.name for metric in self.benchmark.costs]
        for cost in self.costs:
            if cost not in known:
                raise unknown_option(f"cost in {self.benchmark.name}:", cost, known)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics of a search: validation accuracy and the chosen costs.

        Returns:
            The metrics in the order of the store's columns.
        """
        return (VAL_ACCURACY, *self._cost_metrics())

    @property
    def final_metrics(self) -> tuple[Metric, ...]:
        """The metrics of a finalist: test accuracy and the chosen costs.

        Returns:
            The metrics in the order of the store's columns.
        """
        return (TEST_ACCURACY, *self._cost_metrics())

    @property
    def max_step(self) -> int:
        """The last recorded step of the benchmark."""
        return self.benchmark.max_step

    def no_test_reason(self) -> str:
        """Return the reason why the table cannot measure finalists.

        Returns:
            A sentence; empty where the table has the test accuracy.
        """
        if has_test_accuracies(self.benchmark, self.dataset):
            return ""
        table = f"the table of {self.benchmark.name}"
        return f"{table} has no {TEST_ACCURACY.name} of {self.dataset}; take one that has"

    def remarks(self) -> tuple[str, ...]:
        """Return the remarks of the benchmark.

        Returns:
            One sentence for each remark.
        """
        return table_remarks(self.benchmark)

    def setup(self, space: SearchSpace, view: DataView) -> None:
        """Load the table.

        Args:
            space: The search space, which must be that of the benchmark.
            view: Names the held-out data, "val" or "test".

        Raises:
            UserError: The table is missing, or not of this space.
        """
        self.benchmark.setup(space)
        self._view = view

    def check(self, arch: Architecture) -> None:
        """Check that the table has the accuracy that is asked for.

        Args:
            arch: The architecture to look up.

        Raises:
            UserError: The table lacks it.
        """
        held_out, last = _HELD_OUT[self._ready().held_out_name].name, self.max_step
        self.benchmark.steps(self.dataset)
        if held_out not in self.benchmark.query(arch, self.dataset, last, 0).values:
            raise UserError(f"{self.benchmark.name} has no {held_out} of {self.dataset}")

    def evaluate(self, arch: Architecture, job: Job) -> Iterator[Measurement]:
        """Look one architecture up.

        Args:
            arch: The architecture.
            job: Seed and last step of the evaluation.

        Yields:
            One measurement per recorded step; a finalist has one, at the last step.
        """
        held_out = self._ready().held_out_name
        accuracy = _HELD_OUT[held_out].name
        costs = {name: self.benchmark.cost(arch, self.dataset, name) for name in self.costs}
        known = {name: value for name, value in costs.items() if value is not None}
        missing = [f"{name} is missing in the table" for name in self.costs if name not in known]
        seconds = 0.0
        for step in self.benchmark.steps(self.dataset):
            if step > job.max_step:
                return
            found = self.benchmark.query(arch, self.dataset, step, job.seed)
            seconds += found.seconds
            if held_out == "test" and step < self.max_step:
                continue
            values = {accuracy: found.values[accuracy]} if accuracy in found.values else {}
            absent = found.note or f"{accuracy} of {self.dataset} is missing in the table"
            note = "; ".join([*missing, *([] if values else [absent])])
            yield Measurement(step, {**values, **known}, seconds, note)
            seconds = 0.0

    def _cost_metrics(self) -> tuple[Metric, ...]:
        return tuple(m for m in self.benchmark.costs if m.name in self.costs)

    def _ready(self) -> DataView:
        if self._view is None:
            raise RaynasError("Tabular is used before setup(space, view)")
        return self._view
