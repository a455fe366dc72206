"""The code of README.md, CONTRIBUTING.md and docs/ runs; tests/pages.py says how a page marks it.

A page is carried out from top to bottom in one empty folder: its Python in one namespace, its
commands in this process where the page says so. The long tests of test_readme.py carry out the
other commands. The recipes of CONTRIBUTING.md are run by test_project.py.
"""

from __future__ import annotations

import re
import shlex
import sys
import types
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest
from commands import done, raynas
from pages import BLOCKS, CHECKOUT, MY_IMAGES, OTHER_LANGUAGES, PAGES, PROGRAMS, Block, blocks_of
from repetition import more

ALIVE = [b for b in BLOCKS if b.language == "python" or b.how in ("run", "run with")]
BY_PAGE = {
    page: list(blocks)
    for page, blocks in groupby(ALIVE, key=lambda b: b.page)
    if page != "CONTRIBUTING.md"
}
REASONS = ("needs machines", "installs", "takes", "wants", "the clone", "the search")


# -- what there is -----------------------------------------------------------------------------


def test_pages_are_read_as_a_reader_does() -> None:
    text = """
Text, with    raynas run inside.

```text
runs/NAME/
```

<!-- run with: --local -->
```
raynas run x.py     # a remark
ray job submit --x \\
    -- raynas run f.py # and another
```

<!-- not run: needs a cluster -->
```bash
ray up
```

```python
# my.py
raynas = 1
```

    python tests/x.py --n 2

    10 % of a table
"""
    (tree, first, second, code, last) = blocks_of("p.md", text)
    assert (tree.is_shell, tree.language) == (False, "text")
    assert first.commands == ("raynas run x.py", "ray job submit --x -- raynas run f.py")
    assert (first.how, first.rest) == ("run with", "--local")
    assert (second.how, second.rest) == ("not run", "needs a cluster")
    assert (code.file, code.is_shell) == ("my.py", False)
    assert last.commands == ("python tests/x.py --n 2",)


def test_every_block_has_a_language_that_is_known() -> None:
    strange = [
        b for b in BLOCKS if not b.is_shell and b.language not in (*OTHER_LANGUAGES, "python")
    ]
    assert not strange
    commands = [c for b in BLOCKS if b.is_shell for c in b.commands]
    assert len(commands) >= 40
    assert [c for c in commands if c.split()[0] not in PROGRAMS] == []


def test_blocks_that_are_not_run_say_why() -> None:
    unrun = [b for b in BLOCKS if b.how == "not run"]
    assert 5 <= len(unrun) <= 25
    for block in unrun:
        assert block.rest.startswith(REASONS), block
        local = [c for c in block.commands if c.startswith(("raynas ", "python "))]
        if len(local) == len(block.commands):  # on files of a clone: only time or data are reasons
            assert block.rest.startswith(("takes", "wants", "the search")), block
    for page in sorted({b.page for b in unrun}):
        print(page, *sorted({b.rest for b in unrun if b.page == page}), sep="\n  ")


def test_all_python_is_executed() -> None:
    """No mark takes Python out."""
    assert {b.page for b in BLOCKS if b.language == "python"} <= {*BY_PAGE, "CONTRIBUTING.md"}
    assert not [b for b in BLOCKS if b.language == "python" and b.how]


# -- commands that are not carried out here are parsed -----------------------------------------


def parts_of(command: str) -> Iterator[list[str]]:
    """The words of each single command in a line of a shell."""
    words: list[str] = []
    for word in shlex.split(command.removesuffix("&")):
        if word in ("&&", "--", "|", ";"):
            yield words
            words = []
        else:
            words.append(word)
    yield words


def parse(words: list[str]) -> None:
    """``raynas WORDS`` is a command with these options and arguments.

    Raises:
        click.UsageError: It is not.
    """
    import typer

    from raynas.cli.main import app

    command = typer.main.get_command(app)
    context = command.make_context("raynas", list(words), resilient_parsing=False)
    while hasattr(command, "commands"):
        rest = [*context._protected_args, *context.args]
        name, command, rest = command.resolve_command(context, rest)
        assert command is not None, name
        context = command.make_context(name, rest, parent=context)


SHOWN = sorted(
    {
        (b.page, " ".join(words))
        for b in BLOCKS
        if b.is_shell
        for command in b.commands
        for words in parts_of(command)
        if words and words[0] in ("raynas", "python", "make")
    }
)


@pytest.mark.parametrize(("page", "command"), SHOWN)
def test_commands_are_what_there_is(page: str, command: str) -> None:
    assert (CHECKOUT / page).is_file()
    program, *words = shlex.split(command)
    if program == "raynas":
        parse([word.replace("s3://BUCKET/", "") for word in words])
    elif program == "make":
        for target in (w for w in words if "=" not in w):
            assert f"\n{target}:" in (CHECKOUT / "Makefile").read_text()
    elif words[0] == "-m":
        assert words[1] == "raynas.cli"
    else:
        source = (CHECKOUT / words[0]).read_text()
        for option in (w.partition("=")[0] for w in words[1:] if w.startswith("--")):
            assert option in source, option


def test_a_command_that_does_not_exist_is_noticed() -> None:
    for wrong, message in {
        "run": "Missing parameter: file",
        "run x.py --lokal": "--lokal",
        "nothing": "nothing",
        "score x --batch y": "unable to parse string as an integer",
    }.items():
        with pytest.raises(Exception, match=message):
            parse(wrong.split())


def test_commands_that_the_text_names_have_these_options() -> None:
    named = {
        re.sub(r"\s+", " ", command)
        for page in PAGES
        for command in re.findall(r"`(raynas [a-z][^`]*)`", page.read_text())
    }
    assert len(named) >= 8
    for command in sorted(named):
        words = command.split()[1:]
        depth = 2 if words[0] in ("bench", "data") and len(words) > 1 else 1
        called = raynas(*words[:depth], "--help")
        assert called.code == 0, command
        for option in re.findall(r"--[a-z-]+", command):
            assert option in called.out, command


# -- pages are carried out ---------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder with links to what a clone has; no data set, no storage."""
    import torch

    for name in ("experiments", "tests"):
        (tmp_path / name).symlink_to(CHECKOUT / name)
    (tmp_path / "my_images.py").write_text(MY_IMAGES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("RAYNAS_DATA", "RAYNAS_STORAGE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAYNAS_CACHE", "off")
    torch.set_num_threads(1)
    modules = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - modules:
        if not name.startswith(("raynas", "torch", "optuna", "numpy", "scipy", "matplotlib")):
            file = getattr(sys.modules[name], "__file__", None)
            if file is not None and Path(file).is_relative_to(tmp_path):
                del sys.modules[name]


def carry_out(block: Block, module: types.ModuleType) -> None:
    """Execute the Python of a block in the page's namespace, or run its commands."""
    if block.language == "python":
        if block.file:
            Path(block.file).write_text(block.body)
        code = compile(block.body, f"{block.page}", "exec", dont_inherit=True)
        exec(code, module.__dict__)  # the page's own code
        return
    for command in block.commands:
        program, *words = shlex.split(command)
        assert program == "raynas", command
        done(*words, *shlex.split(block.rest))


SEARCHES = ("docs/start.md", "docs/tutorials/first_search.md")
"""Pages with a search each, as README has; some ten seconds of a core each."""


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("page", [*(p for p in BY_PAGE if p not in SEARCHES), *more(*SEARCHES)])
def test_the_code_of_a_page_runs(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType(f"page_{Path(page).stem}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for block in BY_PAGE[page]:
        carry_out(block, module)


def test_the_readme_is_short_and_runs_at_once() -> None:
    lines = (CHECKOUT / "README.md").read_text().splitlines()
    assert len(lines) <= 150
    assert any(line.startswith("make demo") for line in lines[:20])
    assert sum("![" in line for line in lines) == 1
