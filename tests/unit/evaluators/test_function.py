from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest

from raynas.core import Architecture, Job, UserError
from raynas.core.metrics import VAL_ACCURACY, VAL_LOSS
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
        (curve, 5, "'curve' gave 4 of 5 measurements"),
        (square, 2, "'square' gave 1 of 2 measurements"),
        (lambda _: {"val_acuracy": 1.0}, 1, "did you mean 'val_accuracy'"),
        (lambda _: {}, 1, "gave no val_accuracy"),
        (lambda _: None, 1, "gave None; allowed: a number"),
    ],
)
def test_wrong_answers_are_user_errors(function: Any, max_step: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(FunctionEvaluator(function, max_step=max_step))


def test_bad_settings_are_refused() -> None:
    with pytest.raises(UserError, match="max_step=0"):
        FunctionEvaluator(square, max_step=0)
    with pytest.raises(UserError, match="metrics is empty"):
        FunctionEvaluator(square, metrics=())
