"""The picture of the house: packages on their floors and who imports whom, read from the code.

    python docs/tools/draw_house.py house.svg

Floors are the layers of the import linter in pyproject.toml, packages and imports are read from the
source. The documentation draws the picture anew at each build.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENGINES = ("ray", "optuna", "torch", "pyarrow")
NOT_SHOWN = ("moved", "version")  # old names of modules, for one release; a number

WIDTH, LEFT, GAP, BOX_HEIGHT, FLOOR_HEIGHT = 1000, 20, 14, 58, 96


@dataclass(frozen=True)
class Package:
    """A package or module directly below raynas.

    Attributes:
        name: Its name.
        doc: The first line of its docstring.
        files: The number of its modules.
        lines: The number of their lines.
        imports: The other packages that it imports, deferred imports included.
        engines: Which of Ray, Optuna, torch and pyarrow it imports.
    """

    name: str
    doc: str
    files: int
    lines: int
    imports: frozenset[str]
    engines: tuple[str, ...]


def floors(root: Path = ROOT) -> list[list[str]]:
    """Return the names of the packages, the highest floor first.

    Args:
        root: The folder of pyproject.toml.
    """
    project = tomllib.loads((root / "pyproject.toml").read_text())
    contracts = project["tool"]["importlinter"]["contracts"]
    (layers,) = [c["layers"] for c in contracts if c["type"] == "layers"]
    names = [[name.strip() for name in layer.split("|")] for layer in layers]
    return [kept for floor in names if (kept := [n for n in floor if n not in NOT_SHOWN])]


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            if node.module == "raynas":
                yield from (f"raynas.{alias.name}" for alias in node.names)


def package(name: str, root: Path = ROOT) -> Package:
    """Read one package.

    Args:
        name: Its name below raynas.
        root: The folder that has ``raynas/``.
    """
    home = root / "raynas" / name
    files = sorted(home.rglob("*.py")) if home.is_dir() else [home.with_suffix(".py")]
    texts = {file: file.read_text(encoding="utf-8") for file in files}
    trees = {file: ast.parse(text) for file, text in texts.items()}
    first = ast.get_docstring(trees[files[0]]) or ""
    names = {n for tree in trees.values() for n in _imported(tree)}
    parts = {n.split(".")[1] for n in names if n.startswith("raynas.")}
    tops = {n.split(".")[0] for n in names}
    return Package(
        name=name,
        doc=first.partition("\n")[0],
        files=len(files),
        lines=sum(text.count("\n") for text in texts.values()),
        imports=frozenset(parts - {name}),
        engines=tuple(e for e in ENGINES if e in tops),
    )


def house(root: Path = ROOT) -> list[list[Package]]:
    """Return the packages of all floors, the highest first.

    Args:
        root: The folder of the repository.
    """
    return [[package(name, root) for name in floor] for floor in floors(root)]


def draw(rows: list[list[Package]]) -> str:
    """Return the picture as SVG.

    Args:
        rows: The packages of each floor, the highest first.
    """
    places: dict[str, tuple[float, float, float]] = {}  # name -> left, top, width
    for level, row in enumerate(rows):
        width = min(230.0, (WIDTH - 2 * LEFT - GAP * (len(row) - 1)) / len(row))
        start = (WIDTH - len(row) * width - GAP * (len(row) - 1)) / 2
        for place, part in enumerate(row):
            places[part.name] = (start + place * (width + GAP), 24 + level * FLOOR_HEIGHT, width)
    parts = [part for row in rows for part in row]
    height = 24 + len(rows) * FLOOR_HEIGHT
    title = "The packages of raynas on their floors; imports go down only"
    out = [
        f'<svg class="house" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'role="img" aria-label="{title}">',
        f"<title>{title}</title>",
        "<style>",
        ".house text{font:600 15px sans-serif;fill:currentColor}",
        ".house .small{font:11px sans-serif;opacity:.75}",
        ".house rect{fill:var(--md-default-bg-color,#fff);stroke:currentColor;stroke-width:1.2}",
        ".house path{fill:none;stroke:#4051b5;stroke-width:1.2;opacity:.16}",
        *(f".house:has(#part-{p.name}:hover) .of-{p.name}{{opacity:1}}" for p in parts),
        "</style>",
    ]
    for part in parts:
        x, y, w = places[part.name]
        for other in sorted(part.imports & set(places)):
            ox, oy, ow = places[other]
            start, end = (x + w / 2, y + BOX_HEIGHT), (ox + ow / 2, oy)
            bend = (end[1] - start[1]) / 2
            out.append(
                f'<path class="of-{part.name} of-{other}" d="M{start[0]:.0f} {start[1]:.0f} '
                f"C{start[0]:.0f} {start[1] + bend:.0f} {end[0]:.0f} {end[1] - bend:.0f} "
                f'{end[0]:.0f} {end[1]:.0f}"/>'
            )
    for part in parts:
        x, y, w = places[part.name]
        middle = x + w / 2
        count = f"{part.files} file{'s' * (part.files > 1)}, {part.lines:,} lines"
        engines = f"uses {', '.join(part.engines)}" if part.engines else ""
        imported = ", ".join(sorted(part.imports & set(places))) or "nothing of raynas"
        out += [
            f'<g id="part-{part.name}"><title>{escape(part.doc)} Imports {imported}.</title>',
            f'<rect x="{x:.1f}" y="{y}" width="{w:.1f}" height="{BOX_HEIGHT}" rx="6"/>',
            f'<text x="{middle:.1f}" y="{y + 20}" text-anchor="middle">{part.name}</text>',
            f'<text class="small" x="{middle:.1f}" y="{y + 36}" text-anchor="middle">{count}'
            "</text>",
            f'<text class="small" x="{middle:.1f}" y="{y + 50}" text-anchor="middle">{engines}'
            "</text></g>",
        ]
    return "\n".join([*out, "</svg>"]) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(draw(house()), encoding="utf-8")
