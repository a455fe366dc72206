"""The names of fragments, and which of them count where no manifest says so.

A raynas that wrote no manifest merged neighbours into ``SESSION-FIRST-LAST.parquet`` and removed
them afterwards, so the names say which fragments a merged one replaces. They also say what a writer
stored after the next session had begun: a fragment of an earlier session at or behind the number
with which a later session begins does not count.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from raynas.core import UserError

_NAME = re.compile(r"(\d{4,})-(\d{8,})(?:-(\d{8,}))?\.parquet")


@dataclass(frozen=True)
class Name:
    """The name of a fragment: the appends ``first`` to ``last`` of ``session``, both included.

    ``to`` is None for a single append.
    """

    session: int
    first: int
    to: int | None = None

    @property
    def last(self) -> int:
        return self.first if self.to is None else self.to

    @property
    def merged(self) -> bool:
        return self.to is not None

    @property
    def text(self) -> str:
        """The file's name."""
        end = "" if self.to is None else f"-{self.to:08d}"
        return f"{self.session:04d}-{self.first:08d}{end}.parquet"


def parsed(name: str) -> Name | None:
    """The parts of a fragment's file name; None for another file."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    session, first, last = match.groups()
    return Name(int(session), int(first), int(last) if last else None)


def expect_fragments(names: Iterable[str], where: str) -> None:
    """Raises: UserError for a Parquet file that is not a fragment."""
    for name in names:
        if name.endswith(".parquet") and parsed(name) is None:
            raise UserError(
                f"{where}/{name} is not a fragment of this run",
                cure="move it out of the folder; only raynas writes there",
            )


@dataclass(frozen=True)
class Counted:
    """What counts of a listing, in the order of its rows, and the gaps between its numbers."""

    names: tuple[str, ...]
    gaps: tuple[tuple[int, int], ...]
    end: int

    @classmethod
    def of(cls, listed: Iterable[str]) -> Counted:
        """Apply the rule of names."""
        found = [n for name in listed if (n := parsed(name)) is not None and n.session]
        begins: dict[int, int] = {}  # session -> its first number
        for n in found:
            begins[n.session] = min(begins.get(n.session, n.first), n.first)
        counted: list[Name] = []
        gaps: list[tuple[int, int]] = []
        end = 0
        for n in sorted(found, key=lambda n: (n.first, -n.last, -n.session)):
            fenced = any(s > n.session and n.last >= b for s, b in begins.items())
            if n.last > end and not fenced:
                if n.first != end + 1:
                    gaps.append((end, n.first))
                counted.append(n)
                end = n.last
        return cls(tuple(n.text for n in counted), tuple(gaps), end)
