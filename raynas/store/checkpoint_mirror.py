"""A trial's folder on a worker, kept equal to a folder of the run's storage."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from raynas.store.files import (
    TEMP_PREFIX,
    read_object,
    write_whole,
)
from raynas.store.remote import RemoteFolder


def folder_name(trial: int) -> str:
    """Return the name of a trial's folder among the checkpoints.

    Args:
        trial: The number of the trial.

    Returns:
        The number with at least six digits.
    """
    return f"{trial:06d}"


_MIRRORED = f"{TEMP_PREFIX}mirror.json"
Mark = tuple[int, int]
"""Size (bytes) and modification time (ns) of a local file; they change when it is rewritten."""


class CheckpointMirror:
    """A trial's folder on a worker, kept equal to a folder of the run's storage.

    Call ``pull`` before work begins, and ``push`` whenever files may have changed. A file named
    ``state.json`` is transferred after its neighbours, since it says that they are complete.
    """

    def __init__(self, folder: Path, remote: RemoteFolder) -> None:
        self.folder, self.remote = folder, remote
        self._pushed: dict[str, Mark] = {}

    def pull(self) -> None:
        """Make the folder equal to the storage: fetch changed files, remove those not stored.

        Raises:
            OSError: The storage or the disk refuses.
        """
        record = read_object(self.folder / _MIRRORED)
        here, there = dict(self._here()), self.remote.stats()
        for name in sorted(set(here) - set(there), key=_state_first):
            (self.folder / name).unlink(missing_ok=True)
        known: dict[str, list[Any]] = {}
        for name in sorted(there, key=_state_last):
            stat, place = there[name], self.folder / name
            if name not in here or record.get(name) != [stat.size, stat.tag, *here[name]]:
                data = self.remote.read(name)
                place.parent.mkdir(parents=True, exist_ok=True)
                write_whole(place, data)
            known[name] = [stat.size, stat.tag, *_mark(place)]
        self._drop_empty()
        if known:
            write_whole(self.folder / _MIRRORED, json.dumps(known).encode())
        self._pushed = dict(self._here())

    def _drop_empty(self) -> None:
        """Remove empty folders, which a storage does not have."""
        folders = [p for p in self.folder.rglob("*") if p.is_dir()]
        for place in sorted(folders, key=lambda p: len(p.parts), reverse=True):
            with contextlib.suppress(OSError):
                place.rmdir()

    def push(self) -> None:
        """Store new and changed files, then remove from the storage what was removed here.

        Raises:
            OSError: The storage or the disk refuses.
        """
        here = dict(self._here())
        changed = [name for name, mark in here.items() if self._pushed.get(name) != mark]
        for name in sorted(changed, key=_state_last):
            self.remote.write(name, (self.folder / name).read_bytes())
        for name in sorted(set(self._pushed) - set(here), key=_state_first):
            self.remote.remove(name)
        self._pushed = here

    def _here(self) -> Iterator[tuple[str, Mark]]:
        for place in self.folder.rglob("*"):
            with contextlib.suppress(FileNotFoundError):
                if place.is_file() and not place.name.startswith(".tmp"):
                    yield place.relative_to(self.folder).as_posix(), _mark(place)


def _state_last(name: str) -> tuple[bool, str]:
    return name.endswith("state.json"), name


def _state_first(name: str) -> tuple[bool, str]:
    return not name.endswith("state.json"), name


def _mark(place: Path) -> Mark:
    stat = place.stat()
    return stat.st_size, stat.st_mtime_ns
