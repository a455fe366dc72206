"""The one writer of a run: appends whole fragments, merges them from time to time.

What a crash can leave behind, and who deals with it:

* before a fragment is renamed: a temporary file that no reader looks for; the next writer
  removes it. The rows of that ``append`` were not acknowledged.
* after a merged fragment is renamed, before all its sources are removed: both. raynas' reader
  knows from the names which ones to skip, the next writer removes them. Other readers see the
  rows of the sources twice until then; without a crash that lasts some milliseconds, in which
  they may also find a fragment gone that they have just listed: they read again.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raynas.core import TrialState, UserError
from raynas.store.files import TEMP_PREFIX, Lock, reason, sync_folder, write_whole
from raynas.store.fragments import Fragment, join, list_fragments, name_for, read_fragment
from raynas.store.lease import Lease, longest_silence
from raynas.store.provenance import Provenance
from raynas.store.remote import fetch
from raynas.store.run import RunFolder
from raynas.store.schema import STAGES, schema_for

_ALLOWED = {"state": frozenset(TrialState), "stage": frozenset(STAGES)}


class Writer:
    """Appends rows to a run; holds its lock until ``close`` or the end of the process.

    ``session``: 1 for the first start, ``next_session(read(folder))`` for a resume; higher where
    the storage of the run knows of a later one.
    A run that lives elsewhere (see ``RunFolder.remote``) is written there first, under a lease that
    ends after ``lease_seconds`` of silence (None: ``$RAYNAS_LEASE_SECONDS``, or 60).
    ``merge_every``: so many single fragments are merged at a time (about 1 ms each).
    Threads may share a writer. A context manager.
    Raises: UserError when another writer is alive, or the folder cannot be written.
    """

    def __init__(
        self,
        folder: RunFolder,
        session: int,
        provenance: Provenance,
        *,
        merge_every: int = 256,
        lease_seconds: float | None = None,
    ) -> None:
        if session < 1 or merge_every < 2:
            raise ValueError(f"session {session} must be >= 1, merge_every {merge_every} >= 2")
        self._folder, self._remote = folder, folder.remote
        self._merge_every = merge_every
        self._schema = schema_for(folder.info.metrics)
        self._mutex = threading.Lock()
        self._closed = False
        self._lease: Lease | None = None
        with self._told():
            folder.results.mkdir(exist_ok=True)
            self._lock = Lock(folder.lock)
        try:
            if self._remote is not None:
                with self._told():
                    self._lease = Lease(self._remote, session, lease_seconds or longest_silence())
                    session = self._lease.epoch
                fetch(self._remote.uri)
            self._session = session
            self._same = {
                "run": folder.info.run,
                "experiment": folder.info.fingerprint,
                "session": session,
                "host": provenance.host,
                "git": provenance.git,
                "versions": provenance.versions_text,
            }
            self._start()
        except BaseException:
            self._give_back()
            raise

    def _give_back(self) -> None:
        if self._lease is not None:
            self._lease.release()
        self._lock.release()

    def _start(self) -> None:
        """Remove what a crash left, and find the next number.

        From its second session on a run on shared storage begins with a fragment without rows: it
        fences off whatever a writer of an earlier session stores from now on.
        """
        with self._told():
            for temp in self._folder.results.glob(f"{TEMP_PREFIX}*"):
                temp.unlink(missing_ok=True)
            counted, replaced = list_fragments(self._folder.results)
            self._remove(replaced)
        self._number = counted[-1].last if counted else 0
        self._single = sum(f.appends == 1 for f in counted)
        if self._lease is not None and counted:
            with self._told():
                self._add(self._schema.empty_table())

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Store ``rows`` as one fragment; when this returns they are on the disk.

        Missing keys: run, experiment, session, host, git, versions and time are filled in; what
        may be null becomes null.
        Raises: ValueError for an unknown key, a missing one, or a value of the wrong type, and
        nothing is stored; UserError when the disk refuses, and all earlier rows are safe.
        """
        if not rows:
            return
        table = self._table(rows)
        with self._mutex:
            if self._closed:
                raise ValueError("the writer is closed")
            with self._told():
                self._add(table)
            if self._single >= self._merge_every:
                self._single = 0
                with contextlib.suppress(UserError):  # the rows are stored; merging can wait
                    self._merge(_recent)

    def _add(self, table: pa.Table) -> None:
        self._number += 1  # a number is never used twice, not even after a failure
        small = table.num_rows < 256
        self._write(name_for(self._session, self._number), _parquet(table, small=small))
        self._single += 1

    def _write(self, name: str, data: memoryview) -> None:
        """First where the run lives: what is here is never more than what is there."""
        if self._remote is not None and self._lease is not None:
            self._lease.check()
            self._remote.write(f"{self._folder.results.name}/{name}", data)
        write_whole(self._folder.results / name, data)

    def check(self) -> None:
        """Before what the rows amount to is published.

        Raises: TakenOver when another writer has the run, so that the last rows may not count;
        UserError when the storage refuses.
        """
        if self._lease is not None:
            with self._told():
                self._lease.check(at_once=True)

    def compact(self) -> None:
        """Merge all fragments into one. No row is lost, changed or moved before another.

        Raises: UserError when a fragment is torn or the disk refuses; all rows are safe.
        """
        with self._mutex:
            if self._closed:
                raise ValueError("the writer is closed")
            self._merge(list)
            self._single = 0

    def close(self) -> None:
        """Merge what can be merged and give the lock back; a second call does nothing."""
        with self._mutex:
            if self._closed:
                return
            self._closed = True
            try:
                with contextlib.suppress(UserError):  # the rows are stored, merged or not
                    self._merge(list)
            finally:
                self._give_back()

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _table(self, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
        filled = {**self._same, "time": datetime.now(UTC)}
        names = set(self._schema.names)
        for row in rows:
            if unknown := row.keys() - names:
                raise ValueError(f"unknown columns: {', '.join(sorted(unknown))}")
        arrays = [_array(f, [row.get(f.name, filled.get(f.name)) for row in rows])
                  for f in self._schema]  # fmt: skip
        return pa.Table.from_arrays(arrays, schema=self._schema)

    def _merge(self, choose: Callable[[list[Fragment]], list[Fragment]]) -> None:
        """Merge the fragments that ``choose`` takes from the end of the list."""
        with self._told():
            counted, _ = list_fragments(self._folder.results)
            chosen = choose(counted)
            if len(chosen) < 2:
                return
            table = join([read_fragment(f.path) for f in chosen], self._schema)
            if self._lease is not None:  # what is merged must be what all others count, too
                self._lease.check(at_once=True)
            first, last = chosen[0], chosen[-1]
            name = name_for(last.session, first.first, last.last)
            self._write(name, _parquet(table, small=False))
            self._remove(chosen)

    def _remove(self, fragments: Sequence[Fragment]) -> None:
        """Remove in the order of the rows: a reader's listing then shows a gap, if anything."""
        for fragment in fragments:
            fragment.path.unlink(missing_ok=True)
        if fragments:
            sync_folder(self._folder.results)
        if self._remote is not None:
            for fragment in fragments:
                self._remote.remove(f"{self._folder.results.name}/{fragment.path.name}")

    @property
    def session(self) -> int:
        return self._session

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Turn an error of the system into one line that says what is safe and how to go on."""
        try:
            yield
        except OSError as error:
            raise UserError(
                f"results cannot be stored in {self._folder.results}: {reason(error)}; "
                "every row stored before is safe",
                cure=f"make room or access, then go on with: raynas resume {self._folder.path}",
            ) from error


def _recent(fragments: list[Fragment]) -> list[Fragment]:
    """The end of the list, as far back as the next fragment is not much larger than the sum.

    So a row is rewritten only about log2(rows / merge_every) times.
    """
    start, total = len(fragments), 0
    while start > 0 and fragments[start - 1].appends <= max(2 * total, 1):
        start -= 1
        total += fragments[start].appends
    return fragments[start:]


def _array(field: pa.Field, values: list[Any]) -> pa.Array:
    if not field.nullable and any(value is None for value in values):
        raise ValueError(f"column {field.name!r} is missing")
    allowed = _ALLOWED.get(field.name)
    if allowed and not allowed.issuperset(values):
        raise ValueError(f"column {field.name!r} is one of {', '.join(sorted(allowed))}")
    if pa.types.is_string(field.type):
        values = [_clean(value) for value in values]
    try:
        return pa.array(values, type=field.type)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"column {field.name!r}: {error}") from error


def _clean(value: Any) -> Any:
    """Text that UTF-8 can hold: messages of errors may carry broken file names."""
    if not isinstance(value, str):
        return value
    return value.encode("utf-8", "backslashreplace").decode("utf-8")


def _parquet(table: pa.Table, *, small: bool) -> memoryview:
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
