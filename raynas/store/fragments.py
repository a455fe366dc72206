"""This module lists, reads and makes the fragments of a result table.

Every append makes one fragment, ``EPOCH-NUMBER.parquet``. A merge replaces several by one,
``EPOCH-FIRST-LAST.parquet``. :mod:`raynas.store.manifest` defines which fragments count.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raynas.core import TrialState, UserError
from raynas.core.printable import brief, printable
from raynas.store.local_storage import LocalStorage
from raynas.store.manifest import TORN, snapshot
from raynas.store.older import FragmentName, expect_fragments, parsed
from raynas.store.schema import STAGES, VERSION_KEY, refuse_newer, schema_for
from raynas.store.working_copies import remote_of

_SEAL_KEY = b"raynas.sealed_by"


@dataclass(frozen=True)
class Fragment:
    """A file of rows: the appends number ``first`` to ``last``, both included.

    Attributes:
        path: The path of the file.
        session: The session (the writer's epoch) that stored it.
        first: The number of its first append.
        last: The number of its last append.
    """

    path: Path
    session: int
    first: int
    last: int

    @property
    def appends(self) -> int:
        """The number of appends in the fragment."""
        return self.last - self.first + 1


def name_for(session: int, first: int, last: int | None = None) -> str:
    """Return the file name of an append, or of merged appends.

    Args:
        session: The session (the writer's epoch).
        first: The number of the first append.
        last: The number of the last merged append; None for a single append.

    Returns:
        The file name, without a folder.
    """
    return FragmentName(session, first, last).text


def fragment_at(path: Path) -> Fragment:
    """Return the fragment that a file name describes; the file is not read.

    Args:
        path: The path of the file.

    Returns:
        The fragment.

    Raises:
        ValueError: The file name is not the name of a fragment.
    """
    name = parsed(path.name)
    if name is None:
        raise ValueError(f"{path.name} is not the name of a fragment")
    return Fragment(path, name.session, name.first, name.last)


def list_fragments(folder: Path) -> tuple[list[Fragment], list[Fragment]]:
    """List the fragments in a run's ``results`` folder.

    Args:
        folder: The ``results`` folder of a run on this machine.

    Returns:
        The fragments that count, in the order of their rows, and the others, sorted by name.

    Raises:
        UserError: A Parquet file is not a fragment, or a fragment that counts is missing.
    """
    seen = snapshot(LocalStorage(folder.parent))
    expect_fragments(seen.listed, str(folder))
    others = sorted(n for n in seen.listed if parsed(n) is not None and n not in set(seen.names))
    return (
        [fragment_at(folder / name) for name in seen.names],
        [fragment_at(folder / name) for name in others],
    )


def read_fragment(path: Path) -> pa.Table:
    """Read the rows of one fragment.

    Args:
        path: The path of the file.

    Returns:
        The rows, in the order in which they were stored.

    Raises:
        FileNotFoundError: A merge has just removed the file.
        OSError: The file cannot be opened.
        UserError: Memory is exhausted.
        UserError: The fragment is torn. The writer never leaves such a file, but a disk can fail.
        UserError: The fragment has a newer schema, or rows that raynas does not write.
    """
    try:
        with pq.ParquetFile(path, pre_buffer=False, page_checksum_verification=True) as file:
            _expect_plausible(file, path.stat().st_size)
            table = file.read(use_threads=False)
            table.validate(full=True)
    except MemoryError as error:  # Arrow's own is one, too
        raise _exhausted(path, error) from error
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno:
            raise  # the system refuses; Arrow's own complaints about contents have no number
        raise _torn(path, error) from error
    version = (table.schema.metadata or {}).get(VERSION_KEY, b"")
    if not version.isdigit() or len(version) > 9:
        raise _torn(path, "no schema version")
    refuse_newer(path, int(version))
    if other := _unlike(table):
        raise _torn(path, other, "is not as raynas writes it")
    return table


_FEW_ROWS = 100_000


def _expect_plausible(file: pq.ParquetFile, size: int) -> None:
    """Check the number of rows. Raises: ValueError if ``size`` bytes cannot hold that many."""
    if (rows := file.metadata.num_rows) > max(_FEW_ROWS, size):
        raise ValueError(f"it claims to hold {rows} rows in {size} bytes")


def _exhausted(path: Path, error: MemoryError) -> UserError:
    text = " ".join(str(error).split())[:120] or "no memory is left"
    return UserError(
        f"memory is exhausted while fragment {path} is read ({text}); the fragment may be whole",
        hint="free memory, or read the run on a machine with more; leave the fragment where it is",
    )


#: the columns that every fragment has, by name; a run reads its fragments many times
_COLUMNS = {field.name: field for field in schema_for(())}
_REQUIRED = [name for name, field in _COLUMNS.items() if not field.nullable]


def _unlike(table: pa.Table) -> str:
    """Return what in the rows raynas' writer cannot have written; empty if all is valid."""
    names = set(table.column_names)
    for name in _REQUIRED:
        if name not in names:
            return f"it has no column {name!r}"
    if len(names) < table.num_columns:
        return "two of its columns have one name"
    for field in table.schema:
        fixed = _COLUMNS.get(field.name)
        wanted = fixed.type if fixed is not None else pa.float64()
        if field.type != wanted and not pa.types.is_null(field.type):
            return f"column {field.name!r} is of type {str(field.type)[:40]}, not {wanted}"
        if fixed is not None and not fixed.nullable and table[field.name].null_count:
            return f"column {field.name!r} lacks values"
    return _odd_values(table)


_LEAST = {"session": 0, "trial": 0, "attempt": 0, "step": 0, "params": 0, "macs": 0, "layers": 0}
_ONE_OF = {"state": frozenset(TrialState), "stage": frozenset(STAGES)}


def _odd_values(table: pa.Table) -> str:
    for name, least in _LEAST.items():
        if name not in table.column_names:
            continue
        if table.num_rows and (found := pc.min(table[name]).as_py()) is not None and found < least:
            return f"column {name!r} holds {found}"
    for name, allowed in _ONE_OF.items():
        for value in table[name].unique().to_pylist():
            if value not in allowed:
                return f"column {name!r} holds {brief(value)}"
    return ""


def _torn(path: Path, why: object, what: str = "is torn") -> UserError:
    text = printable(str(why).split("\n")[0][:160])
    remote = remote_of(path.parent.parent)
    if remote is None:
        file, move = str(path), f" (mv {path} {path}{TORN})"
    else:  # what is here follows
        file, move = f"{remote.shown}/{path.parent.name}/{path.name}", f" to {path.name}{TORN}"
    return UserError(
        f"fragment {file} {what}: {text}",
        hint=f"move it away{move} and go on with raynas resume: "
        "the rows it held are measured again",
    )


def join(tables: Sequence[pa.Table], schema: pa.Schema) -> pa.Table:
    """Join the rows of fragments in the given order.

    Args:
        tables: The rows of each fragment.
        schema: The columns that come first; missing ones are null. Columns that only fragments have
            follow.

    Returns:
        One table with all rows.

    Raises:
        UserError: A column has types that do not fit together.
        UserError: Memory is exhausted.
    """
    alike = all(table.schema.equals(schema) for table in tables)
    mode = "none" if alike else "permissive"
    try:
        joined = pa.concat_tables([schema.empty_table(), *tables], promote_options=mode)
    except MemoryError as error:
        raise UserError(
            f"memory is exhausted while {len(tables)} fragments are read; they may be whole",
            hint="free memory, or read the run on a machine with more",
        ) from error
    except pa.ArrowException as error:
        raise UserError(
            f"the fragments of this run have different columns: {error}",
            hint="move files that raynas did not write out of its results folder",
        ) from error
    return joined.combine_chunks()


def parquet(table: pa.Table, *, small: bool) -> memoryview:
    """Return the contents of a fragment.

    Args:
        table: The rows.
        small: The table has a few rows: leave out dictionaries and statistics.

    Returns:
        The bytes of a Parquet file with page checksums.
    """
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        compression="zstd",
        use_dictionary=not small,
        write_statistics=not small,
        write_page_checksum=True,
    )
    return memoryview(sink.getvalue())


def seal(schema: pa.Schema, epoch: int) -> memoryview:
    """Return the contents of a seal, a fragment without rows that closes an earlier writer's epoch.

    Args:
        schema: The columns of the run.
        epoch: The epoch of the writer that makes the seal.

    Returns:
        The bytes of a Parquet file.
    """
    metadata = {**(schema.metadata or {}), _SEAL_KEY: str(epoch).encode()}
    return parquet(schema.with_metadata(metadata).empty_table(), small=True)


def sealed_by(data: bytes) -> int | None:
    """Return the epoch of the writer that made a seal.

    Args:
        data: The contents of a fragment.

    Returns:
        The epoch; None for a fragment with rows, and for a torn one.
    """
    try:
        metadata = pq.read_schema(io.BytesIO(data)).metadata or {}
    except (pa.ArrowException, OSError):
        return None
    epoch = metadata.get(_SEAL_KEY, b"")
    return int(epoch) if epoch.isdigit() and len(epoch) < 19 else None
