"""The one writer of a run: appends whole fragments, merges them from time to time.

:mod:`raynas.store.fragment_log` says what is stored in which order, so that a crash between any two
steps loses no row and counts none twice. In a local run other readers of the folder, as DuckDB, see
the rows of merged fragments twice for some milliseconds, or find one gone that they have just
listed: they read again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

import pyarrow as pa

from raynas.core import TrialState, UserError
from raynas.store.files import TEMP_PREFIX, Lock, reason, what_helps, write_whole
from raynas.store.fragment_log import GRACE_SECONDS, FragmentLog, Seals
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
from raynas.store.remote import copy_results, fetch_into
from raynas.store.run import RunFolder
from raynas.store.schema import STAGES, schema_for
from raynas.store.system import system

_ALLOWED = {"state": frozenset(TrialState), "stage": frozenset(STAGES)}


class Writer:
    """Appends rows to a run; holds its lock until ``close`` or the end of the process.

    ``session``: 1 for the first start, ``next_session(read(folder))`` for a resume; higher where
    the storage of the run knows of a later one.
    A run that lives elsewhere (see ``RunFolder.remote``) is written there first, under a lease that
    ends after ``lease_seconds`` of silence (None: ``$RAYNAS_LEASE_SECONDS``, or 60). ``waiting`` is
    told in words when this takes long, since an earlier writer may be alive.
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
            self._lock = Lock(folder.lock)
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
        seals = Seals(seal(self._schema, epoch), sealed_by)
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
                self._add(parquet(table, small=table.num_rows < 256))
            if self._single >= self._merge_every:
                self._single = 0
                with contextlib.suppress(UserError):  # the rows are stored; merging can wait
                    self._merge(_recent)

    def _add(self, data: memoryview) -> None:
        """First where the run lives: what is here is never more than what is there."""
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
        """Bring the working copy what the storage has."""
        for name, data in list(self._behind.items()):
            write_whole(self._folder.results / name, data)
            del self._behind[name]

    def check(self) -> None:
        """Before what the rows amount to is published.

        Raises: TakenOver when another writer has the run, so that the last rows may not count;
        UserError when the storage refuses, or the folder is gone.
        """
        with self._told():
            self._expect_folder()
        if self._lease is not None:
            with self._told(), self._lost_to():
                self._lease.check(at_once=True)
                self._log.verify()

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

    def _fragments(self) -> list[Fragment]:
        """Those that count, in the order of their rows."""
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
        """What a publication left there that seemed to have failed may not be here."""
        for fragment in fragments:
            if self._remote is not None and not fragment.path.exists():
                place = fragment.path.relative_to(self._folder.path).as_posix()
                write_whole(fragment.path, self._remote.read(place))

    def _replace(self, name: str, data: memoryview, gone: Sequence[str]) -> None:
        """In the working copy, as it was done in the storage."""
        results, manifest = self._folder.results, self._log.manifest
        write_whole(results / name, data)
        write_whole(results / manifest_name(manifest.version), manifest.to_json())
        for old in (manifest_name(manifest.version - 1), *gone):
            (results / old).unlink(missing_ok=True)

    def _expect_folder(self) -> None:
        """See that what is written goes to the run, not to a new folder in its place.

        Raises: UserError when the folder was removed, moved or replaced; OSError.
        """
        if self._lock.in_place():
            return
        cure = "go on with: raynas resume FOLDER, where the folder is now"
        if self._remote is not None:
            cure = f"go on with: raynas resume {self._folder.place}"
        raise UserError(
            f"run folder {self._folder.path} was removed or moved while it was being written",
            cure=cure,
        )

    @property
    def session(self) -> int:
        return self._session

    @contextlib.contextmanager
    def _lost_to(self) -> Iterator[None]:
        """Say who has the run, where the storage shows that another has it."""
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
                cure=f"{what_helps(error)}, then go on with: raynas resume {self._folder.path}",
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
