"""Options and names that would not be read back are found before the search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import ToySpace

from raynas.core import Architecture, Choice, Option, UserError
from raynas.spaces import SPACES
from raynas.spaces.base import SearchSpace
from raynas.spaces.roundtrip import check_round_trip


@dataclass(frozen=True)
class Of(ToySpace):
    """A space of any choices."""

    given: tuple[Any, ...] = ()

    @property
    def choices(self) -> tuple[Choice, ...]:
        return tuple(Choice(*choice) for choice in self.given)


def refused(*given: tuple[Any, Any]) -> str:
    with pytest.raises(UserError) as raised:
        check_round_trip(Of(given=given))
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("name", SPACES)
def test_the_spaces_of_the_package_pass(name: str) -> None:
    check_round_trip(SPACES[name]())


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("3,3", "'3,3' of choice 'k' would not be read back"),
        (" a", "' a' of choice 'k' would not be read back"),
        ("a\n", "would not be read back"),
        ((3, 3), "(3, 3) of choice 'k' would not be read back"),
        (print, "would not be read back"),
        ([3, 3], "choice 'k' has the option [3, 3]; expected"),
        (float("nan"), "choice 'k' has the option nan; expected"),
        (np.float64("nan"), "choice 'k' has the option nan; expected"),
        (np.zeros(3), "nothing that can be changed"),
    ],
)
def test_an_option_that_is_not_read_back_is_named(option: object, words: str) -> None:
    message = refused(("k", ("a", option)))
    assert words in message
    assert "look up what it stands for in build()" in message


@pytest.mark.parametrize("pair", [(None, "None"), (1, "1"), (True, "True"), (0.5, "0.5")])
def test_two_options_of_one_text_are_refused(pair: tuple[object, object]) -> None:
    message = refused(("op", pair))
    assert "two options of choice 'op' have one text" in message
    assert repr(pair[0]) in message
    assert repr(pair[1]) in message


@pytest.mark.parametrize("name", ["a,b", "a=b", " a", "a "])
def test_a_name_that_is_not_read_back_is_refused(name: str) -> None:
    assert f"the name of choice {name!r} has " in refused((name, (1, 2)))


@pytest.mark.parametrize("name", ["", 3, None])
def test_a_choice_has_a_name(name: object) -> None:
    assert "text that is not empty" in refused((name, (1, 2)))


def test_two_choices_of_one_name_and_no_choices_are_refused() -> None:
    assert "2 choices of space 'toy' have the name 'k'" in refused(("k", (1,)), ("k", (2,)))
    assert "space 'toy' has no choices" in refused()
    assert "choice 'k' has no options" in refused(("k", ()))
    assert "options='abc'" in refused(("k", "abc"))
    assert "repeats an option: 1.0" in refused(("k", (1, 1.0)))


def test_numbers_of_numpy_and_none_work() -> None:
    options = (np.int64(3), np.float32(0.1), np.bool_(False), np.str_("a"), None)
    space = Of(given=(("k", options), ("list", [1, 2]), ("range", np.arange(3))))
    check_round_trip(space)
    assert space.choices[0].options == (3, 0.1, False, "a", None)
    assert [type(o) for o in space.choices[0].options[:4]] == [int, float, bool, str]
    assert space.choices[2].options == (0, 1, 2)
    again = Of(given=(("k", (3, 0.1, False, "a", None)), ("list", (1, 2)), ("range", (0, 1, 2))))
    values = {"k": 0.1, "list": 1, "range": 2}
    assert space.architecture(values).id == again.architecture(values).id


@dataclass(frozen=True)
class Own(Of):
    """With a text form in which commas mean nothing."""

    wrong: bool = False

    def format(self, values: Mapping[str, Option]) -> str:
        return ";".join(map(str, values.values()))

    def parse(self, text: str) -> dict[str, Option]:
        parts = dict(zip((c.name for c in self.choices), text.split(";"), strict=True))
        found = {c.name: {str(o): o for o in c.options}[parts[c.name]] for c in self.choices}
        if self.wrong:
            found["k"] = self.choices[0].options[0]
        return found


def test_a_space_with_a_text_form_of_its_own_is_asked_itself() -> None:
    given = (("k", ((3, 3), (5, 5))), ("a,b", (1, 2, 3)))
    check_round_trip(Own(given=given))
    with pytest.raises(UserError, match=r"is read as another architecture: k=\(3, 3\), not \(5, 5"):
        check_round_trip(Own(given=given, wrong=True))


text = st.text(st.characters(codec="utf-8"), max_size=6)
option = st.one_of(text, st.integers(), st.floats(), st.booleans(), st.none())


@given(st.lists(st.tuples(text, st.lists(option, max_size=4)), max_size=4))
def test_what_passes_is_read_back_whatever_it_is(given: list[tuple[str, list[Any]]]) -> None:
    try:
        space: SearchSpace = Of(given=tuple((name, tuple(options)) for name, options in given))
        check_round_trip(space)
    except UserError:
        return
    found: Architecture
    for found in [space.sample(np.random.default_rng(seed)) for seed in range(8)]:
        again = space.architecture(found.text)
        assert again == found
        assert again.id == found.id
