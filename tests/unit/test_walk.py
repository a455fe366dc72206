"""``docs/walk.md`` names files and functions that exist, in the order of a trial's walk."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from integration.toy_runs import Table, search
from toys import Curves

from raynas.runners.local import LocalRunner
from raynas.samplers import RegularizedEvolution
from raynas.schedulers import NoStopping

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "walk.md").read_text(encoding="utf-8")
STEPS = TEXT.partition("\n1. ")[2].partition("\n## ")[0]
#: what a search with a toy evaluator and rows in memory does not pass
ELSEWHERE = {"TrainingEvaluator.evaluate", "Writer.append"}


def files(text: str) -> list[Path]:
    return [ROOT / name for name in dict.fromkeys(re.findall(r"`(raynas/[\w/]+\.py)`", text))]


def functions(text: str) -> list[str]:
    """The functions that the text names, as ``Class.method`` or ``function``."""
    named = re.findall(r"`([A-Z]\w+\.\w+)`|\.py`,\s+`([a-z]\w+)`", text)
    return [method or function for method, function in named]


def defined(file: Path) -> set[str]:
    """The functions of a module, and the methods that the body of each class defines itself."""
    found: set[str] = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{m.name}" for m in node.body if isinstance(m, ast.FunctionDef)}
    return found


def test_every_file_and_function_is_there() -> None:
    named, there = files(TEXT), set[str]()
    assert [file for file in named if not file.is_file()] == []
    for file in named:
        there |= defined(file)
    assert len(functions(STEPS)) > 15
    assert [name for name in functions(TEXT) if name not in there] == []


def test_the_walk_passes_at_most_twelve_files() -> None:
    assert 10 <= len(files(STEPS)) <= 12


def test_no_class_of_the_walk_takes_a_method_from_a_base_of_the_walk() -> None:
    names = {name.partition(".")[0] for name in functions(STEPS) if "." in name}
    for file in files(STEPS):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and node.name in names:
                assert names.isdisjoint(ast.unparse(base) for base in node.bases)


def test_a_trial_passes_the_functions_in_this_order() -> None:
    work = search(
        RegularizedEvolution(population=2, sample=1),
        Curves(max_step=2),
        Table(),
        scheduler=NoStopping(),
        trials=1,
    )
    called: dict[str, None] = {}

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and "/raynas/" in frame.f_code.co_filename:
            called.setdefault(frame.f_code.co_qualname)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        LocalRunner().run(work)
    finally:
        sys.setprofile(before)
    told = [name for name in dict.fromkeys(functions(STEPS)) if name not in ELSEWHERE]
    assert [name for name in called if name in told] == told
