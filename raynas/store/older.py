"""This module parses the names of fragments, and decides which count where no manifest says so.

An older raynas, which wrote no manifest, merged neighbours into ``SESSION-FIRST-LAST.parquet`` and
removed them afterwards. So the names say which fragments a merged one replaces. They also show what
a writer stored after the next session had begun: a fragment of an earlier session at or behind the
number with which a later session begins does not count.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from raynas.core import UserError

_NAME = re.compile(r"(\d{4,})-(\d{8,})(?:-(\d{8,}))?\.parquet")


@dataclass(frozen=True)
class FragmentName:
    """The name of a fragment: the appends ``first`` to ``last`` of a session, both included.

    Attributes:
        session: The session (the writer's epoch).
        first: The number of the first append.
        to: The number of the last append; None for a single append.

    Example:
        >>> FragmentName(2, 7, 9).text
        '0002-00000007-00000009.parquet'
    """

    session: int
    first: int
    to: int | None = None

    @property
    def last(self) -> int:
        """The number of the last append."""
        return self.first if self.to is None else self.to

    @property
    def merged(self) -> bool:
        """True for merged appends, False for a single one."""
        return self.to is not None

    @property
    def text(self) -> str:
        """The name of the file, without a folder."""
        end = "" if self.to is None else f"-{self.to:08d}"
        return f"{self.session:04d}-{self.first:08d}{end}.parquet"


def parsed(name: str) -> FragmentName | None:
    """Return the parts of a fragment's file name.

    Args:
        name: A file name, without a folder.

    Returns:
        The parts; None for another file.

    Example:
        >>> parsed("0002-00000007.parquet")
        FragmentName(session=2, first=7, to=None)
    """
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    session, first, last = match.groups()
    return FragmentName(int(session), int(first), int(last) if last else None)


def expect_fragments(names: Iterable[str], where: str) -> None:
    """Check that all Parquet files of a folder are fragments.

    Args:
        names: File names. Those that do not end with ``.parquet`` are ignored.
        where: The folder, for the error message.

    Raises:
        UserError: A Parquet file is not a fragment.
    """
    for name in names:
        if name.endswith(".parquet") and parsed(name) is None:
            raise UserError(
                f"{where}/{name} is not a fragment of this run",
                hint="move it out of the folder; only raynas writes there",
            )


@dataclass(frozen=True)
class CountedFragments:
    """The fragments of a listing that count, by their names alone.

    Attributes:
        names: File names in the order of their rows.
        gaps: (last number before, first number after) of each gap between the numbers.
        end: The last number; 0 without any fragment.
    """

    names: tuple[str, ...]
    gaps: tuple[tuple[int, int], ...]
    end: int

    @classmethod
    def of(cls, listed: Iterable[str]) -> CountedFragments:
        """Apply the rule of names to a listing.

        Args:
            listed: File names. Those that are not fragments are ignored.

        Returns:
            The fragments that count.
        """
        found = [n for name in listed if (n := parsed(name)) is not None and n.session]
        begins: dict[int, int] = {}  # session -> its first number
        for n in found:
            begins[n.session] = min(begins.get(n.session, n.first), n.first)
        counted: list[FragmentName] = []
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
