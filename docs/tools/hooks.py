"""What mkdocs adds to the pages: the API reference, the picture of the house, other files.

mkdocs.yml names this file as a hook.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]


def _neighbour(name: str) -> ModuleType:
    """Import a file of this folder, which is no package."""
    spec = importlib.util.spec_from_file_location(
        f"raynas_docs_{name}", ROOT / f"docs/tools/{name}.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# -- files of the repository that pages link to ------------------------------------------------

_PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "experiments/LOG.md": "log.md",
    "benchmarks/README.md": "benchmarks.md",
}
_LINK = re.compile(r"(!\[[^\]]*)?\]\((?!https?:|mailto:|#)([^)\s#]+)(#[^)\s]*)?\)")
_CODE = re.compile(r"(^```.*?^```$|`[^`\n]+`(?!\]))", re.DOTALL | re.MULTILINE)
_LANGUAGES = {".py": "python", ".yaml": "yaml", ".sh": "bash", ".toml": "toml"}


def page_of(file: Path) -> str:
    """Return the page that shows a file of the repository.

    Args:
        file: An absolute path; one in docs/ is its own page.

    Raises:
        FileNotFoundError: There is no such file.
    """
    if not file.exists():
        raise FileNotFoundError(f"a page links to {file}, which does not exist")
    if file.is_relative_to(ROOT / "docs") and "tools" not in file.parts:
        return file.relative_to(ROOT / "docs").as_posix()
    name = file.relative_to(ROOT).as_posix()
    if name in _PAGES:
        return _PAGES[name]
    return f"source/{name}/index.md" if file.is_dir() else f"source/{name}.md"


def _relative(target: str, page: str) -> str:
    """``target`` as seen from ``page``, both as paths within the site's sources."""
    up = "../" * page.count("/")
    return up + target


def linked(markdown: str, folder: Path, page: str, found: set[Path] | None = None) -> str:
    """Return markdown whose links to files of the repository lead to pages of the site.

    Args:
        markdown: The text; code is left as it is.
        folder: The folder from which its links count.
        page: The page that it becomes.
        found: Gets the files outside docs/ that it links to.
    """

    def link(match: re.Match[str]) -> str:
        image, target, anchor = match.groups("")
        file = (folder / target).resolve()
        shown = page_of(file)
        if found is not None and not (ROOT / "docs" / shown).exists():
            found.add(file)
        return f"{image}]({_relative(shown, page)}{anchor})"

    pieces = _CODE.split(markdown)
    for place in range(0, len(pieces), 2):
        pieces[place] = _LINK.sub(link, pieces[place])
    return "".join(pieces)


def _shown(file: Path, found: set[Path]) -> str:
    """The page of a file outside docs/."""
    name = file.relative_to(ROOT).as_posix()
    if file.is_dir():
        files = sorted(f.name for f in file.iterdir() if not f.name.startswith((".", "__")))
        return f"# {name}/\n\n" + "".join(f"- `{n}`\n" for n in files)
    if file.suffix == ".md":
        return linked(file.read_text(), file.parent, page_of(file), found)
    language = _LANGUAGES.get(file.suffix, "")
    return f"# {name}\n\n````{language}\n{file.read_text()}````\n"


# -- the API reference -------------------------------------------------------------------------

PACKAGES = (
    "experiment", "spaces", "layers", "data", "evaluators", "training", "samplers", "schedulers",
    "proxies", "supernet", "benchmarks", "costs", "core", "search", "runners", "callbacks",
    "store", "analysis", "reports", "pipeline", "apps", "testing",
)  # fmt: skip


def _docstring(file: Path) -> str:
    return ast.get_docstring(ast.parse(file.read_text())) or ""


def _exported(file: Path) -> list[str]:
    """The names in ``__all__`` of a module."""
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return sorted(ast.literal_eval(node.value))
    return []


def _modules(home: Path) -> list[str]:
    """The public modules of a package, those of its folders included."""
    files = [f for f in sorted(home.rglob("*.py")) if not f.name.startswith("_")]
    return [".".join(f.relative_to(ROOT).with_suffix("").parts) for f in files]


def api_pages(root: Path = ROOT) -> dict[str, str]:
    """Return the pages of the API reference: path within the site's sources -> markdown.

    A package that says what it exports shows that; another one shows its modules.

    Args:
        root: The folder that has ``raynas/``.
    """
    pages = {}
    rows = ["# API reference", "", "Made from the docstrings.", "", "| package | |", "|---|---|"]
    if (root / "raynas/api.py").exists():
        rows.append(
            "| [`raynas`](raynas.md) | `import raynas as rn`: runs, and all that they need |"
        )
        pages["api/raynas.md"] = _facade(root)
    for name in PACKAGES:
        home = root / "raynas" / name
        if not home.exists():
            continue
        text = _docstring(home / "__init__.py")
        first = text.partition("\n")[0].replace("``", "`")
        rows.append(f"| [`raynas.{name}`]({name}.md) | {first} |")
        exported = _exported(home / "__init__.py")
        pages[f"api/{name}.md"] = _page(f"raynas.{name}", exported or _modules(home), text)
    return {"api/index.md": "\n".join(rows) + "\n", **pages}


def _facade(root: Path) -> str:
    """The page of ``import raynas as rn``: its own functions, and where the other names are."""
    tree = ast.parse((root / "raynas/__init__.py").read_text())
    (homes,) = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_NAMES"
    ]
    text = _page("raynas", homes.pop("raynas.api").split(), ast.get_docstring(tree) or "")
    rows = ["## Names from other packages", "", "| package | names |", "|---|---|"]
    for module, names in homes.items():
        links = [
            f'<autoref optional identifier="{module}.{name}"><code>{name}</code></autoref>'
            for name in names.split()
        ]
        rows.append(f"| `{module}` | {', '.join(links)} |")
    return text + "\n" + "\n".join(rows) + "\n"


def _page(package: str, names: list[str], text: str) -> str:
    entries = []
    for name in names:
        whole = name if name.startswith("raynas.") else f"{package}.{name}"
        shown = whole if name.startswith("raynas.") else name
        entries.append(f"::: {whole}\n    options:\n      heading: {shown}\n")
    return f"# {package}\n\n{_ROLES.linked(text)}\n\n" + "\n".join(entries)


# -- mkdocs calls these ------------------------------------------------------------------------

_ROLES = _neighbour("griffe_roles")
_HOUSE = _neighbour("draw_house")


def on_config(config: Any) -> Any:
    """List the pages of the API reference in the navigation."""
    titles = {
        page: text.partition("\n")[0].removeprefix("# ") for page, text in api_pages().items()
    }
    pages = ["api/index.md", *({title: page} for page, title in titles.items() if title[0] == "r")]
    for section in config.nav:
        for entries in section.values() if isinstance(section, dict) else ():
            if isinstance(entries, list):
                entries[:] = [
                    {"API": pages} if e == {"API": "api/index.md"} else e for e in entries
                ]
    return config


def on_files(files: Files, config: Any, **_: Any) -> Files:
    """Add the API reference and the pages of linked files."""
    found = {ROOT / name for name in _PAGES}
    for file in [f for f in files if f.is_documentation_page()]:
        source = ROOT / "docs" / file.src_uri
        linked(source.read_text(), source.parent, file.src_uri, found)
    done: set[Path] = set()
    while rest := sorted(found - done):
        for source in rest:
            page = page_of(source)
            files.append(File.generated(config, page, content=_shown(source, found)))
            done.add(source)
    for page, text in api_pages().items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Rewrite links to files of the repository, and put in the walk and the columns."""
    source = ROOT / "docs" / page.file.src_uri
    if not source.exists():
        return markdown
    text = linked(markdown, source.parent, page.file.src_uri)
    walk = ROOT / "docs" / "walk.md"
    if "<!-- columns -->" in text:
        from raynas.store.schema import columns_markdown

        text = text.replace("<!-- columns -->", columns_markdown())
    return text.replace("<!-- walk -->", _deeper(walk.read_text()) if walk.exists() else "")


def _deeper(markdown: str) -> str:
    """Return markdown whose headings are one level deeper, to stand in another page."""
    pieces = _CODE.split(markdown)
    pieces[::2] = [re.sub(r"^#", "##", piece, flags=re.MULTILINE) for piece in pieces[::2]]
    return "".join(pieces)


def on_page_content(html: str, **_: Any) -> str:
    """Put in the picture, which is no Markdown."""
    mark = "<!-- house -->"
    return html.replace(mark, _HOUSE.draw(_HOUSE.house())) if mark in html else html
