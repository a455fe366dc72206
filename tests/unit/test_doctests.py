"""The examples in docstrings show what they claim: one test for each module that has examples."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import raynas

ROOT = Path(raynas.__file__).parent
MODULES = [
    ".".join(("raynas", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
    for path in sorted(ROOT.rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


def test_there_are_examples() -> None:
    assert "raynas.core.architecture" in MODULES


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    found = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.attempted
    assert not found.failed
