"""Descriptions and fingerprints."""

import datetime
import fractions
import functools
import importlib.util
import json
import os
import subprocess
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raynas.core import Bound, TrialState
from raynas.core.describe import as_declared, describe, fingerprint, former_description


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
        (Bound("a", 9.5, 1), {"class": "Bound", "metric": "a", "max": 9.5, "min": 1.0}),
        ((TrialState.FAILED, [TrialState.RUNNING]), ["FAILED", ["RUNNING"]]),
        ({1: (1, 2.5), "b": [True, None]}, {"1": [1, 2.5], "b": [True, None]}),
        ({1: 2, "1": 3}, {"items": [[1, 2], ["1", 3]]}),
        (np.float64(1.5), 1.5),
        (np.int64(3), 3),
        (range(3), [0, 1, 2]),
        (frozenset({"b", "a"}), ["a", "b"]),
        (Path("a") / "b", "a/b"),
        (json.dumps, "json.dumps"),
        (len, "len"),
        (np.tanh, "numpy.tanh"),
        (Bound, "Bound"),
        (fractions.Fraction, "fractions.Fraction"),
        (functools.partial(json.dumps, 3), {"partial": ["json.dumps", 3], "keywords": {}}),
    ],
    ids=lambda p: type(p).__name__,
)
def test_descriptions(part: object, expected: object) -> None:
    assert describe(part) == expected


def test_without_code_classes_and_functions_are_known_by_name() -> None:
    part = Part(inner=(Part(3), TrialState.FAILED))
    inner = [{"class": "Part", "width": 3, "inner": None}, "FAILED"]
    assert describe(part, code=False) == {"class": "Part", "width": 8, "inner": inner}
    assert describe(Plain(), code=False) == {"class": "Plain"}
    assert describe([double, Plain], code=False) == ["double", "Plain"]
    assert former_description(part) == describe(part, code=False)


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
    assert fingerprint(describe({"b": 1, "a": Bound("params", max=10.0)})) == "759b7ceaacc3"
    assert fingerprint(former_description({"b": 1, "a": Bound("params", max=10)})) == "38ab8b482ff2"
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


# -- code and state: what differs has another fingerprint ------------------------------------------


def of(part: object) -> str:
    return fingerprint(describe(part))


def scaled(factor: float) -> Callable[[float], float]:
    def scale(x: float) -> float:
        return factor * x

    return scale


def class_of(body: str) -> type:
    """A class ``Same`` whose method ``act`` has this body; its source is nowhere."""
    space: dict[str, Any] = {"__name__": "somewhere"}
    exec(f"class Same:\n    def act(self, x=1):\n        return {body}\n", space)
    made: type = space["Same"]
    return made


def module(folder: Path, text: str, name: str = "users_module") -> types.ModuleType:
    folder.mkdir(exist_ok=True)
    file = folder / f"{name}.py"
    file.write_text(text)
    spec = importlib.util.spec_from_file_location(f"{name}_{folder.name}", file)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = made
    spec.loader.exec_module(made)
    return made


def default(x: float = 1.0) -> float:
    return x


def other_default(x: float = 2.0) -> float:
    return x


other_default.__qualname__ = "default"


def tensor(values: Sequence[float], dtype: str = "float32") -> Any:
    import torch

    return torch.tensor(values, dtype=getattr(torch, dtype))


def network(*layers: str, seed: int = 0) -> Any:
    import torch

    torch.manual_seed(seed)
    return torch.nn.Sequential(*(eval(layer, vars(torch.nn)) for layer in layers))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda: lambda x: x, lambda: lambda x: -x),
        (lambda: lambda x: x + 1, lambda: lambda x: x + 1.0),
        (lambda: scaled(2), lambda: scaled(3)),
        (lambda: scaled(1), lambda: scaled(True)),
        (lambda: scaled, lambda: double),
        (lambda: default, lambda: other_default),
        (lambda: functools.partial(scaled(2), 1), lambda: functools.partial(scaled(3), 1)),
        (lambda: class_of("x"), lambda: class_of("x + 1")),
        (lambda: class_of("x")(), lambda: class_of("-x")()),
        (lambda: class_of("x")().act, lambda: class_of("-x")().act),
        (lambda: np.sin, lambda: np.cos),
        (lambda: b"a", lambda: b"b"),
        (lambda: datetime.timedelta(1), lambda: datetime.timedelta(2)),
        (lambda: fractions.Fraction(1, 2), lambda: fractions.Fraction(1, 3)),
        (lambda: types.SimpleNamespace(a=1), lambda: types.SimpleNamespace(a=2)),
        (lambda: tensor([1, 2]), lambda: tensor([1, 3])),
        (lambda: tensor([1, 2]), lambda: tensor([1, 2], "float64")),
        (lambda: tensor([1, 2], "bfloat16"), lambda: tensor([1, 2], "float16")),
        (lambda: tensor([1, 2]), lambda: tensor([1, 2]).reshape(1, 2)),
        (lambda: network("Linear(2, 2)"), lambda: network("Linear(2, 2)", seed=1)),
        (lambda: network("ReLU()"), lambda: network("GELU()")),
        (lambda: network("Dropout(0.1)"), lambda: network("Dropout(0.2)")),
        (lambda: network("Conv2d(2, 2, 1)"), lambda: network("Conv2d(2, 2, 1, stride=2)")),
        (lambda: network("BatchNorm1d(2)"), lambda: network("BatchNorm1d(2)").eval()),
        (lambda: np.array(["a", None], object), lambda: np.array(["b", None], object)),
    ],
)
def test_what_does_something_else_has_another_fingerprint(
    one: Callable[[], object], other: Callable[[], object]
) -> None:
    first, second = one(), other()
    assert of(first) != of(second)
    assert of(first) == of(one())
    assert of(second) == of(other())
    assert of(Part(inner=first)) != of(Part(inner=second))


def test_lambdas_of_one_line_are_told_apart() -> None:
    found = [lambda x: x, lambda x: x * 2, lambda x, y=1: (x, y), lambda x, y=2: (x, y)]
    assert len({of(one) for one in found}) == 4
    nested = [lambda x: lambda: x, lambda x: lambda: -x]
    assert of(nested[0]) != of(nested[1])
    twice = [lambda x: x * 2, lambda x: x * 2]
    assert of(twice[0]) == of(twice[1])


USERS = """
from dataclasses import dataclass

SCALE = {scale}
FOLDER = {folder!r}


def inner(x):
    {comment}
    return x * SCALE


def score(arch):
    {doc}
    return inner(arch) + len(FOLDER)


def even(n):
    return n == 0 or odd(n - 1)


def odd(n):
    return n != 0 and even(n - 1)


@dataclass(frozen=True)
class Space:
    width: int = {width}
    name = "users"

    @property
    def choices(self):
        return tuple(range(self.width))

    def build(self, arch: {hint}):
        return score(arch) + {plus}
"""
USUAL = {
    "scale": 2, "folder": "/a/b", "comment": "# one", "doc": "'Words.'", "width": 3,
    "hint": "int", "plus": 1,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"comment": "# another\n    # and a line"}, True),
        ({"doc": "'Other words.'"}, True),
        ({"doc": "arch += 1"}, False),
        ({"folder": "/elsewhere"}, True),  # a path, which differs between machines
        ({"hint": "float"}, True),
        ({"width": 4}, True),  # a default: what an object has stands in its fields
        ({"scale": 3}, False),
        ({"scale": 2.0}, False),
        ({"plus": 2}, False),
    ],
)
def test_edits_of_a_users_file(tmp_path: Path, change: Mapping[str, Any], same: bool) -> None:
    before = module(tmp_path / "a", USERS.format(**USUAL))
    after = module(tmp_path / "b", USERS.format(**{**USUAL, **change}))
    assert (of(before.Space(3)) == of(after.Space(3))) == same
    assert of(before.Space(3)) != of(before.Space(4))
    assert (of(before.score) == of(after.score)) == (same or "plus" in change)


def test_functions_that_call_each_other_are_described(tmp_path: Path) -> None:
    users = module(tmp_path / "a", USERS.format(**USUAL))
    assert of(users.even) != of(users.odd)
    assert of(users.even) == of(module(tmp_path / "b", USERS.format(**USUAL)).even)


def test_a_file_that_was_changed_since_it_was_imported_does_not_speak_for_its_code(
    tmp_path: Path,
) -> None:
    users = module(tmp_path / "a", USERS.format(**USUAL))
    (tmp_path / "a" / "users_module.py").write_text(USERS.format(**{**USUAL, "plus": 2}))
    edited = module(tmp_path / "b", USERS.format(**{**USUAL, "plus": 2}))
    assert of(users.Space(3)) != of(edited.Space(3))


def test_rings_of_objects_end() -> None:
    rings = [types.SimpleNamespace(value=value) for value in (1, 2)]
    for ring in rings:
        ring.itself = [ring]
    assert of(rings[0]) != of(rings[1])


def test_code_is_the_same_in_every_process_whatever_the_hash_seed(tmp_path: Path) -> None:
    text = USERS.format(**USUAL) + "\nCHOSEN = lambda x: x in {'a', 'b', 'c', 'd'}\n"
    (tmp_path / "users_module.py").write_text(text)
    program = (
        "import users_module as u; from raynas.core.describe import describe, fingerprint;"
        'exec(\'def f(x): return x in {1, "b", None, "d"}\');'
        "print(fingerprint(describe([u.Space(2), u.score, u.CHOSEN, f, u.Space])))"
    )
    found = set()
    for seed in ("1", "2"):
        paths = os.pathsep.join([str(tmp_path), *sys.path])
        told = subprocess.run(
            [sys.executable, "-c", program], check=True, capture_output=True, text=True,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": paths},
        )  # fmt: skip
        found.add(told.stdout)
    assert len(found) == 1


# -- numbers as their fields hold them -------------------------------------------------------------


@dataclass(frozen=True)
class Numbers:
    rate: float = 1.0
    limit: float | None = None
    either: int | float = 1
    share: "float | str" = 1.0
    count: int = 1
    pair: tuple[float, int] = (1.0, 1)
    many: tuple[tuple[float, ...], ...] = ((1.0,),)
    by_name: Mapping[str, float] = field(default_factory=dict)
    listed: Sequence[float] = ()
    flag: bool | float = True
    known_to_checkers: "NotThere" = 1  # type: ignore[name-defined] # noqa: F821


def test_a_whole_number_in_a_field_of_floats_is_the_float() -> None:
    whole = Numbers(1, 1, 1, 1, 1, (1, 1), ((1, 2), (3,)), {"a": 1}, [1])
    real = Numbers(1.0, 1.0, 1, 1.0, 1, (1.0, 1), ((1.0, 2.0), (3.0,)), {"a": 1.0}, [1.0])
    assert json.dumps(describe(whole)) == json.dumps(describe(real))
    assert describe(Numbers(count=1.0)) == describe(Numbers(count=1))  # type: ignore[arg-type]


def test_other_numbers_stay_as_they_are() -> None:
    for one, other in [
        (Numbers(either=1), Numbers(either=1.0)),
        (Numbers(flag=True), Numbers(flag=1.0)),
        (Numbers(rate=True), Numbers(rate=1.0)),
        (Numbers(known_to_checkers=1), Numbers(known_to_checkers=1.0)),
        (Numbers(count=1.5), Numbers(count=1)),  # type: ignore[arg-type]
    ]:
        assert of(one) != of(other)
    assert as_declared((1, 2), tuple[float]) == (1, 2)
    assert as_declared("1", float) == "1"
