"""The tools that build the documentation; a long test builds it, with warnings as errors."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "docs" / "tools"


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"tool_{name}", TOOLS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    pytest.importorskip("mkdocs")
    return tool("hooks")


# -- pages -------------------------------------------------------------------------------------


def test_links_to_files_of_the_repository_lead_to_pages(hooks: ModuleType) -> None:
    found: set[Path] = set()
    text = (
        "[a](../concepts.md#x) [b](../../experiments/quickstart.py) [c](../../CHANGELOG.md)\n"
        "![d](../report.png) `[e](nowhere.md)` [f](https://x.org) [`g`](../start.md)\n"
        "```\n[h](nowhere.md)\n```\n"
    )
    assert hooks.linked(text, ROOT / "docs/howto", "howto/own_data.md", found) == (
        "[a](../concepts.md#x) [b](../source/experiments/quickstart.py.md) [c](../changelog.md)\n"
        "![d](../report.png) `[e](nowhere.md)` [f](https://x.org) [`g`](../start.md)\n"
        "```\n[h](nowhere.md)\n```\n"
    )
    assert found == {ROOT / "experiments/quickstart.py", ROOT / "CHANGELOG.md"}


def test_the_readme_is_the_first_page(hooks: ModuleType) -> None:
    text = hooks.linked((ROOT / "README.md").read_text(), ROOT, "index.md")
    assert "](docs/" not in text
    assert "](start.md)" in text
    assert "](report.png)" in text


def test_a_link_to_a_file_that_is_not_there_is_an_error(hooks: ModuleType) -> None:
    with pytest.raises(FileNotFoundError, match=r"a page links to .*nowhere\.md"):
        hooks.linked("[a](nowhere.md)", ROOT / "docs", "start.md")


def test_every_package_has_a_page_of_the_reference(hooks: ModuleType) -> None:
    pages = hooks.api_pages()
    packages = {p.parent.name for p in (ROOT / "raynas").glob("*/__init__.py")}
    assert {f"api/{name}.md" for name in packages - {"cli"}} <= set(pages)
    assert "::: raynas.samplers.TPE\n" in pages["api/samplers.md"]
    assert "::: raynas.search.controller\n" in pages["api/search.md"]
    assert "::: raynas.resume\n" in pages["api/raynas.md"]


def test_every_page_is_in_the_navigation() -> None:
    shown = set(re.findall(r"([\w/]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    pages = {p.relative_to(ROOT / "docs").as_posix() for p in (ROOT / "docs").rglob("*.md")}
    assert pages - {"walk.md"} <= shown


def test_the_evidence_is_that_of_the_log() -> None:
    """Each line of a table of numbers stands in the log, but for the choice of its columns."""
    log = (ROOT / "experiments" / "LOG.md").read_text()
    known = set(re.findall(r"[\d.]+", log))
    for line in (ROOT / "docs" / "evidence.md").read_text().splitlines():
        if line.startswith("| "):
            numbers = set(re.findall(r"\d*\.\d+|\d{2,}", line))
            assert {n for n in numbers if n not in known} == set(), line


# -- roles in docstrings -----------------------------------------------------------------------


def test_roles_become_links() -> None:
    pytest.importorskip("griffe")
    linked = tool("griffe_roles").linked
    assert linked("a :func:`raynas.run` b") == (
        'a <autoref optional identifier="raynas.run"><code>raynas.run</code></autoref> b'
    )
    assert linked("``code`` and `more`") == "``code`` and `more`"


def test_tables_of_restructured_text_become_lists() -> None:
    pytest.importorskip("griffe")
    text = "A:\n\n======  =====\nname    one\nother   two\n        more\n======  =====\n\nB\n"
    assert tool("griffe_roles").linked(text) == "A:\n\n- name: one\n- other: two more\n\n\nB\n"


def test_the_walk_stands_below_the_page_s_own_heading(hooks: ModuleType) -> None:
    assert hooks._deeper("# a\n\n```\n# b\n```\n## c\n") == "## a\n\n```\n# b\n```\n### c\n"


# -- the picture of the house ------------------------------------------------------------------


def test_the_picture_has_every_package_and_only_lines_that_go_down() -> None:
    house = tool("draw_house")
    rows = house.house()
    level = {part.name: place for place, row in enumerate(rows) for part in row}
    packages = {p.parent.name for p in (ROOT / "raynas").glob("*/__init__.py")}
    assert packages <= set(level)
    for row in rows:
        for part in row:
            assert all(level[other] > level[part.name] for other in part.imports & set(level))
    assert [p.name for row in rows for p in row if "ray" in p.engines] == ["runners"]
    picture = house.draw(rows)
    for name in packages:
        assert f">{name}</text>" in picture


# -- the check of the built pages --------------------------------------------------------------

PAGE = "<html><head><title>t</title>{head}</head><body><h1 id='top'>t</h1>{body}</body></html>"


@pytest.mark.parametrize(
    ("head", "body", "fault"),
    [
        ("", "<a href='b.html'>b</a>", "b.html leads nowhere"),
        ("", "<a href='#there'>b</a>", "#there leads to no anchor"),
        ("", "<img alt='x' src='https://x.org/a.png'>", "loads https://x.org/a.png"),
        ("", "<img src='a.html'>", "an image without a text: a.html"),
        ("<script src='//cdn.org/x.js'></script>", "", "loads //cdn.org/x.js"),
        ("<link rel='stylesheet' href='https://f.org/f.css'>", "", "loads https://f.org/f.css"),
        ("", "<h1>another</h1>", "2 headings of the first level, expected 1"),
    ],
)
def test_faults_of_a_page_are_found(tmp_path: Path, head: str, body: str, fault: str) -> None:
    check = tool("check_site")
    page = tmp_path / "a.html"
    page.write_text(PAGE.format(head="", body="<a href='#top'>x</a><a href='https://y.org'>y</a>"))
    assert check.faults(tmp_path) == []
    page.write_text(PAGE.format(head=head, body=body))
    assert check.faults(tmp_path) == [f"a.html: {fault}"]


@pytest.mark.long
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (built.returncode, built.stdout + built.stderr) == (0, "")
    assert tool("check_site").faults(tmp_path) == []
