"""Architecture and Choice: values that may be keys, compared and stored."""

import pickle
from collections.abc import Mapping
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raynas.core import Architecture, Choice, Option

options = st.one_of(st.integers(), st.booleans(), st.text(max_size=5), st.floats(allow_nan=False))
values = st.dictionaries(st.text(min_size=1, max_size=5), options, max_size=5)


def arch(space: str = "toy", text: str = "t", **pairs: str | int | float | bool) -> Architecture:
    return Architecture(space, tuple(pairs.items()), text)


def test_the_id_is_stable_across_versions_and_machines() -> None:
    # changing this breaks every stored run: a new schema version would be needed
    assert arch(width=16, op="conv").id == "990638ee2df0"


def test_the_text_is_not_compared() -> None:
    one, other = arch(text="a", width=16), arch(text="b", width=16)
    assert one == other
    assert hash(one) == hash(other)
    assert one.id == other.id
    assert {one: 1}[other] == 1


@pytest.mark.parametrize(
    "other",
    [arch(width=8), arch(depth=16), arch(space="else", width=16), arch(width=16, depth=1)],
)
def test_other_values_choices_and_spaces_are_other_architectures(other: Architecture) -> None:
    assert arch(width=16) != other
    assert arch(width=16).id != other.id


def test_a_number_and_its_text_have_different_ids() -> None:
    assert arch(width=1).id != arch(width="1").id


@given(values)
def test_it_is_a_mapping_in_the_order_of_the_choices(
    pairs: dict[str, str | int | float | bool],
) -> None:
    one = Architecture("toy", tuple(pairs.items()), "text")
    assert isinstance(one, Mapping)
    assert list(one) == list(pairs)
    assert list(one.items()) == list(pairs.items())
    assert one.options == tuple(pairs.values())
    assert len(one) == len(pairs)
    assert dict(one) == pairs
    assert {**one} == pairs


@given(values)
def test_it_survives_pickling(pairs: dict[str, str | int | float | bool]) -> None:
    one = Architecture("toy", tuple(pairs.items()), "text")
    back = pickle.loads(pickle.dumps(one))
    assert (back, back.id, back.text) == (one, one.id, one.text)


@given(values, values)
def test_equal_ids_mean_equal_values(
    left: dict[str, str | int | float | bool], right: dict[str, str | int | float | bool]
) -> None:
    a, b = (Architecture("toy", tuple(p.items()), "") for p in (left, right))
    assert (a.id == b.id) == (repr(a.pairs) == repr(b.pairs))


def test_missing_choices_raise_like_a_mapping() -> None:
    one = arch(width=16)
    with pytest.raises(KeyError, match="depth"):
        one["depth"]
    assert one.get("depth") is None
    assert "width" in one
    assert "depth" not in one


def test_it_is_frozen_and_prints_its_text() -> None:
    one = arch(text="|conv~0|", width=16)
    assert str(one) == "|conv~0|"
    with pytest.raises(FrozenInstanceError):
        one.text = "other"  # type: ignore[misc]


def test_a_choice_needs_different_options() -> None:
    assert len(Choice("width", (8, 16, 32))) == 3
    with pytest.raises(ValueError, match="'width' has no options"):
        Choice("width", ())
    with pytest.raises(ValueError, match="'width' repeats an option"):
        Choice("width", (8, 16, 8))
    with pytest.raises(ValueError, match="repeats"):
        Choice("width", (1, 1.0))  # equal values could not be told apart


def test_equal_ones_have_one_id_and_others_another() -> None:
    """1, 1.0 and True are equal, and spelled unlike in the id."""
    found = [Architecture("s", (("x", value),), "x") for value in (1, 1.0, True, 1)]
    for one in found:
        for other in found:
            assert (one == other) == (one.id == other.id)
    assert len(set(found)) == 3
    assert found[0] == Architecture("s", (("x", 1),), "another text")
    assert found[0] != Architecture("t", (("x", 1),), "x")
    assert found[0] != {"x": 1}


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ((32, 16, 8), (8, 16, 32)),
        ((16, 32, 8), (8, 16, 32)),
        ((1.5, 1, 0.5), (0.5, 1, 1.5)),
        ((8, 16), (8, 16)),
        (("small", "large"), ("small", "large")),
        ((2, "many", 1), (2, "many", 1)),
    ],
)
def test_ordered_numbers_ascend_in_whatever_order_they_are_given(
    written: tuple[Option, ...], kept: tuple[Option, ...]
) -> None:
    assert Choice("width", written, ordered=True).options == kept
    assert [type(o) for o in Choice("width", written, ordered=True).options] == list(
        map(type, kept)
    )
    assert Choice("width", written).options == written
