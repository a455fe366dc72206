"""The folder of a run."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from raynas.core import UserError
from raynas.core.printable import printable
from raynas.store.checkpoint_mirror import CheckpointMirror, folder_name
from raynas.store.claims import newest
from raynas.store.files import LOCK_FILE, TEMP_PREFIX, FileLock, lock_holder, reason, write_whole
from raynas.store.lease import writer_of
from raynas.store.remote import RemoteFolder
from raynas.store.run_info import RunInfo, changed_settings
from raynas.store.run_source import PICKLE
from raynas.store.schema import check_metrics, refuse_newer
from raynas.store.working_copies import (
    FETCH_LOCK,
    FETCHED,
    URI_FILE,
    is_working_copy,
    look,
    note_uri,
    remote_of,
)

RUN_FILE = "run.json"
_FOLDERS = ("results", "checkpoints", "best", "figures")
_OWN = {*_FOLDERS, "experiment.py", PICKLE, LOCK_FILE, FETCH_LOCK, FETCHED, URI_FILE}


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run; get one by ``RunFolder.create`` or ``RunFolder.open``.

    All paths are absolute. If the run lives elsewhere (``remote`` is not None), the folder is a
    working copy.

    Attributes:
        path: The path of the folder.
        info: The identity of the run.
    """

    path: Path
    info: RunInfo

    @cached_property
    def remote(self) -> RemoteFolder | None:
        """The storage in which the run lives.

        Returns:
            The storage, or None for a run that lives in this folder.
        """
        return remote_of(self.path)

    @property
    def place(self) -> str:
        """The location of the run as a user names it.

        Returns:
            The path, or the URI without secrets.
        """
        return self.remote.shown if self.remote else str(self.path)

    def publish(self, *files: Path) -> None:
        """Copy files to the run's storage; does nothing for a run that lives in this folder.

        Args:
            *files: Files, and folders whose files are all copied.

        Raises:
            UserError: The storage refuses.
        """
        if self.remote is None:
            return
        found = [p for f in files for p in (f.rglob("*") if f.is_dir() else [f]) if p.is_file()]
        try:
            for file in found:
                self.remote.write(file.relative_to(self.path).as_posix(), file.read_bytes())
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def workdir(self, trial: int) -> Path:
        """Return the folder with a trial's files as its last job left them.

        The files are fetched if the run lives elsewhere.

        Args:
            trial: The number of the trial.

        Returns:
            The folder. It may not exist.

        Raises:
            UserError: The storage refuses.
        """
        folder = self.trial_folder(trial)
        if self.remote is not None:
            try:
                return self._fetched(self.remote, folder)
            except OSError as error:
                raise _unreadable(folder, error) from error
        names = [place.name for place in folder.iterdir()] if folder.is_dir() else []
        return folder / (newest(names) or "")

    def trial_folder(self, trial: int) -> Path:
        """Return the folder that holds the files of all jobs of a trial.

        Args:
            trial: The number of the trial.

        Returns:
            The folder. It may not exist.
        """
        return self.checkpoints / folder_name(trial)

    def _fetched(self, remote: RemoteFolder, folder: Path) -> Path:
        """Earlier versions kept files in the trial's folder itself, or in one for each session."""
        names = remote.names(self.checkpoints.name)
        kept = {n.partition(f"/{folder.name}/")[0] for n in names if f"/{folder.name}/" in n}
        place = f"{max(kept, default=self.checkpoints.name)}/{folder.name}"
        inner = [n[len(place) + 1 :].partition("/")[0] for n in names if n.startswith(f"{place}/")]
        last = newest(inner) or ""
        CheckpointMirror(folder / last, remote.below(f"{place}/{last}".rstrip("/"))).pull()
        return folder / last

    @property
    def results(self) -> Path:
        """The folder of the result table's fragments."""
        return self.path / "results"

    @property
    def checkpoints(self) -> Path:
        """The folder of the trials' checkpoints."""
        return self.path / "checkpoints"

    @property
    def best(self) -> Path:
        """The folder of the exported best networks."""
        return self.path / "best"

    @property
    def figures(self) -> Path:
        """The folder of the report's figures."""
        return self.path / "figures"

    @property
    def supernet(self) -> Path:
        """The folder of the weights that the search's architectures inherit.

        Returns:
            The folder. It exists only if the run has trained such weights.
        """
        return self.path / "supernet"

    @property
    def report(self) -> Path:
        """The path of the report."""
        return self.path / "report.html"

    @property
    def source(self) -> Path:
        """The experiment's source as it was when the run was created."""
        return self.path / "experiment.py"

    @property
    def pickled(self) -> Path:
        """The experiment itself, where ``source`` loads it.

        Returns:
            The path of the file. It exists only if no source can make the experiment.
        """
        return self.path / PICKLE

    @property
    def run_file(self) -> Path:
        """The path of ``run.json``."""
        return self.path / RUN_FILE

    @property
    def lock(self) -> Path:
        """The path of the writer's lock."""
        return self.path / LOCK_FILE

    @classmethod
    def create(
        cls, path: Path | str, info: RunInfo, source_text: str, uri: str = "", pickled: bytes = b""
    ) -> RunFolder:
        """Create the folder of a new run; an empty folder at ``path`` is used.

        ``run.json`` is written last, so a folder with that file is complete. What a crash left of
        an earlier ``create`` is used, too.

        Args:
            path: The path of the folder. If ``uri`` is given, the path of the working copy.
            info: The identity of the run.
            source_text: The experiment's source.
            uri: The location where the run is to live; empty for a run that lives at ``path``.
            pickled: The contents of ``experiment.pkl``; empty if the source needs no such file.

        Returns:
            The folder of the run.

        Raises:
            UserError: The folder or the storage holds something else already.
            UserError: The folder cannot be written, or another process is creating a run there.
            UserError: The name of a metric is taken by another column.
        """
        folder = cls(_absolute(path), info)
        check_metrics(info.metrics)
        _refuse_taken(folder.path)
        try:
            folder.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder.lock)
            try:
                _refuse_taken(folder.path)  # another process may have been quicker
                for name in _FOLDERS:
                    (folder.path / name).mkdir(exist_ok=True)
                if uri:
                    _begin(RemoteFolder(uri), source_text, info, pickled)
                    note_uri(folder.path, uri)
                if pickled:
                    write_whole(folder.pickled, pickled)
                write_whole(folder.source, source_text.encode())
                write_whole(folder.run_file, info.to_json().encode())
            finally:
                lock.release()
        except OSError as error:
            raise _unwritable(folder.path, error) from error
        return folder

    @classmethod
    def open(cls, path: Path | str) -> RunFolder:
        """Return the folder of an existing run.

        Args:
            path: The path of the folder.

        Returns:
            The folder with the identity that its ``run.json`` states.

        Raises:
            UserError: The path is not the folder of a run.
            UserError: ``run.json`` cannot be read, or has a newer schema version.
        """
        path = _absolute(path)
        file = path / RUN_FILE
        try:
            text = file.read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            raise _no_run(path) from None
        except (OSError, UnicodeDecodeError) as error:
            raise _unreadable(file, error) from error
        _refuse_newer(file, text)
        try:
            return cls(path, RunInfo.from_json(text))
        except (ValueError, TypeError, KeyError) as error:
            raise _unreadable(file, error) from error

    def update(self, *, overrides: Mapping[str, Any], description: Any) -> RunFolder:
        """The folder with these in its ``run.json``: a resumed run has another budget.

        Raises: UserError when the file cannot be written.
        """
        info = replace(self.info, overrides=overrides, description=description)
        try:
            more = {"source": self.source.read_text(encoding="utf-8")} if self.remote else {}
            write_whole(self.run_file, info.to_json(**more).encode())
        except OSError as error:
            raise _unwritable(self.path, error) from error
        self.publish(self.run_file)
        return RunFolder(self.path, info)

    def expect(self, fingerprint: str, description: Any = None) -> None:
        """Check that the run belongs to an experiment.

        Args:
            fingerprint: The fingerprint of the experiment.
            description: The experiment's settings. If given, the error names the first that differ.

        Raises:
            UserError: The run belongs to an experiment with another fingerprint.
        """
        if fingerprint == self.info.fingerprint:
            return
        changes = (
            [] if description is None else changed_settings(self.info.description, description)
        )
        shown = f" ({', '.join(changes[:3])}{', ...' if len(changes) > 3 else ''})"
        raise UserError(
            f"run folder {self.path} belongs to another experiment: fingerprint "
            f"{self.info.fingerprint}, not {fingerprint}{shown if changes else ''}",
            hint="undo the change, or give a new folder with --output",
        )

    def live_writer(self) -> int | None:
        """Return the process on this machine that is writing this run.

        Returns:
            The process id; None if there is none, -1 if it is not known.
        """
        return lock_holder(self.lock)

    @cached_property
    def asked(self) -> RemoteFolder | None:
        """The storage that may be contacted without further words of the user.

        Returns:
            The storage. None for a run that lives here. None also for a copied folder that only
            names a storage: the author of that file is not known, and the storage may be anyone's.
        """
        return self.remote if self.remote and is_working_copy(self.path, self.remote) else None

    def driver(self) -> str:
        """Return the process that is writing this run, on this machine or another, in words.

        Returns:
            The process in words; empty if no process is writing the run.

        Raises:
            OSError: The storage does not answer, or may not be contacted (see ``asked``).
        """
        if (here := self.live_writer()) is not None:
            return f"process {here}"
        if self.asked is None and self.remote is not None:
            raise OSError(f"storage {self.remote.shown} was not contacted")
        return "" if self.asked is None else writer_of(self.asked)

    def refresh(self) -> RunFolder:
        """Return the run as it is now; of a run that lives elsewhere, new files are fetched.

        Returns:
            This folder for a run that lives here, else the up-to-date working copy.

        Raises:
            UserError: The storage cannot be read.
        """
        return self if self.asked is None else RunFolder.open(look(self.asked.uri))


def runs_in(parent: Path | str) -> list[Path]:
    """Return the run folders directly in a folder.

    Args:
        parent: The folder, which may not exist.

    Returns:
        Paths sorted by name; empty if there are none, or the folder cannot be read.
    """
    try:
        return sorted(p.parent for p in Path(parent).glob(f"*/{RUN_FILE}"))
    except OSError:
        return []


def _absolute(path: Path | str) -> Path:
    return Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100 - keeps symbolic links


def _begin(remote: RemoteFolder, source_text: str, info: RunInfo, pickled: bytes) -> None:
    """Create the run in its storage; ``run.json``, with the source in it, decides whose it is.

    Raises: UserError when something already exists; OSError.
    """
    # a raynas that was killed here may have left only the source
    if there := remote.names().keys() - {"experiment.py", PICKLE}:
        raise _taken(remote, "a run" if RUN_FILE in there else "other files")
    try:
        remote.create(RUN_FILE, info.to_json(source=source_text).encode())
    except FileExistsError:
        raise _taken(remote, "a run") from None
    if pickled:
        remote.write(PICKLE, pickled)
    remote.write("experiment.py", source_text.encode())


def _taken(remote: RemoteFolder, what: str) -> UserError:
    return UserError(
        f"{remote.shown} already holds {what}",
        hint=f"raynas resume {remote.shown}, or give another location with --output",
    )


def _refuse_taken(path: Path) -> None:
    """Check that ``path`` is free. Raises: UserError if a file, a run or other files are there."""
    other = "give another folder with --output"
    try:
        names = {entry.name for entry in path.iterdir()}
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise UserError(
            f"run folder {path} cannot be created: a file has its path", hint=other
        ) from None
    except OSError as error:
        raise _unwritable(path, error) from error
    if RUN_FILE in names:
        raise UserError(
            f"run folder {path} already exists",
            hint=f"go on with: raynas resume {path}; or {other}",
        )
    unfinished = LOCK_FILE in names  # the first thing that create() makes
    foreign = {n for n in names - _OWN if not n.startswith(TEMP_PREFIX)} if unfinished else names
    foreign |= {f"{n}/{p.name}" for n in _FOLDERS for p in (path / n).glob("*")}
    if foreign:
        raise UserError(f"folder {path} holds other files: {sorted(foreign)[0]}", hint=other)


def _refuse_newer(file: Path, text: str) -> None:
    try:
        version = json.loads(text)["schema_version"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return  # the reader of the whole says what is wrong
    if isinstance(version, int):
        refuse_newer(file, version)


def _no_run(path: Path) -> UserError:
    problem = "does not exist" if not path.exists() else f"is not a run folder (no {RUN_FILE})"
    beside = [run.name for run in runs_in(path.parent)]
    hint = f"the runs in {path.parent} are {', '.join(beside[-12:])}" if beside else ""
    return UserError(f"{path} {problem}", hint=hint or "start a run with: raynas run FILE.py")


def _unreadable(file: Path, error: Exception) -> UserError:
    refused = isinstance(error, OSError)
    why = reason(error) if isinstance(error, OSError) else printable(str(error))[:300]
    return UserError(
        f"{file} cannot be read: {why}",
        hint="make it readable" if refused else "restore it from a copy, or start a new run",
    )


def _unwritable(path: Path, error: OSError) -> UserError:
    return UserError(
        f"run folder {path} cannot be written: {reason(error)}",
        hint="make it writable, or give another folder with --output",
    )
