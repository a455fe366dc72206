"""Keys that tell apart what ``==`` does not."""

from __future__ import annotations

import enum
import functools
import threading
from collections import OrderedDict, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raynas.core.exact import NoExactKeyError, exact_key, remember


@dataclass(frozen=True)
class Part:
    value: object = 1
    path: str = field(default="", compare=False)


class Plain:
    def __init__(self, **values: object) -> None:
        vars(self).update(values)

    def method(self) -> None: ...


class Slots:
    __slots__ = ("__hidden", "shown")

    def __init__(self, hidden: object, shown: object) -> None:
        self.__hidden, self.shown = hidden, shown


class Named(dict):
    name = "a"


class Whole(int):
    unit = ""


class Colour(enum.Enum):
    RED = 1
    ONE = 2


def named(name: str) -> Named:
    made = Named(x=1)
    made.name = name
    return made


def whole(unit: str) -> Whole:
    made = Whole(3)
    made.unit = unit
    return made


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (1, True),
        (0.0, -0.0),
        ((1, 2), (1.0, 2)),
        ((1, 2), [1, 2]),
        (Part(1), Part(1.0)),
        (Part((1, (True,))), Part((1, (1,)))),
        (Part(1, "a"), Part(1, "b")),
        ({"a": 1}, {"a": True}),
        ({"a": 1}, OrderedDict(a=1)),
        (frozenset({1}), frozenset({1.0})),
        (np.float32(1), np.float64(1)),
        (np.arange(4), np.arange(4.0)),
        (np.arange(4).reshape(2, 2), np.arange(4)),
        (Plain(a=1), Plain(a=1.0)),
        (Plain(_a=1), Plain(_a=2)),
        (Plain(a=1).method, Plain(a=2).method),
        (Slots(1, 2), Slots(2, 2)),
        (named("a"), named("b")),
        (whole("m"), whole("km")),
        (functools.partial(int, base=2), functools.partial(int, base=8)),
        (Colour.RED, Colour.ONE),
        (lambda: 1, lambda: 2),
        (range(3), range(4)),
        (Path("a"), Path("b")),
        (Path("a"), "a"),
    ],
)
def test_what_differs_has_another_key(one: object, other: object) -> None:
    assert exact_key(one) != exact_key(other)
    for value in (one, other):
        assert exact_key(value) == exact_key(value)
        assert hash(exact_key(value)) == hash(exact_key(value))


def test_what_is_made_twice_has_one_key() -> None:
    def make() -> list[object]:
        plain = Plain(a=[1, 2.5], b={"c": np.ones(3)})
        return [Part(plain, "p"), Slots({"x"}, Path("a")), named("n"), whole("m"), float("nan")]

    assert exact_key(make()) == exact_key(make())


def test_a_path_that_worked_something_out_is_the_same() -> None:
    used = Path("a/b")
    assert hash(used)
    assert used.name == "b"
    assert exact_key(used) == exact_key(Path("a/b"))


def test_hidden_state_has_no_key() -> None:
    itself: list[object] = []
    itself.append(itself)
    hidden = (threading.Lock(), iter([1]), itself, np.array([object()]), defaultdict(int),
              Plain(lock=threading.Lock()))  # fmt: skip
    for value in hidden:
        with pytest.raises(NoExactKeyError):
            exact_key(value)


def test_what_is_special_is_asked_first_everywhere() -> None:
    def by_length(value: object) -> object:
        return len(value) if isinstance(value, list) else None

    assert exact_key(Part([1]), by_length) == exact_key(Part([2]), by_length)
    assert exact_key(Part([1]), by_length) != exact_key(Part([1, 1]), by_length)


values = st.recursive(
    st.none() | st.booleans() | st.integers(0, 1) | st.sampled_from([0.0, 1.0]),
    lambda inner: st.tuples(inner, inner) | st.lists(inner, max_size=2),
    max_leaves=5,
)


@given(values, values)
def test_keys_are_equal_where_repr_is(one: object, other: object) -> None:
    assert (exact_key(one) == exact_key(other)) == (repr(one) == repr(other))


def test_remember_takes_no_value_for_an_equal_one() -> None:
    calls = []

    @remember(maxsize=2)
    def shown(part: object) -> str:
        calls.append(part)
        return repr(part)

    assert [shown(Part(v)) for v in (1, 1.0, True, 1.0, True)] == [
        repr(Part(v)) for v in (1, 1.0, True, 1.0, True)
    ]
    assert len(calls) == 3
    shown(Part(1))  # the oldest was forgotten
    assert len(calls) == 4
    lock = threading.Lock()
    assert shown(lock) == shown(lock) == repr(lock)
    assert len(calls) == 6
