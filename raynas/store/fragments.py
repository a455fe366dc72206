"""The fragments of a result table: their names, which of them count, and how one is read.

Every append makes one fragment and takes the next number of the run: ``SESSION-NUMBER.parquet``.
A compaction merges neighbours into ``SESSION-FIRST-LAST.parquet`` and removes them afterwards.
So the names alone say the order of the rows and which fragments a merged one replaces: after a
crash between the two steps the replaced ones are known, and skipped, whatever they hold. They also
say what a writer stored that was taken for dead, after the next session had begun: a fragment of an
earlier session at or behind the number with which a later session begins does not count.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from raynas.core import UserError
from raynas.store.remote import remote_of
from raynas.store.run import refuse_newer
from raynas.store.schema import VERSION_KEY

_NAME = re.compile(r"(\d{4,})-(\d{8,})(?:-(\d{8,}))?\.parquet")


@dataclass(frozen=True)
class Fragment:
    """One file of rows: the appends number ``first`` to ``last``, both included."""

    path: Path
    session: int
    first: int
    last: int

    @property
    def appends(self) -> int:
        return self.last - self.first + 1


def name_for(session: int, first: int, last: int | None = None) -> str:
    """The file name of an append, or of the merged appends from ``first`` to ``last``."""
    merged = "" if last is None else f"-{last:08d}"
    return f"{session:04d}-{first:08d}{merged}.parquet"


def list_fragments(folder: Path) -> tuple[list[Fragment], list[Fragment]]:
    """The fragments that count, in the order of their rows, and those that others replace.

    A listing is not a snapshot: during a compaction it may miss the merged fragment and its
    sources at once. That shows as a gap in the numbers, so with a gap the folder is listed until
    the same gap shows twice (then it is one: a fragment that the user took away).
    Raises: UserError for a Parquet file that is not a fragment.
    """
    gaps: list[tuple[int, int]] | None = None
    for _ in range(50):
        counted, replaced = _list_once(folder)
        before, gaps = gaps, _gaps(counted)
        if counted and (not gaps or gaps == before):
            break
        if not counted and before == []:
            break
    return counted, replaced


def _list_once(folder: Path) -> tuple[list[Fragment], list[Fragment]]:
    try:
        names = os.listdir(folder)  # noqa: PTH208 - many names, no Path for each
    except FileNotFoundError:
        return [], []
    found = [_parse(folder, name) for name in names if name.endswith(".parquet")]
    counted: list[Fragment] = []
    replaced: list[Fragment] = []
    end = 0
    begins: dict[int, int] = {}  # session -> its first number
    for f in found:
        begins[f.session] = min(begins.get(f.session, f.first), f.first)
    for fragment in sorted(found, key=lambda f: (f.first, -f.last, -f.session)):
        fenced = any(s > fragment.session and fragment.last >= b for s, b in begins.items())
        if fragment.last <= end or fenced:
            replaced.append(fragment)
        else:
            counted.append(fragment)
            end = fragment.last
    return counted, replaced


def _parse(folder: Path, name: str) -> Fragment:
    match = _NAME.fullmatch(name)
    if match is None:
        raise UserError(
            f"{folder / name} is not a fragment of this run",
            cure="move it out of the folder; only raynas writes there",
        )
    session, first, last = match.groups()
    return Fragment(folder / name, int(session), int(first), int(last or first))


def _gaps(fragments: Sequence[Fragment]) -> list[tuple[int, int]]:
    ends = [0, *(f.last for f in fragments)]
    return [(end, f.first) for end, f in zip(ends, fragments, strict=False) if f.first != end + 1]


def read_fragment(path: Path) -> pa.Table:
    """The rows of one fragment.

    Raises: OSError when it cannot be opened (FileNotFoundError: a compaction has just removed it);
    UserError when it is torn (not by raynas' writer, but a disk can) or of a newer schema.
    """
    try:
        with pq.ParquetFile(path, pre_buffer=False, page_checksum_verification=True) as file:
            table = file.read(use_threads=False)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise  # the system refuses; Arrow's own complaints about contents have no number
        raise _torn(path, error) from error
    version = (table.schema.metadata or {}).get(VERSION_KEY, b"")
    if not version.isdigit():
        raise _torn(path, "no schema version")
    refuse_newer(path, int(version))
    return table


def _torn(path: Path, why: object) -> UserError:
    text = str(why).split("\n")[0][:160]
    remote = remote_of(path.parent.parent)
    if remote is None:
        file, move = str(path), f" (mv {path} {path}.torn)"
    else:  # what is here follows
        file, move = f"{remote.shown}/{path.parent.name}/{path.name}", ""
    return UserError(
        f"fragment {file} is torn: {text}",
        cure=f"move it away{move} and go on with raynas resume: "
        "the rows it held are measured again",
    )


def join(tables: Sequence[pa.Table], schema: pa.Schema) -> pa.Table:
    """All rows in order, in ``schema``; columns that only the fragments have follow.

    Raises: UserError when a column has a type that does not fit.
    """
    alike = all(table.schema.equals(schema) for table in tables)
    mode = "none" if alike else "permissive"
    try:
        joined = pa.concat_tables([schema.empty_table(), *tables], promote_options=mode)
    except pa.ArrowException as error:
        raise UserError(
            f"the fragments of this run do not fit together: {error}",
            cure="move out of its results folder what raynas did not write",
        ) from error
    return joined.combine_chunks()
