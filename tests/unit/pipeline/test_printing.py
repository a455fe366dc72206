"""Texts of others on a terminal."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from raynas.core.printable import DEGRADED, brief, printable
from raynas.pipeline.live import shorten
from raynas.pipeline.printing import PlainData, data_console

EVIL = "[red]a[/x]\x1b[2J\x1b]0;title\x07\x9b31m\u202eb"
#: what rich itself sends: colours, cursor, erasing a line
OURS = re.compile(r"\x1b\[[0-9;?]*[mAKhlG]|\x1b\[2K|\r|\n|\t")


@settings(deadline=None)
@given(st.text())
def test_nothing_that_commands_is_left(text: str) -> None:
    shown = printable(text)
    assert not re.search("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\ud800-\udfff]", shown)
    assert printable(shown) == shown
    assert (shown == text) == (printable(text, lines=True) == text and not {"\n", "\t"} & set(text))
    shown.encode()


def test_how_characters_are_spelled() -> None:
    assert printable("a\x1bb\x9bc\n\u202e\udcff\ud801é→") == r"a\x1bb\x9bc\x0a\u202e\xff\ud801é→"
    assert printable("a\tb\nc\r", lines=True) == "a\tb\nc\\x0d"


@settings(deadline=None)
@given(st.text(), st.integers(2, 40))
def test_what_is_shortened_fits_on_one_line(text: str, width: int) -> None:
    assert len(shorten(text, width)) <= width
    assert "\n" not in shorten(text, width)


@pytest.mark.parametrize("inner", [str, Text, lambda t: Group(Text(t), Text(t))])
@pytest.mark.parametrize("live", [False, True])
def test_no_renderable_commands_the_terminal(inner: object, live: bool) -> None:
    file = io.StringIO()
    out = data_console(file=file, width=200, force_terminal=True)
    table = Table(EVIL)
    table.add_row(EVIL, style="bold")
    for one in (inner(EVIL), table):  # type: ignore[operator]
        if live:
            with Live(PlainData(one), console=out, auto_refresh=False) as view:
                view.update(PlainData(one), refresh=True)
        else:
            out.print(one, soft_wrap=True)
    rest = OURS.sub("", file.getvalue())
    assert not re.search("[\x00-\x1f\x7f-\x9f\u202e]", rest), ascii(rest)
    assert r"[red]a[/x]\x1b[2J" in rest


@settings(deadline=None)
@given(st.text())
def test_any_terminal_shows_something(text: str) -> None:
    for encoding in ("ascii", "latin-1", "cp1252", "shift_jis"):
        text.encode(encoding, DEGRADED)


def test_letters_that_a_terminal_lacks() -> None:
    assert "1 → 2 … ≤ é".encode("ascii", DEGRADED) == rb"1 -> 2 ... <= \xe9"


@settings(deadline=None)
@given(st.recursive(st.text() | st.integers() | st.binary(), st.lists))
def test_foreign_values_are_brief(value: object) -> None:
    assert len(brief(value)) <= 80
    assert "\n" not in brief(value)


class Rude:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def test_values_that_cannot_be_shown() -> None:
    assert brief(Rude()).startswith("<Rude")
    assert brief({Rude(): Rude()}).startswith("{<Rude")
    assert brief(-(10**5000)) == "<int of 16610 bits>"
