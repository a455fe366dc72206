"""Any Python function as an evaluator: own training code, formulas, toy problems."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar

from raynas.core import Architecture, Job, Measurement, Metric, UserError, one_of
from raynas.core.fields import check_fields
from raynas.core.metrics import VAL_ACCURACY
from raynas.data.base import View
from raynas.evaluators.base import Evaluator
from raynas.spaces.base import SearchSpace


@dataclass
class FunctionEvaluator(Evaluator):
    """``function(arch)`` or ``function(arch, job)`` gives the metrics of an architecture.

    It returns a number (the first of ``metrics``), a mapping metric name -> number, or, when
    ``max_step`` is above 1, an iterator with one of these per step. A generator is closed as
    soon as the search stops the trial, so its ``finally`` can clean up.
    """

    name: ClassVar[str] = "function"

    function: Callable[..., Any]
    max_step: int = 1
    metrics: tuple[Metric, ...] = (VAL_ACCURACY,)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.max_step < 1:
            raise UserError(f"max_step={self.max_step}", allowed="a whole number from 1 up")
        if not self.metrics:
            raise UserError("metrics is empty", cure="name at least one Metric")

    def setup(self, space: SearchSpace, view: View) -> None:
        """Nothing to take: the function brings what it needs."""

    def evaluate(self, arch: Architecture, job: Job) -> Iterator[Measurement]:
        """Raises: UserError when the function gives too few steps or other metrics."""
        began = time.monotonic()
        steps = self._steps(arch, job)
        step = 0
        try:
            for step, found in enumerate(islice(steps, job.max_step), start=1):
                yield Measurement(step, self._values(found), time.monotonic() - began)
                began = time.monotonic()
        finally:
            if isinstance(steps, Iterator) and hasattr(steps, "close"):
                steps.close()
        if step < job.max_step:
            raise UserError(
                f"function {self._function_name!r} gave {step} of {job.max_step} measurements",
                cure="yield one for every step, or set max_step to what it gives",
            )

    def _steps(self, arch: Architecture, job: Job) -> Iterable[Any]:
        found = self.function(arch, job) if self._takes_job() else self.function(arch)
        return found if isinstance(found, Iterator) else (found,)

    def _takes_job(self) -> bool:
        parameters = inspect.signature(self.function).parameters.values()
        required = [
            p
            for p in parameters
            if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
        return len(required) >= 2

    def _values(self, found: Any) -> dict[str, float]:
        values = found if isinstance(found, Mapping) else {self.metrics[0].name: found}
        names = [metric.name for metric in self.metrics]
        for name in values:
            if name not in names:
                raise one_of(f"metric from function {self._function_name!r}", name, names)
        missing = [name for name in names if name not in values]
        if missing:
            raise UserError(
                f"function {self._function_name!r} gave no {', '.join(missing)}",
                allowed=f"a value for each of {', '.join(names)}",
            )
        try:
            return {name: float(values[name]) for name in names}
        except (TypeError, ValueError) as error:
            raise UserError(
                f"function {self._function_name!r} gave {found!r}",
                allowed="a number, a mapping metric -> number, or an iterator of these",
            ) from error

    @property
    def _function_name(self) -> str:
        return getattr(self.function, "__qualname__", type(self.function).__qualname__)
