"""This module makes an evaluator of any Python function: training code, formulas, toy problems."""

from __future__ import annotations

import contextlib
import inspect
import operator
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from raynas.core import Architecture, Job, Measurement, Metric, UserError, unknown_option
from raynas.core.fields import check_fields
from raynas.core.metrics import VAL_ACCURACY, on_test
from raynas.data.base import DataView
from raynas.evaluators.base import Evaluator
from raynas.evaluators.pushed import PushedValues
from raynas.spaces.base import SearchSpace

_FORMS = "function(arch), function(arch, job) or function(arch, job, report)"
_NO_IDENTITY = {"fingerprint": False}


@dataclass(frozen=True)
class _TrainedNetwork:
    """The user's ``network`` function, with its result checked."""

    load: Callable[[Architecture, Path], Any] | None = None

    def __call__(self, arch: Architecture, workdir: Path) -> Any:
        """Return the trained network in eval mode on the CPU, or None.

        Raises:
            UserError: The function fails, or returns something else.
        """
        if self.load is None or not workdir.is_dir():
            return None
        from torch import nn

        name = _name_of(self.load)
        try:
            network = self.load(arch, workdir)
        except Exception as error:
            raise UserError(
                f"network={name} fails for {arch.text!r}: {type(error).__name__}: {error}",
                hint=f"it must return the network that the function stored in {workdir}, or None",
            ) from error
        if not isinstance(network, nn.Module | None):
            raise UserError(
                f"network={name} gave {type(network).__name__!r} for {arch.text!r}",
                expected="a torch.nn.Module, or None where no network is kept",
            )
        return network.cpu().eval() if network is not None else None


class _BeginAnew(Exception):
    """The steps are not known, so the function must begin with an empty folder."""


@dataclass(frozen=True)
class _Said:
    """One value that the function gave. ``step`` is None where steps are counted."""

    step: int | None
    values: Mapping[str, float]
    seconds: float = 0.0
    note: str = ""


@dataclass
class FunctionEvaluator(Evaluator):
    """A Python function of your own that returns or yields the metrics of an architecture.

    ``function(arch)`` or ``function(arch, job)`` returns a value, or yields one per step where
    ``max_step`` is above 1. A value is a number (the first of ``metrics``), a mapping metric name
    -> number, which may also have the ``"step"``, or a ``Measurement``. ``function(arch, job,
    report)`` calls ``report`` with such a value instead, for instance from the callback of a
    trainer; ``report(step=3, val_accuracy=91.5)`` is a mapping.

    Steps: values without one are counted from 1. A function that continues from files in
    ``job.workdir`` must name the steps, because nothing else tells at which step it continues.
    If it does not name them, the files are removed and it begins anew. Steps must rise, but need
    not be consecutive. A function that ends before ``max_step`` has ended its trial by itself:
    the trial is COMPLETE, with a note.

    When the search stops or pauses a trial, a generator is closed and ``report`` raises
    ``EvaluationStopped``, so ``finally`` blocks clean up. After the last step the function runs
    to its end first, and may keep its network.

    Finalists are measured on the test data. ``job.held_out`` says which data to measure on,
    "val" or "test". For "test" the metrics are renamed, ``val_accuracy`` to ``test_accuracy``;
    the function may use either name. Code that ends a training early, or chooses among its
    epochs, must not use test data. Without ``on_test`` no finalists are trained.

    Attributes:
        function: As above; all randomness comes from ``job.seed``, files go to ``job.workdir``.
        max_step: Last step of a full evaluation, for instance the number of epochs.
        metrics: Metrics of a search; a bare number is a value of the first one.
        strict: Whether a trial whose function ends before ``max_step`` is FAILED.
        on_test: Whether the function measures on the data that ``job.held_out`` names.
        network: ``network(arch, workdir)`` returns the trained network (``torch.nn.Module``) that
            the function has left in ``workdir``, or None. With it the best network is saved and
            can be exported.

    Raises:
        UserError: A setting is wrong.

    Example:
        >>> from raynas.core import Job
        >>> from raynas.spaces import NASBench201
        >>> evaluator = FunctionEvaluator(lambda arch: 100.0 - len(set(arch.options)))
        >>> arch = NASBench201().architecture("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|")
        >>> [m.values for m in evaluator.evaluate(arch, Job(trial=0, seed=1, max_step=1))]
        [{'val_accuracy': 99.0}]
    """

    name: ClassVar[str] = "function"
    needs_network: ClassVar[bool] = False

    function: Callable[..., Any]
    max_step: int = 1
    metrics: tuple[Metric, ...] = (VAL_ACCURACY,)
    strict: bool = field(default=False, metadata={"fingerprint": "unless default"})
    on_test: bool = field(default=False, metadata=_NO_IDENTITY)
    network: Callable[[Architecture, Path], Any] = field(
        default=_TrainedNetwork(), metadata={**_NO_IDENTITY, "set": False}
    )

    def __post_init__(self) -> None:
        check_fields(self)
        _parameters(self.function)
        if self.max_step < 1:
            raise UserError(f"max_step={self.max_step!r}", expected="a whole number from 1 up")
        self._check_metrics()
        if not isinstance(self.network, _TrainedNetwork):
            self.network = _TrainedNetwork(self.network)

    def _check_metrics(self) -> None:
        if not self.metrics:
            raise UserError("metrics is empty", hint="name at least one Metric")
        names = [metric.name for metric in self.final_metrics]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UserError(
                f"metrics name {twice[0]!r} twice, or under its name in a search and on test data",
                hint="name it once, as in a search: what finalists measure is renamed",
            )

    @property
    def final_metrics(self) -> tuple[Metric, ...]:
        """The metrics of a finalist's evaluation, under their names on test data.

        Returns:
            One metric for each of ``metrics``, in the same order.
        """
        return tuple(metric.on_test() for metric in self.metrics)

    def no_test_reason(self) -> str:
        """Return the reason why the function does not measure on test data.

        Returns:
            A sentence; empty when ``on_test`` is set.
        """
        if self.on_test:
            return ""
        return (
            f"function {_name_of(self.function)!r} does not measure on test data: let it do so "
            "where job.held_out is 'test', and set on_test=True"
        )

    def setup(self, space: SearchSpace, view: DataView) -> None:
        """Do nothing: the function brings its own data.

        Args:
            space: The search space, not used.
            view: The data, not used.
        """

    def evaluate(self, arch: Architecture, job: Job) -> Iterator[Measurement]:
        """Call the function, and yield what it measures.

        Args:
            arch: First argument of the function.
            job: Second argument of the function, if it takes one.

        Yields:
            Measurements with increasing steps. Seconds are wall-clock time, unless the function
            gives a ``Measurement`` with seconds of its own.

        Raises:
            UserError: Steps or metrics are wrong, or test data are asked for without ``on_test``.
        """
        if job.held_out == "test" and (reason := self.no_test_reason()):
            raise UserError(reason)
        with _made(job.workdir if _parameters(self.function) > 1 else None):
            if _holds_files(job.workdir):
                try:
                    yield from self._measure(arch, job, goes_on=True)
                except _BeginAnew:
                    _empty(job.workdir)
                else:
                    return
            yield from self._measure(arch, job, goes_on=False)

    def _measure(self, arch: Architecture, job: Job, *, goes_on: bool) -> Iterator[Measurement]:
        """Yield the measurements of one call.

        ``goes_on``: the folder holds files from which the function may continue.
        """
        began, last = time.monotonic(), 0
        counted: bool | None = None
        given, single = self._call(arch, job)
        with _closing(given):
            for found in given:
                said = self._read(found, job)
                if said.step is None:
                    self._expect_countable(goes_on, single)
                counted = self._alike(counted, said)
                step = last + 1 if said.step is None else self._rising(said.step, last)
                if step > job.max_step:  # the function gives more steps than the job asks for
                    return
                seconds = said.seconds or time.monotonic() - began
                if step == self.max_step:  # it may keep its network now
                    next(iter(given), None)
                yield Measurement(step, said.values, seconds, said.note)
                began, last = time.monotonic(), step
                if step == job.max_step:
                    break
        if goes_on and last == 0:  # its files gave no new step
            raise _BeginAnew
        self._expect_enough(last, job)

    def _call(self, arch: Architecture, job: Job) -> tuple[Iterable[Any], bool]:
        """Return the values of the function, and whether there is a single one that it returned."""
        count = _parameters(self.function)
        if count == 3:
            return PushedValues(self.function, arch, job), False
        found = self.function(arch, job) if count == 2 else self.function(arch)
        return (found, False) if isinstance(found, Iterator) else (iter((found,)), True)

    def _expect_countable(self, goes_on: bool, single: bool) -> None:
        if self.max_step == 1:
            return
        if single:
            raise UserError(
                f"function {self._own_name} gave 1 of {self.max_step} measurements: it returned a "
                "value without a step",
                hint="yield one for every step, set max_step=1, or return a Measurement(step, ...)",
            )
        if goes_on:
            raise _BeginAnew

    def _alike(self, before: bool | None, said: _Said) -> bool:
        """Return whether steps are counted.

        Raises:
            UserError: Some values have a step and others do not.
        """
        counted = said.step is None
        if before not in (None, counted):
            raise UserError(
                f"function {self._own_name} gave a step with some of its values only",
                hint="give the step of every value, or of none",
            )
        return counted

    def _rising(self, step: int, last: int) -> int:
        """Return the step.

        Raises:
            UserError: The steps do not rise from 1 to the last one.
        """
        if not last < step <= self.max_step:
            after = f"after step {last}" if last else "as its first"
            raise UserError(
                f"function {self._own_name} gave step {step} {after}",
                expected=f"steps that rise from 1 to {self.max_step}, each once",
                hint="see max_step, and report every step once",
            )
        return step

    def _expect_enough(self, last: int, job: Job) -> None:
        if last == 0 or (self.strict and last < job.max_step):
            raise UserError(
                f"function {self._own_name} gave {last} of {job.max_step} measurements",
                hint="yield one for every step, or set max_step to what it gives",
            )

    def _read(self, found: Any, job: Job) -> _Said:
        """Return the value with its step.

        Raises:
            UserError: The value is not of a kind that a function may give.
        """
        if isinstance(found, Measurement):
            values = self._values(found.values, job)
            return _Said(self._whole(found.step), values, found.seconds, found.note)
        if isinstance(found, Mapping) and "step" in found:
            values = {name: value for name, value in found.items() if name != "step"}
            return _Said(self._whole(found["step"]), self._values(values, job))
        return _Said(None, self._values(found, job))

    def _whole(self, step: Any) -> int:
        """Return a step as an integer; some trainers count epochs in floats, as 3.0."""
        if not isinstance(step, bool):
            with contextlib.suppress(TypeError, ValueError, OverflowError):
                return operator.index(int(step) if float(step).is_integer() else step)
        raise UserError(
            f"function {self._own_name} gave step {step!r}", expected="a whole number from 1 up"
        )

    def _values(self, found: Any, job: Job) -> dict[str, float]:
        values = found if isinstance(found, Mapping) else {self.metrics[0].name: found}
        names = [metric.name for metric in self.metrics]
        if job.held_out == "test":
            values = self._renamed(values, names)
            names = [on_test(name) for name in names]
        for name in values:
            if name not in names:
                raise unknown_option(f"metric from function {self._own_name}", name, names)
        missing = [name for name in names if name not in values]
        if missing:
            raise UserError(
                f"function {self._own_name} gave no {', '.join(missing)}",
                expected=f"a value for each of {', '.join(names)}",
            )
        try:
            return {name: float(values[name]) for name in names}
        except (TypeError, ValueError, OverflowError) as error:
            raise UserError(
                f"function {self._own_name} gave {found!r}",
                expected="a number, a mapping metric -> number, a Measurement, or an iterator of "
                "these",
            ) from error

    def _renamed(self, values: Mapping[str, Any], names: list[str]) -> Mapping[str, Any]:
        """Return values measured on the test data under the names of test metrics."""
        new = {on_test(name) if name in names else name: value for name, value in values.items()}
        if len(new) < len(values):
            raise UserError(
                f"function {self._own_name} gave {', '.join(values)} for job.held_out='test'",
                expected=f"each of {', '.join(on_test(name) for name in names)} once",
            )
        return new

    @property
    def _own_name(self) -> str:
        return repr(_name_of(self.function))


def _parameters(function: Callable[..., Any]) -> int:
    """Return the number of arguments the function is called with: 1, 2 or 3.

    Raises:
        UserError: The function cannot be called with any of these.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some functions written in C have no signature
        return 1
    needed = [p for p in parameters if p.default is p.empty]
    placed = [p for p in needed if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    named = [p.name for p in needed if p.kind is p.KEYWORD_ONLY]
    takes = [p for p in parameters if p.kind not in (p.KEYWORD_ONLY, p.VAR_KEYWORD)]
    if named or not takes or len(placed) > 3:
        raise UserError(
            f"function {_name_of(function)}{inspect.signature(function)} cannot be called",
            expected=_FORMS,
            hint="bind further arguments with functools.partial",
        )
    return max(len(placed), 1)


def _name_of(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", type(function).__qualname__)


@contextlib.contextmanager
def _closing(given: Iterable[Any]) -> Iterator[None]:
    """Close what the function gave. After a stop, errors of its clean-up are ignored."""
    close = getattr(given, "close", lambda: None)
    try:
        yield
    except BaseException:
        with contextlib.suppress(Exception):
            close()
        raise
    close()


@contextlib.contextmanager
def _made(folder: Path | None) -> Iterator[None]:
    """Make the folder for the function, unless it is None; one that stays empty is removed."""
    if folder is None:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _holds_files(folder: Path | None) -> bool:
    return folder is not None and folder.is_dir() and any(folder.iterdir())


def _empty(folder: Path | None) -> None:
    assert folder is not None
    for place in folder.iterdir():
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        else:
            place.unlink()
