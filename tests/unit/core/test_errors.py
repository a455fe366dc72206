"""Messages: one line with problem, allowed set and hint."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raynas.core import RaynasError, SpaceExhausted, TrainingDiverged, UserError, unknown_option


def test_the_parts_make_one_line() -> None:
    error = UserError("no file\n  'x.gz'.", expected="a .gz file", hint="download it first.")
    assert str(error) == "no file 'x.gz'; expected: a .gz file; download it first"


def test_empty_parts_are_left_out() -> None:
    assert str(UserError("too few trials")) == "too few trials"
    assert str(UserError("too few trials", hint="give more")) == "too few trials; give more"


@given(st.text(), st.text(), st.text())
def test_the_message_is_always_one_line(problem: str, allowed: str, hint: str) -> None:
    assert len(str(UserError(problem, expected=allowed, hint=hint)).splitlines()) <= 1


def test_errors_travel_between_processes() -> None:
    error = unknown_option("space", "nasbench", ["nasbench201", "elastic"])
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is UserError
    assert str(back) == str(error)


@pytest.mark.parametrize("kind", [UserError, SpaceExhausted, TrainingDiverged])
def test_everything_raised_on_purpose_has_one_base(kind: type[RaynasError]) -> None:
    assert issubclass(kind, RaynasError)


def test_one_of_names_the_value_and_the_set_and_the_nearest() -> None:
    assert str(
        unknown_option("sampler", "rndom", ["random", "tpe"], hint="See `raynas list`.")
    ) == (
        "unknown sampler 'rndom'; expected: random, tpe; did you mean 'random'? See `raynas list`"
    )


def test_one_of_suggests_nothing_where_nothing_is_near() -> None:
    assert str(unknown_option("sampler", "xyz", ["random", "tpe"])) == (
        "unknown sampler 'xyz'; expected: random, tpe"
    )


def test_one_of_takes_any_values_and_shortens_long_sets() -> None:
    message = str(unknown_option("width", 7, range(8, 108)))
    assert message.startswith("unknown width '7'; expected: 8, 9,")
    assert "31, ... (100 in all)" in message
    assert "32," not in message


def test_a_value_with_line_breaks_stays_on_the_line() -> None:
    assert "\n" not in str(unknown_option("name", "a\nb", ["c"]))
