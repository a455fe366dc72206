"""Descriptions and fingerprints."""

import functools
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raynas.core import Bound, TrialState
from raynas.core.describe import describe, fingerprint


@dataclass(frozen=True)
class Part:
    width: int = 8
    where: Path = field(default=Path("/data"), metadata={"fingerprint": False})
    inner: Any = None
    state: list[int] = field(default_factory=list, init=False)


class Plain:
    pass


def double(x: float) -> float:
    return 2 * x


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (Part(), {"class": "Part", "width": 8, "inner": None}),
        (
            Part(inner=(Part(3), TrialState.FAILED)),
            {
                "class": "Part",
                "width": 8,
                "inner": [{"class": "Part", "width": 3, "inner": None}, "FAILED"],
            },
        ),
        ({1: (1, 2.5), "b": [True, None]}, {"1": [1, 2.5], "b": [True, None]}),
        (np.float64(1.5), 1.5),
        (np.int64(3), 3),
        (range(3), [0, 1, 2]),
        (frozenset({"b", "a"}), ["a", "b"]),
        (Path("a") / "b", "a/b"),
        (double, "double"),
        (functools.partial(double, 3), {"partial": ["double", 3], "keywords": {}}),
        (Part, "Part"),
        (Plain(), {"class": "Plain"}),
    ],
    ids=lambda p: type(p).__name__,
)
def test_descriptions(part: object, expected: object) -> None:
    assert describe(part) == expected


def test_arrays_are_described_by_shape_type_and_content() -> None:
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    shown = describe(array)
    assert shown["array"] == [2, 3]
    assert shown["dtype"] == "uint8"
    assert describe(np.asfortranarray(array)) == shown  # how it lies in memory does not matter
    assert describe(array[:, ::-1]) != shown
    assert describe(array.astype(np.int64)) != shown
    assert describe(array.reshape(3, 2)) != shown


def test_fields_may_be_left_out_of_the_fingerprint() -> None:
    def of(part: object) -> str:
        return fingerprint(describe(part))

    assert of(Part(where=Path("/data"))) == of(Part(where=Path("/elsewhere")))
    assert of(Part(width=8)) != of(Part(width=9))
    assert of(Part(inner=Part())) != of(Part(inner=Part(9)))
    assert of(functools.partial(double, x=1)) != of(functools.partial(double, x=2))


def test_state_is_not_described() -> None:
    used = Part()
    used.state.append(1)
    assert describe(used) == describe(Part())


def test_fingerprints_are_the_same_in_every_process() -> None:
    assert fingerprint(describe({"b": 1, "a": Bound("params", max=10)})) == "38ab8b482ff2"
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})


nested = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=4)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.text(max_size=3), inner, max_size=3),
        st.builds(lambda i: replace(Part(), inner=i), inner),
        st.frozensets(st.integers(), max_size=3),
    ),
    max_leaves=8,
)


@given(nested)
def test_any_description_is_json_and_describes_itself(part: Any) -> None:
    shown = describe(part)
    assert json.loads(json.dumps(shown)) == shown
    assert describe(shown) == shown
    assert len(fingerprint(shown)) == 12
