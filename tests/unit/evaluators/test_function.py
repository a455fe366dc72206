from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raynas.core import Architecture, Job, Measurement, Metric, UserError
from raynas.core.describe import describe, former_description, fresh
from raynas.core.metrics import LATENCY, TEST_ACCURACY, VAL_ACCURACY, VAL_LOSS
from raynas.evaluators import FunctionEvaluator

ARCH = Architecture("toy", (("x", 3),), "x=3")


def run(evaluator: FunctionEvaluator, max_step: int | None = None) -> list[tuple[int, Any]]:
    job = Job(trial=0, seed=7, max_step=max_step or evaluator.max_step)
    return [(m.step, dict(m.values)) for m in evaluator.evaluate(ARCH, job)]


def square(arch: Architecture) -> float:
    return float(arch["x"]) ** 2


def curve(arch: Architecture) -> Iterator[float]:
    for step in range(1, 5):
        yield step * float(arch["x"])


def test_a_number_is_the_first_metric() -> None:
    assert run(FunctionEvaluator(square)) == [(1, {"val_accuracy": 9.0})]


def test_a_mapping_gives_all_metrics() -> None:
    evaluator = FunctionEvaluator(
        lambda _: {"val_loss": 1, "val_accuracy": 50}, metrics=(VAL_ACCURACY, VAL_LOSS)
    )
    assert run(evaluator) == [(1, {"val_accuracy": 50.0, "val_loss": 1.0})]


def test_an_iterator_gives_one_measurement_per_step_up_to_the_jobs_last() -> None:
    evaluator = FunctionEvaluator(curve, max_step=4)
    assert [v["val_accuracy"] for _, v in run(evaluator)] == [3, 6, 9, 12]
    assert [step for step, _ in run(evaluator, max_step=2)] == [1, 2]


def test_a_function_with_two_parameters_gets_the_job() -> None:
    assert run(FunctionEvaluator(lambda _, job: job.seed)) == [(1, {"val_accuracy": 7.0})]
    assert run(FunctionEvaluator(lambda _, job=5: job)) == [(1, {"val_accuracy": 5.0})]


def test_a_stopped_generator_is_closed_at_once() -> None:
    closed = []

    def careful(_: Architecture) -> Iterator[float]:
        try:
            yield 1.0
            yield 2.0
        finally:
            closed.append(True)

    steps = FunctionEvaluator(careful, max_step=2).evaluate(ARCH, Job(0, seed=0, max_step=2))
    next(steps)
    assert not closed
    steps.close()  # type: ignore[attr-defined]
    assert closed


def test_nan_is_handed_on_for_the_search_to_judge() -> None:
    ((_, values),) = run(FunctionEvaluator(lambda _: math.nan))
    assert math.isnan(values["val_accuracy"])


@pytest.mark.parametrize(
    ("function", "max_step", "message"),
    [
        (square, 2, "'square' gave 1 of 2 measurements"),
        (lambda _: {"val_acuracy": 1.0}, 1, "did you mean 'val_accuracy'"),
        (lambda _: {}, 1, "gave no val_accuracy"),
        (lambda _: None, 1, "gave None; expected: a number"),
    ],
)
def test_wrong_answers_are_user_errors(function: Any, max_step: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(FunctionEvaluator(function, max_step=max_step))


BOTH = (VAL_ACCURACY, TEST_ACCURACY)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_step": 0}, "max_step=0"),
        ({"max_step": 2.5}, "max_step=2.5; expected: whole number"),
        ({"max_step": True}, "max_step=True"),
        ({"metrics": ()}, "metrics is empty"),
        ({"metrics": VAL_LOSS}, r"metrics=Metric\(.*expected: \(Metric object, \.\.\.\)"),
        ({"metrics": ("val_loss",)}, r"expected: \(Metric object, \.\.\.\)"),
        ({"metrics": (VAL_LOSS, VAL_LOSS)}, "'test_loss' twice"),
        ({"metrics": BOTH}, "'test_accuracy' twice"),
        ({"function": None}, "function=None; expected: function"),
        ({"function": lambda: 1.0}, "cannot be called; expected: function.arch., function"),
        ({"function": lambda _a, _b, _c, _d: 1.0}, "cannot be called"),
        ({"function": lambda _a, *, _rate: 1.0}, "cannot be called.*functools.partial"),
        ({"network": "best.pt"}, "network='best.pt'; expected: function"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        FunctionEvaluator(**{"function": square, **settings})


def test_whatever_can_be_called_is_a_function() -> None:
    class Scaled:
        def __call__(self, arch: Architecture, job: Job) -> float:
            return float(arch["x"]) * job.seed

    given = functools.partial(lambda scale, arch: scale * float(arch["x"]), 2.0)
    for function, value in ((Scaled(), 21.0), (given, 6.0), (lambda *a: float(len(a)), 1.0)):
        assert run(FunctionEvaluator(function)) == [(1, {"val_accuracy": value})]


# -- steps -------------------------------------------------------------------------------------


def named(*steps: Any, form: str = "mapping") -> Callable[[Architecture], Iterator[Any]]:
    def function(_: Architecture) -> Iterator[Any]:
        for step in steps:
            if form == "mapping":
                yield {"step": step, "val_accuracy": 10.0 * float(step)}
            else:
                yield Measurement(step, {"val_accuracy": 10.0 * step}, 2.5, "a remark")

    return function


@pytest.mark.parametrize("form", ["mapping", "measurement"])
@pytest.mark.parametrize("steps", [(1, 2, 3, 4, 5), (4, 5), (2, 4), (5,)])
def test_values_are_stored_at_the_steps_that_they_name(steps: tuple[int, ...], form: str) -> None:
    found = run(FunctionEvaluator(named(*steps, form=form), max_step=5))
    assert found == [(step, {"val_accuracy": 10.0 * step}) for step in steps]


def test_a_measurement_keeps_its_seconds_and_its_note() -> None:
    evaluator = FunctionEvaluator(named(1, 2, form="measurement"), max_step=2)
    found = list(evaluator.evaluate(ARCH, Job(0, seed=0, max_step=2)))
    assert [(m.seconds, m.note) for m in found] == [(2.5, "a remark")] * 2


@pytest.mark.parametrize("step", [2.0, np.int64(2), np.float32(2)])
def test_a_step_is_a_whole_number_of_any_type(step: Any) -> None:
    ((found, _),) = run(FunctionEvaluator(named(step), max_step=2))
    assert (found, type(found)) == (2, int)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ((0,), "gave step 0 as its first; expected: steps that rise from 1 to 3"),
        ((-1,), "gave step -1 as its first"),
        ((1, 1), "gave step 1 after step 1"),
        ((2, 1), "gave step 1 after step 2"),
        ((1, 4), "gave step 4 after step 1; expected: steps that rise from 1 to 3"),
        ((1.5,), "gave step 1.5; expected: a whole number"),
        ((math.nan,), "gave step nan"),
        ((True,), "gave step True"),
        ((10**400,), "gave step 1000"),
    ],
)
def test_steps_that_do_not_rise_to_the_last_are_refused(
    steps: tuple[Any, ...], message: str
) -> None:
    def function(_: Architecture) -> Iterator[Any]:
        for step in steps:
            yield {"step": step, "val_accuracy": 1.0}

    with pytest.raises(UserError, match=message):
        run(FunctionEvaluator(function, max_step=3))


@pytest.mark.parametrize("values", [({"step": 1, "val_accuracy": 1}, 2), (1, {"step": 2})])
def test_steps_are_named_always_or_never(values: tuple[Any, ...]) -> None:
    if isinstance(values[1], dict):
        values = (values[0], {"val_accuracy": 1.0, **values[1]})
    with pytest.raises(UserError, match="a step with some of its values only"):
        run(FunctionEvaluator(lambda _: iter(values), max_step=3))


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -1.0])
def test_seconds_that_are_none_are_measured(seconds: float) -> None:
    found = Measurement(1, {"val_accuracy": 1.0}, seconds)
    (measured,) = FunctionEvaluator(lambda _: found).evaluate(
        ARCH, Job(trial=0, seed=7, max_step=1)
    )
    assert 0 < measured.seconds < 10


def test_a_job_that_wants_less_than_the_first_step_gets_nothing() -> None:
    """As `raynas plan` asks for two steps of what measures every fifth."""
    assert run(FunctionEvaluator(named(5, 10), max_step=10), max_step=2) == []


# -- going on from job.workdir -----------------------------------------------------------------


def resuming(form: str, made: list[int], last: int = 5) -> Callable[[Architecture, Job], Any]:
    """Training that keeps its epoch in the workdir, and what it yields in ``form``."""

    def function(_: Architecture, job: Job) -> Iterator[Any]:
        assert job.workdir is not None
        file = job.workdir / "epoch"
        kept = int(file.read_text()) if file.exists() else 0
        for epoch in range(kept + 1, last + 1):
            made.append(epoch)
            file.write_text(str(epoch))
            value = 10.0 * epoch
            yield {"step": epoch, "val_accuracy": value} if form == "named" else value

    return function


@pytest.mark.parametrize("stop", [1, 2, 4])
@pytest.mark.parametrize("form", ["named", "counted"])
def test_epochs_of_a_second_attempt_have_their_own_steps(
    form: str, stop: int, tmp_path: Path
) -> None:
    made: list[int] = []
    evaluator = FunctionEvaluator(resuming(form, made), max_step=5)
    job = Job(0, seed=0, max_step=5, workdir=tmp_path / "job")
    steps = evaluator.evaluate(ARCH, job)
    head = [next(steps) for _ in range(stop)]
    steps.close()  # type: ignore[attr-defined]
    tail = list(evaluator.evaluate(ARCH, replace(job, attempt=1, stored=stop)))
    assert all(m.values == {"val_accuracy": 10.0 * m.step} for m in (*head, *tail))
    assert [m.step for m in tail] == list(range(stop + 1 if form == "named" else 1, 6))
    if form == "named":
        assert made == [1, 2, 3, 4, 5]  # no epoch was trained twice


def test_what_was_kept_at_the_end_and_not_stored_is_measured_anew(tmp_path: Path) -> None:
    """Its files say that all is done, and nobody knows the last steps."""
    made: list[int] = []
    evaluator = FunctionEvaluator(resuming("named", made), max_step=5)
    job = Job(0, seed=0, max_step=5, workdir=tmp_path / "job")
    list(evaluator.evaluate(ARCH, job))
    again = list(evaluator.evaluate(ARCH, replace(job, attempt=1, stored=3)))
    assert [m.step for m in again] == [1, 2, 3, 4, 5]
    assert made == [1, 2, 3, 4, 5] * 2


def test_a_single_value_may_come_from_kept_files(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").touch()
    evaluator = FunctionEvaluator(lambda _, job: len(list(job.workdir.iterdir())))
    job = Job(0, seed=0, max_step=1, workdir=tmp_path, attempt=1)
    (found,) = evaluator.evaluate(ARCH, job)
    assert found.values == {"val_accuracy": 1.0}


def test_the_workdir_is_there_and_goes_when_nothing_was_kept(tmp_path: Path) -> None:
    job = Job(0, seed=0, max_step=1, workdir=tmp_path / "deep" / "job")
    evaluator = FunctionEvaluator(lambda _, job: float(job.workdir.is_dir()))
    (found,) = evaluator.evaluate(ARCH, job)
    assert found.values == {"val_accuracy": 1.0}
    assert not (tmp_path / "deep" / "job").exists()
    list(FunctionEvaluator(square).evaluate(ARCH, job))
    assert not (tmp_path / "deep" / "job").exists()


# -- the end -----------------------------------------------------------------------------------


def test_a_function_may_end_before_the_last_step_unless_it_is_strict() -> None:
    assert [step for step, _ in run(FunctionEvaluator(curve, max_step=9))] == [1, 2, 3, 4]
    with pytest.raises(UserError, match="'curve' gave 4 of 9 measurements"):
        run(FunctionEvaluator(curve, max_step=9, strict=True))


@pytest.mark.parametrize("strict", [False, True])
def test_a_function_without_a_measurement_has_failed(strict: bool) -> None:
    with pytest.raises(UserError, match="gave 0 of 3 measurements"):
        run(FunctionEvaluator(named(), max_step=3, strict=strict))


def test_after_the_last_step_a_function_runs_to_its_end_before_it_is_told() -> None:
    """So what it keeps there, its network, is there when the trial has ended."""
    ended = []

    def function(_: Architecture) -> Iterator[float]:
        yield from (1.0, 2.0)
        ended.append(True)

    steps = FunctionEvaluator(function, max_step=2).evaluate(ARCH, Job(0, seed=0, max_step=2))
    next(steps)
    assert not ended
    next(steps)
    assert ended


def test_a_function_without_an_end_is_closed_after_the_last_step() -> None:
    made = []

    def endless(_: Architecture) -> Iterator[float]:
        try:
            while True:
                made.append(1.0)
                yield 1.0
        finally:
            made.append(0.0)

    assert [step for step, _ in run(FunctionEvaluator(endless, max_step=3))] == [1, 2, 3]
    assert made == [1.0] * 4 + [0.0]


def test_errors_of_cleaning_up_do_not_reach_who_stops_it() -> None:
    def careless(_: Architecture) -> Iterator[float]:
        try:
            yield 1.0
        finally:
            raise RuntimeError("cannot clean up")

    steps = FunctionEvaluator(careless, max_step=2).evaluate(ARCH, Job(0, seed=0, max_step=2))
    next(steps)
    steps.close()  # type: ignore[attr-defined]


# -- test data ---------------------------------------------------------------------------------


FINAL = Job(0, seed=0, max_step=1, held_out="test")


def accuracy(_: Architecture, job: Job) -> dict[str, float]:
    return {"val_accuracy": {"val": 60.0, "test": 50.0}[job.held_out], "latency_ms": 1.0}


def test_finalists_are_measured_on_test_data_under_its_names() -> None:
    evaluator = FunctionEvaluator(accuracy, metrics=(VAL_ACCURACY, LATENCY), on_test=True)
    assert evaluator.final_metrics == (TEST_ACCURACY, LATENCY)
    (found,) = evaluator.evaluate(ARCH, FINAL)
    assert found.values == {"test_accuracy": 50.0, "latency_ms": 1.0}
    assert run(evaluator) == [(1, {"val_accuracy": 60.0, "latency_ms": 1.0})]


@pytest.mark.parametrize("given", [50.0, {"test_accuracy": 50.0}, {"val_accuracy": 50.0}])
def test_a_function_may_name_the_test_metric_either_way(given: Any) -> None:
    evaluator = FunctionEvaluator(lambda _: given, on_test=True)
    (found,) = evaluator.evaluate(ARCH, FINAL)
    assert found.values == {"test_accuracy": 50.0}


def test_one_value_under_both_names_is_refused() -> None:
    given = {"test_accuracy": 50.0, "val_accuracy": 60.0}
    with pytest.raises(UserError, match=r"for job.held_out='test'; expected: each of test_acc"):
        list(FunctionEvaluator(lambda _: given, on_test=True).evaluate(ARCH, FINAL))


def test_a_function_that_knows_no_test_data_never_measures_a_finalist() -> None:
    evaluator = FunctionEvaluator(square)
    assert "'square' does not measure on test data" in evaluator.no_test_reason()
    with pytest.raises(UserError, match="set on_test=True"):
        list(evaluator.evaluate(ARCH, FINAL))
    assert FunctionEvaluator(square, on_test=True).no_test_reason() == ""


def test_own_metrics_are_renamed_by_their_prefix_only() -> None:
    own = Metric("val_f1", "%", "max", "of the rare class"), Metric("interval_score", "", "min")
    final = FunctionEvaluator(square, metrics=own, on_test=True).final_metrics
    assert [(m.name, m.doc) for m in final] == [
        ("test_f1", "of the rare class (on the test data)"),
        ("interval_score", ""),
    ]


# -- its network -------------------------------------------------------------------------------


def test_the_trained_network_is_what_the_function_left(tmp_path: Path) -> None:
    from torch import nn

    def load(arch: Architecture, workdir: Path) -> nn.Module | None:
        there = (workdir / "weights").exists()
        return nn.Linear(int(arch["x"]), 2).train() if there else None

    evaluator = FunctionEvaluator(square, network=load)
    assert evaluator.network(ARCH, tmp_path / "none") is None
    assert evaluator.network(ARCH, tmp_path) is None
    (tmp_path / "weights").touch()
    network = fresh(evaluator).network(ARCH, tmp_path)
    assert isinstance(network, nn.Linear)
    assert not network.training
    assert FunctionEvaluator(square).network(ARCH, tmp_path) is None


@pytest.mark.parametrize(
    ("load", "message"),
    [
        (lambda _arch, _workdir: {}["state"], "fails for 'x=3': KeyError: 'state'"),
        (lambda _arch, _workdir: {"weights": 1}, "gave 'dict' for 'x=3'; expected: a torch.nn"),
    ],
)
def test_a_network_that_cannot_be_had_is_told(load: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        FunctionEvaluator(square, network=load).network(ARCH, tmp_path)


# -- fingerprints ------------------------------------------------------------------------------


def test_settings_that_came_later_leave_stored_fingerprints_as_they_were() -> None:
    for description in (describe, former_description):
        plain = description(FunctionEvaluator(square))
        assert set(plain) == {"class", "function", "max_step", "metrics"}
        later = FunctionEvaluator(square, on_test=True, network=lambda _arch, _workdir: None)
        assert description(later) == plain
        strict = description(FunctionEvaluator(square, strict=True))
        assert strict == {**plain, "strict": True}
