"""Training code that pushes: what is heard of it, in which order, and how it is stopped."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from raynas.core import Architecture, Job, Measurement, UserError
from raynas.evaluators import FunctionEvaluator
from raynas.evaluators.pushed import EvaluationStopped, PushedValues

ARCH = Architecture("toy", (("x", 3),), "x=3")
JOB = Job(0, seed=0, max_step=3)


def running() -> set[threading.Thread]:
    return {t for t in threading.enumerate() if t.name == "raynas-fit"}


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Any:
    yield
    for thread in running():
        thread.join(timeout=20)
    assert not running()


def fit(_: Architecture, job: Job, report: Callable[..., None]) -> str:
    for epoch in range(1, job.max_step + 1):
        report({"step": epoch, "val_accuracy": 10.0 * epoch})
    return "what a function returns is nothing here"


def curve(evaluator: FunctionEvaluator, job: Job = JOB) -> list[tuple[int, dict[str, float]]]:
    return [(m.step, dict(m.values)) for m in evaluator.evaluate(ARCH, job)]


def test_what_is_reported_are_the_measurements() -> None:
    expected = [(step, {"val_accuracy": 10.0 * step}) for step in (1, 2, 3)]
    assert curve(FunctionEvaluator(fit, max_step=3)) == expected


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (((91.5,), {}), False),
        ((({"val_accuracy": 91.5},), {}), False),
        (((), {"val_accuracy": 91.5}), False),
        ((({"step": 2, "val_accuracy": 91.5},), {}), True),
        (((), {"step": 2, "val_accuracy": 91.5}), True),
        (((Measurement(2, {"val_accuracy": 91.5}),), {}), True),
    ],
)
def test_a_report_takes_what_a_generator_yields_or_names(
    words: tuple[tuple[Any, ...], dict[str, Any]], named: bool
) -> None:
    evaluator = FunctionEvaluator(lambda _a, _j, report: report(*words[0], **words[1]), max_step=3)
    assert curve(evaluator) == [(2 if named else 1, {"val_accuracy": 91.5})]


@pytest.mark.parametrize("words", [((), {}), ((1.0,), {"val_accuracy": 1.0})])
def test_a_report_of_nothing_or_of_two_things_is_refused(words: Any) -> None:
    evaluator = FunctionEvaluator(lambda _a, _j, report: report(*words[0], **words[1]))
    with pytest.raises(UserError, match=r"report\(\) was called with"):
        curve(evaluator)


def test_it_runs_only_while_a_value_is_asked_for() -> None:
    seen: list[int] = []

    def slow(_: Architecture, _job: Job, report: Callable[..., None]) -> None:
        for step in range(1, 4):
            seen.append(step)
            report(float(step))

    steps = FunctionEvaluator(slow, max_step=3).evaluate(ARCH, JOB)
    assert seen == []
    for step in (1, 2):
        next(steps)
        assert seen == list(range(1, step + 1))
    steps.close()  # type: ignore[attr-defined]
    assert seen == [1, 2]


def test_a_stopped_function_cleans_up_and_is_waited_for() -> None:
    said: list[str] = []

    def stubborn(_: Architecture, _job: Job, report: Callable[..., None]) -> None:
        try:
            while True:
                try:
                    report(1.0)
                except Exception:  # as training code that goes on after errors
                    said.append("went on")
        except EvaluationStopped:
            said.append("stopped")
            raise
        finally:
            said.append("cleaned up")

    steps = FunctionEvaluator(stubborn, max_step=3).evaluate(ARCH, JOB)
    next(steps)
    steps.close()  # type: ignore[attr-defined]
    assert said == ["stopped", "cleaned up"]


def test_who_goes_on_reporting_is_stopped_again_and_its_errors_are_nobodys() -> None:
    stops = []

    def worse(_: Architecture, _job: Job, report: Callable[..., None]) -> None:
        for _step in range(3):
            try:
                report(1.0)
            except EvaluationStopped:
                stops.append(True)
        raise RuntimeError("at the end")

    steps = FunctionEvaluator(worse, max_step=9).evaluate(ARCH, Job(0, seed=0, max_step=9))
    next(steps)
    steps.close()  # type: ignore[attr-defined]
    assert len(stops) == 3


def test_an_evaluation_that_nobody_holds_ends() -> None:
    steps = FunctionEvaluator(fit, max_step=3).evaluate(ARCH, JOB)
    next(steps)
    assert len(running()) == 1
    del steps
    gc.collect()


@pytest.mark.parametrize("error", [ValueError("of its own"), MemoryError("no room")])
@pytest.mark.parametrize("before", [0, 2])
def test_an_error_of_the_function_is_the_evaluations(error: Exception, before: int) -> None:
    def broken(_: Architecture, _job: Job, report: Callable[..., None]) -> None:
        for step in range(1, before + 1):
            report(float(step))
        raise error

    steps = FunctionEvaluator(broken, max_step=3).evaluate(ARCH, JOB)
    for _ in range(before):
        next(steps)
    with pytest.raises(type(error)) as raised:
        next(steps)
    assert raised.value is error
    assert raised.traceback[-1].name == "broken"


def test_a_wrong_report_is_told_and_stops_the_function() -> None:
    ended = []

    def wrong(_: Architecture, _job: Job, report: Callable[..., None]) -> None:
        try:
            report(val_acuracy=1.0)
        finally:
            ended.append(True)

    with pytest.raises(UserError, match="did you mean 'val_accuracy'"):
        curve(FunctionEvaluator(wrong))
    assert ended


def test_the_function_ends_before_its_last_step_is_told() -> None:
    saved: list[int] = []

    def saving(arch: Architecture, job: Job, report: Callable[..., None]) -> None:
        fit(arch, job, report)
        saved.append(job.max_step)

    assert curve(FunctionEvaluator(saving, max_step=3))[-1][0] == 3
    assert saved == [3]
    saved.clear()
    steps = FunctionEvaluator(saving, max_step=3).evaluate(ARCH, JOB)
    assert [next(steps).step for _ in range(3)] == [1, 2, 3]
    assert saved == [3]
    assert next(steps, None) is None


def test_a_value_beyond_the_last_step_stops_it() -> None:
    def endless(_: Architecture, _job: Job, report: Callable[..., None]) -> None:
        while True:
            report(1.0)

    assert len(curve(FunctionEvaluator(endless, max_step=3))) == 3


def test_nothing_reported_is_nothing_measured() -> None:
    with pytest.raises(UserError, match="gave 0 of 3 measurements"):
        curve(FunctionEvaluator(lambda _a, _j, _report: 91.5, max_step=3))


def test_numbers_are_drawn_as_in_one_thread() -> None:
    """A pushing function and a generator that do the same measure the same."""

    def draw() -> float:
        return float(torch.rand(()))

    def pushing(_: Architecture, job: Job, report: Callable[..., None]) -> None:
        torch.manual_seed(job.seed)
        for _step in range(3):
            report(draw())

    def yielding(_: Architecture, job: Job) -> Any:
        torch.manual_seed(job.seed)
        for _step in range(3):
            yield draw()

    found = []
    with torch.random.fork_rng(devices=[]):
        for function in (pushing, yielding):
            steps = FunctionEvaluator(function, max_step=3).evaluate(ARCH, JOB)
            found.append([(m.values["val_accuracy"], draw()) for m in steps])
    assert found[0] == found[1]


@pytest.mark.parametrize("form", ["named", "counted"])
def test_epochs_of_a_second_attempt_have_their_own_steps(form: str, tmp_path: Path) -> None:
    def resuming(_: Architecture, job: Job, report: Callable[..., None]) -> None:
        assert job.workdir is not None
        file = job.workdir / "epoch"
        kept = int(file.read_text()) if file.exists() else 0
        for epoch in range(kept + 1, 6):
            file.write_text(str(epoch))
            value = {"val_accuracy": 10.0 * epoch}
            report({"step": epoch, **value} if form == "named" else value)

    evaluator = FunctionEvaluator(resuming, max_step=5)
    job = Job(0, seed=0, max_step=5, workdir=tmp_path / "job")
    steps = evaluator.evaluate(ARCH, job)
    for _ in range(3):
        next(steps)
    steps.close()  # type: ignore[attr-defined]
    tail = curve(evaluator, job)
    assert tail == [(s, {"val_accuracy": 10.0 * s}) for s in range(4 if form == "named" else 1, 6)]


def test_a_second_ctrl_c_waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    going_on = threading.Event()

    def busy(_: Architecture, _job: Job, report: Callable[..., None]) -> None:
        report(1.0)
        going_on.wait()
        report(2.0)

    pushed = PushedValues(busy, ARCH, JOB)
    assert next(pushed) == 1.0

    class Interrupted:
        def get(self) -> Any:
            raise KeyboardInterrupt

        put = pushed._given.put

    monkeypatch.setattr(pushed, "_given", Interrupted())
    with pytest.raises(KeyboardInterrupt):
        next(pushed)
    pushed.close()  # returns although the function is still at work
    going_on.set()
    assert next(pushed, None) is None
