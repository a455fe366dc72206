"""Abstract or final: no class of raynas replaces an implemented method, but for a named few."""

import ast
from collections.abc import Iterator
from pathlib import Path

import raynas

#: method -> why a class replaces it
KNOWN = {
    "ElasticResNet.build": "a space defines build or supernet; build follows from the other one",
    "NASBench201.build": "a space defines build or supernet; build follows from the other one",
    "ZenNAS.build": "a space defines build or supernet; build follows from the other one",
    "Layers.build": "a toy of raynas.testing: built from layers, and it has a supernet",
    "ChoicesOnly.build": "a toy of raynas.testing: it fails where a sampler builds a network",
    "ChoicesOnly.canonical": "a toy of raynas.testing: it keeps this hook of raynas 0.1 tested",
    "ToySpace.build": "a toy of raynas.testing: a network of one layer",
    "ToySpace.canonical": "a toy of raynas.testing: it keeps this hook of raynas 0.1 tested",
    "ToySpace.costs": "a toy of raynas.testing: it keeps this hook of raynas 0.1 tested",
    "AnsweringSearch.step": "a toy of raynas.testing: it also answers known architectures",
    "RepeatingSamplerTestCase.repeats": "a suite of raynas.testing: its fixture for such samplers",
    "Quick.evaluate": "a toy of raynas.testing: it adds the death of a process to the curves",
}


def overrides(sources: list[str]) -> set[str]:
    """The methods that replace an implemented one of a base class, however far above."""
    classes: dict[str, list[ast.ClassDef]] = {}
    for source in sources:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ClassDef):
                classes.setdefault(node.name, []).append(node)

    def above(node: ast.ClassDef, seen: frozenset[str] = frozenset()) -> Iterator[ast.ClassDef]:
        for base in node.bases:
            inner = base.value if isinstance(base, ast.Subscript) else base
            name = getattr(inner, "id", getattr(inner, "attr", ""))
            for found in classes.get(name, []) if name not in seen else []:
                yield found
                yield from above(found, seen | {name})

    return {
        f"{name}.{method}"
        for name, nodes in classes.items()
        for node in nodes
        for base in above(node)
        for method in methods(node).keys() & methods(base).keys()
        if implemented(methods(base)[method]) and not method.startswith("__")
    }


def methods(node: ast.ClassDef) -> dict[str, ast.FunctionDef]:
    return {part.name: part for part in node.body if isinstance(part, ast.FunctionDef)}


def implemented(method: ast.FunctionDef) -> bool:
    """It does more than to refuse, and is not abstract."""
    if any("abstract" in ast.dump(mark) for mark in method.decorator_list):
        return False
    body = method.body[1:] if ast.get_docstring(method) else method.body
    return bool(body) and not isinstance(body[0], ast.Raise | ast.Pass)


def test_no_class_replaces_an_implemented_method() -> None:
    home = Path(raynas.__file__).parent
    found = overrides([path.read_text() for path in home.rglob("*.py")])
    assert found == KNOWN.keys(), "see 'Abstract or final' in CONTRIBUTING.md"
    assert len(found) <= 15


def test_the_architecture_page_names_them_with_their_reasons() -> None:
    page = Path(__file__).parents[2] / "docs" / "architecture.md"
    text = " ".join(page.read_text(encoding="utf-8").split())
    assert [name for name, reason in KNOWN.items() if f"| `{name}` | {reason} |" not in text] == []


def test_replaced_methods_are_found_through_classes_between() -> None:
    source = """
class Base:
    def given(self): return 1
    def refused(self): raise NotImplementedError
    @abstractmethod
    def wanted(self): return 1
class Between(Base): ...
class Leaf(Between):
    def given(self): return 2
    def refused(self): return 2
    def wanted(self): return 2
"""
    assert overrides([source]) == {"Leaf.given"}
