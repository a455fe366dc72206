"""This module has the one writer of a run: it appends whole fragments and merges them at times.

:mod:`raynas.store.fragment_log` defines what is stored in which order, so that a crash between any
two steps loses no row and counts none twice. In a local run other readers of the folder, as DuckDB,
see the rows of merged fragments twice for some milliseconds, or miss a file that they have just
listed: they should read again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

import pyarrow as pa

from raynas.core import TrialState, UserError
from raynas.store.files import TEMP_PREFIX, FileLock, reason, what_helps, write_whole
from raynas.store.fragment_log import GRACE_SECONDS, EpochSeals, FragmentLog
from raynas.store.fragments import (
    Fragment,
    fragment_at,
    join,
    parquet,
    read_fragment,
    seal,
    sealed_by,
)
from raynas.store.lease import Lease, TakenOver, longest_silence
from raynas.store.local_storage import LocalStorage
from raynas.store.manifest import manifest_name, snapshot
from raynas.store.provenance import Provenance
from raynas.store.run import RunFolder
from raynas.store.schema import STAGES, schema_for
from raynas.store.system import system
from raynas.store.working_copies import copy_results, fetch_into

_ALLOWED = {"state": frozenset(TrialState), "stage": frozenset(STAGES)}


class Writer:
    """The writer of a run, which holds the run's lock until ``close`` or the end of the process.

    A run that lives elsewhere (see ``RunFolder.remote``) is written to its storage first, under a
    lease. Threads may share a writer. It is a context manager.

    Args:
        folder: The run.
        session: 1 for the first start, ``next_session(read(folder))`` for a resume. The writer's
            own ``session`` is higher if the run's storage knows of a later one.
        provenance: The origin of the rows.
        merge_every: The number of single fragments that are merged at a time, 2 or more (about 1 ms
            each).
        lease_seconds: The time without a renewal after which the lease ends. None takes
            ``$RAYNAS_LEASE_SECONDS``, or 60.
        waiting: Called with a sentence when opening must wait, since an earlier writer may be
            alive.

    Raises:
        UserError: Another writer is alive.
        UserError: The folder or the storage cannot be written.
        ValueError: ``session`` or ``merge_every`` is out of range.
    """

    def __init__(
        self,
        folder: RunFolder,
        session: int,
        provenance: Provenance,
        *,
        merge_every: int = 256,
        lease_seconds: float | None = None,
        waiting: Callable[[str], None] = lambda _: None,
    ) -> None:
        if session < 1 or merge_every < 2:
            raise ValueError(f"session {session} must be >= 1, merge_every {merge_every} >= 2")
        self._folder, self._remote = folder, folder.remote
        self._merge_every = merge_every
        self._schema = schema_for(folder.info.metrics)
        self._mutex = system().mutex()
        self._closed = False
        self._lease: Lease | None = None
        self._behind: dict[str, bytes] = {}  # stored, and not yet in the working copy
        with self._told():
            folder.results.mkdir(exist_ok=True)
            self._lock = FileLock(folder.lock)
        try:
            for temp in folder.results.glob(f"{TEMP_PREFIX}*"):
                temp.unlink(missing_ok=True)
            with self._told():
                self._log = self._begin(session, lease_seconds, waiting)
            self._session = self._log.epoch
            self._single = sum(f.appends == 1 for f in self._fragments())
            self._same = {
                "run": folder.info.run,
                "experiment": folder.info.fingerprint,
                "session": self._session,
                "host": provenance.host,
                "git": provenance.git,
                "versions": provenance.versions_text,
            }
        except BaseException:
            self._give_back()
            raise

    def _begin(
        self, session: int, lease_seconds: float | None, waiting: Callable[[str], None]
    ) -> FragmentLog:
        if self._remote is None:
            storage = LocalStorage(self._folder.path)
            before = snapshot(storage).manifest
            log = FragmentLog(
                storage, max(session, before.epoch if before else 0), None,
                shown=str(self._folder.path),
            )  # fmt: skip
            log.begin()
            return log
        self._lease = Lease(self._remote, session, lease_seconds or longest_silence(), waiting)
        fetch_into(self._folder.path, self._remote.uri)
        epoch = self._lease.epoch
        seals = EpochSeals(seal(self._schema, epoch), sealed_by)
        log = FragmentLog(self._remote, epoch, seals, GRACE_SECONDS, self._remote.shown)
        with self._lost_to():
            copy_results(self._folder.path, self._remote, log.begin())
        return log

    def _give_back(self) -> None:
        try:
            if self._lease is not None:
                self._lease.release()
        finally:
            self._lock.release()

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Store rows as one fragment; once this method returns they are on the disk.

        Args:
            rows: One mapping from column to value for each row. Missing values of run, experiment,
                session, host, git, versions and time are filled in. Other missing values become
                null, where the column may be null.

        Raises:
            ValueError: A key is unknown or missing, or a value has the wrong type. No row is
                stored.
            ValueError: The writer is closed.
            UserError: The disk or the storage refuses. All earlier rows are safe.
        """
        if not rows:
            return
        table = self._table(rows)
        with self._mutex:
            if self._closed:
                raise ValueError("the writer is closed")
            with self._told():
                self._add(parquet(table, small=table.num_rows < 256))
            if self._single >= self._merge_every:
                self._single = 0
                with contextlib.suppress(UserError):  # the rows are stored; merging can wait
                    self._merge(_recent)

    def _add(self, data: memoryview) -> None:
        """Store in the run's storage first: the working copy never has more than the storage."""
        self._expect_folder()
        with self._lost_to():
            if self._lease is not None:
                self._lease.check()
            added = self._log.append(bytes(data))
        self._single += len(added)
        if self._remote is not None:
            self._behind |= added
            self._catch_up()
        with contextlib.suppress(OSError):  # what does not count can stay
            self._log.clean()

    def _catch_up(self) -> None:
        """Write fragments that are in the storage, but not yet in the working copy."""
        for name, data in list(self._behind.items()):
            write_whole(self._folder.results / name, data)
            del self._behind[name]

    def check(self) -> None:
        """Check, before a result is published, that the rows still count.

        Raises:
            TakenOver: Another writer has the run, so that the last rows may not count.
            UserError: The storage refuses, or the folder is gone.
        """
        with self._told():
            self._expect_folder()
        if self._lease is not None:
            with self._told(), self._lost_to():
                self._lease.check(at_once=True)
                self._log.verify()

    def compact(self) -> None:
        """Merge all fragments into one; no row is lost, changed or moved before another.

        Raises:
            UserError: A fragment is torn or the disk refuses. All rows are safe.
            ValueError: The writer is closed.
        """
        with self._mutex:
            if self._closed:
                raise ValueError("the writer is closed")
            self._merge(list)
            self._single = 0

    def close(self) -> None:
        """Merge the fragments if possible, and release the lock; a second call does nothing."""
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

    def _fragments(self) -> list[Fragment]:
        """Return the fragments that count, in the order of their rows."""
        return [fragment_at(self._folder.results / name) for name in self._log.fragments]

    def _merge(self, choose: Callable[[list[Fragment]], list[Fragment]]) -> None:
        """Merge the fragments that ``choose`` takes from the end of the list."""
        with self._told(), self._lost_to():
            self._expect_folder()
            chosen = choose(self._fragments())
            if len(chosen) < 2:
                return
            self._catch_up()
            self._bring(chosen)
            table = join([read_fragment(f.path) for f in chosen], self._schema)
            data = parquet(table, small=False)
            names = [f.path.name for f in chosen]
            name = self._log.merge(names, data)
            if self._remote is not None:
                self._replace(name, data, names)
            self._log.clean()

    def _bring(self, fragments: Sequence[Fragment]) -> None:
        """Fetch fragments that only the storage has, after a publication that seemed to fail."""
        for fragment in fragments:
            if self._remote is not None and not fragment.path.exists():
                place = fragment.path.relative_to(self._folder.path).as_posix()
                write_whole(fragment.path, self._remote.read(place))

    def _replace(self, name: str, data: memoryview, gone: Sequence[str]) -> None:
        """Repeat in the working copy what a merge did in the storage."""
        results, manifest = self._folder.results, self._log.manifest
        write_whole(results / name, data)
        write_whole(results / manifest_name(manifest.version), manifest.to_json())
        for old in (manifest_name(manifest.version - 1), *gone):
            (results / old).unlink(missing_ok=True)

    def _expect_folder(self) -> None:
        """Check that the run folder was not moved, removed or replaced.

        Raises: UserError when the folder was removed, moved or replaced; OSError.
        """
        if self._lock.in_place():
            return
        hint = "go on with: raynas resume FOLDER, where the folder is now"
        if self._remote is not None:
            hint = f"go on with: raynas resume {self._folder.place}"
        raise UserError(
            f"run folder {self._folder.path} was removed or moved while it was being written",
            hint=hint,
        )

    @property
    def session(self) -> int:
        """The session of this writer, which its rows carry.

        Returns:
            The session, from 1; the epoch of the run's manifest.
        """
        return self._session

    @contextlib.contextmanager
    def _lost_to(self) -> Iterator[None]:
        """Raise an error that names the other writer, if the storage shows that there is one."""
        try:
            yield
        except TakenOver:
            if self._lease is None:
                raise
            raise self._lease.taken_over() from None

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Turn an error of the system into one line that says what is safe and how to go on."""
        try:
            yield
        except OSError as error:
            raise UserError(
                f"results cannot be stored in {self._folder.results}: {reason(error)}; "
                "every row stored before is safe",
                hint=f"{what_helps(error)}, then go on with: raynas resume {self._folder.path}",
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
