"""Modules that have moved are found by their old names."""

from __future__ import annotations

import importlib
import sys

import pytest

from raynas.moved import MOVED


@pytest.mark.parametrize("old", sorted(MOVED))
def test_an_old_name_gives_the_new_module(old: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, f"raynas.{old}", raising=False)
    new = importlib.import_module(f"raynas.{MOVED[old]}")
    names = [name for name in vars(new) if not name.startswith("_")]
    with pytest.warns(FutureWarning, match=rf"raynas\.{old} is now raynas\.{MOVED[old]}"):
        found = importlib.import_module(f"raynas.{old}")
    assert all(getattr(found, name) is getattr(new, name) for name in names)


def test_other_names_are_still_unknown() -> None:
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("raynas.nothing_of_the_kind")
