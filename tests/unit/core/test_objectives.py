"""Objectives' signs and bounds."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raynas.core import Bound, Objective, UserError, signed, violations
from raynas.core import metrics as known

finite = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e12, max_value=1e12)


def test_signed_makes_higher_better() -> None:
    objectives = (Objective("val_accuracy"), Objective("params", "min"))
    assert signed(objectives, {"params": 10.0, "val_accuracy": 90.0}) == (90.0, -10.0)


def test_a_wrong_direction_is_the_users_error() -> None:
    with pytest.raises(UserError, match=r"direction 'up' of params; expected: max, min"):
        Objective("params", "up")  # type: ignore[arg-type]


@given(finite, finite, finite)
def test_the_sign_says_whether_a_bound_is_kept(value: float, a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    for bound, kept in (
        (Bound("m", max=high), value <= high),
        (Bound("m", min=low), value >= low),
        (Bound("m", min=low, max=high), low <= value <= high),
    ):
        assert (bound.violation(value) <= 0) == kept
        assert math.isfinite(bound.violation(value))


def test_violations_are_relative_to_the_limit() -> None:
    assert Bound("params", max=1e6).violation(1.5e6) == pytest.approx(0.5)
    assert Bound("params", max=1e6).violation(0.5e6) == pytest.approx(-0.5)
    assert Bound("acc", min=50.0).violation(40.0) == pytest.approx(0.2)
    assert Bound("m", min=10.0, max=100.0).violation(5.0) == pytest.approx(0.5)
    assert Bound("m", min=10.0, max=100.0).violation(110.0) == pytest.approx(0.1)
    assert Bound("loss", max=0.0).violation(2.0) == 2.0  # no division by a limit of zero
    assert Bound("m", max=3.0).violation(3.0) == 0.0


@given(finite, finite)
def test_a_larger_break_is_a_larger_violation(a: float, b: float) -> None:
    bound = Bound("m", max=0.0)
    assert (a <= b) == (bound.violation(a) <= bound.violation(b))


def test_infinite_and_missing_numbers() -> None:
    below = Bound("m", max=10.0)
    assert below.violation(math.inf) == math.inf
    assert below.violation(-math.inf) <= 0
    above = Bound("m", min=10.0)
    assert above.violation(-math.inf) == math.inf
    assert above.violation(math.inf) <= 0
    assert below.violation(math.nan) == math.inf
    assert Bound("m").violation(1e300) <= 0  # no limit at all


def test_a_bound_that_nothing_keeps_is_refused() -> None:
    with pytest.raises(UserError, match=r"no value satisfies the bound on params: min=5, max=1;"):
        Bound("params", max=1, min=5)
    with pytest.raises(UserError, match=r"no value satisfies|max=nan"):
        Bound("params", max=math.nan)
    assert Bound("params", max=5, min=5).violation(5) == 0


def test_bounds_print_as_inequalities() -> None:
    assert str(Bound("params", max=1e6)) == "params <= 1e+06"
    assert str(Bound("acc", min=50)) == "50 <= acc"
    assert str(Bound("macs", min=1, max=2)) == "1 <= macs <= 2"


def test_violations_covers_what_is_known_so_far() -> None:
    bounds = (Bound("params", max=10), Bound("macs", max=10), Bound("latency_ms", max=1))
    found = violations(bounds, {"params": 5.0, "macs": 20.0, "other": 1.0})
    assert found == {"params <= 10": pytest.approx(-0.5), "macs <= 10": pytest.approx(1.0)}
    assert violations((), {"params": 5.0}) == {}


def test_metrics_have_names_units_and_directions() -> None:
    metrics = [m for m in vars(known).values() if isinstance(m, known.Metric)]
    assert len(metrics) >= 9
    assert len({m.name for m in metrics}) == len(metrics)
    for metric in metrics:
        assert metric.name.isidentifier()
        assert metric.unit
        assert metric.doc
        assert metric.direction in ("max", "min")
