"""What fields may hold, by what their classes declare."""

from __future__ import annotations

import dataclasses
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raynas.core.fields import MISFIT, brief, check_fields, declared_types, fit

MODULE = """
from __future__ import annotations
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import decimal
    import fractions as parts
    from pathlib import Path
    from raynas.core import Bound as Limit
    from nowhere_at_all import Missing


@dataclass
class Part:
    place: Path | None = None
    limits: tuple[Limit, ...] = ()
    exact: decimal.Decimal | None = None
    share: parts.Fraction | None = None
    missing: Missing | None = None
    _inner: Missing | None = field(default=None, init=False)
"""


def test_names_that_are_imported_for_type_checkers_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a_users_part.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    import a_users_part  # type: ignore[import-not-found]

    try:
        kinds = declared_types(a_users_part.Part)
    finally:
        del sys.modules["a_users_part"]
    from decimal import Decimal
    from fractions import Fraction

    from raynas.core import Bound

    assert kinds["place"] == Path | None
    assert kinds["limits"] == tuple[Bound, ...]
    assert kinds["exact"] == Decimal | None
    assert kinds["share"] == Fraction | None
    assert kinds["missing"] is object
    assert "_inner" not in kinds


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (np.int64(3), int, 3), (3.0, int, 3), (3, float, 3.0), (np.float32(0.5), float, 0.5),
        ([1, 2.0], tuple[int, ...], (1, 2)), ("a", Path, Path("a")), ((1,), list[int], [1]),
        (2**63, int, MISFIT), (10**400, float, MISFIT), (math.nan, float, MISFIT),
        (True, int, MISFIT), (True, float, MISFIT), ("a\0b", Path, MISFIT),
        ((1, "a"), list[int], MISFIT),
    ],
)  # fmt: skip
def test_values_as_a_field_holds_them(value: object, kind: Any, expected: object) -> None:
    found = fit(value, kind)
    assert found == expected
    assert type(found) is type(expected)


@dataclasses.dataclass(frozen=True)
class Numbers:
    real: float = 1.0
    whole: int = 1
    stages: tuple[tuple[float, ...], ...] = ()


def test_whole_numbers_in_a_field_of_floats_stay_as_former_fingerprints_saw_them() -> None:
    part = Numbers(real=2, whole=3.0, stages=[[1, 2.5]])  # type: ignore[arg-type]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("raynas.core.fields.is_users", lambda _: False)
        check_fields(part)
    assert (type(part.real), type(part.whole)) == (int, int)
    assert part.stages == ((1, 2.5),)
    assert type(part.stages[0][0]) is int


def test_long_and_broken_values_are_shown_in_short() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError

    assert brief(10**9000) == "<int: ValueError>"
    assert brief(Broken()) == "<Broken: RuntimeError>"
    assert len(brief("x" * 9999)) < 160
    assert brief((1, "a")) == "(1, 'a')"
