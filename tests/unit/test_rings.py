"""No files of the package import each other in a ring, deferred and typing imports included."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def imports(root: Path, package: str) -> dict[str, set[str]]:
    """Return module -> the modules of the same package that it names in an import."""
    files = {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
        for path in (root / package).rglob("*.py")
    }
    found: dict[str, set[str]] = {name: set() for name in files}
    for name, path in files.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                named = {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                inside = {f"{node.module}.{alias.name}" for alias in node.names}
                named = {full if full in files else node.module for full in inside}
            else:
                continue
            found[name] |= (named & files.keys()) - {name}
    return found


def test_no_ring_of_files() -> None:
    graph = imports(ROOT, "raynas")
    assert len(graph) > 250
    TopologicalSorter(graph).prepare()  # CycleError names the ring


def test_a_ring_is_seen(tmp_path: Path) -> None:
    package = tmp_path / "toy"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "one.py").write_text("from toy import two\n")
    (package / "two.py").write_text("def late():\n    from toy.one import x\n")
    with pytest.raises(CycleError, match="nodes are in a cycle"):
        TopologicalSorter(imports(tmp_path, "toy")).prepare()
