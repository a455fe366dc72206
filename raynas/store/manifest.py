"""This module defines which fragments of a result table count, and in which order.

Every append takes the next *slot* of its writer's epoch: the file ``EPOCH-NUMBER.parquet``, which
is only ever created, never replaced. Numbers continue over epochs. A manifest says which files
count:

* those it lists, in the order of their rows: merged appends, and appends of earlier epochs,
* then the slots of one open epoch, from a first number on, up to the first that is empty.

Manifests have versions that count up. Each is created only if its version does not exist, so there
is one chain of them. A writer that takes a run over first puts a *seal*, a fragment without rows,
into the next slot of the open epoch. From then on an append of the earlier writer meets a taken
slot and fails, and a row that was acknowledged to it lies before the seal. Then it creates the
manifest that opens the new epoch. Files that the newest manifest does not name may be removed, the
oldest manifests first.

No listing is trusted to be current: the next slot and the next version are asked for by name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from raynas.core import UserError
from raynas.core.printable import brief
from raynas.store import older
from raynas.store.older import FragmentName, parsed
from raynas.store.storage import FileStat
from raynas.store.system import system

FOLDER = "results"
TORN = ".torn"
"""The suffix of a fragment that the user has moved away: its rows are measured again."""

_MANIFEST = re.compile(r"_manifest-(\d{8,})\.json")
_TRIES = 50
_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.2  # seconds


class FragmentSource(Protocol):
    """The methods of a storage that a reader needs; see :class:`raynas.store.storage.Storage`."""

    def read(self, name: str) -> bytes:
        """Return the contents of a file; see :meth:`raynas.store.storage.Storage.read`."""

    def stats(self, folder: str = "") -> dict[str, FileStat]:
        """List all files below a folder; see :meth:`raynas.store.storage.Storage.stats`."""


@dataclass(frozen=True)
class Manifest:
    """A list of the fragments that count, as one writer published it.

    Attributes:
        version: The number of the manifest, from 1; the highest counts.
        epoch: The writer's epoch; its slots are open.
        fragments: File names in the order of their rows, before those of the open epoch.
        first: The number of the first slot of the open epoch.
        seals: Slots that are never removed, so that no earlier writer finds them empty.
    """

    version: int
    epoch: int
    fragments: tuple[str, ...] = ()
    first: int = 1
    seals: tuple[str, ...] = ()

    def to_json(self) -> bytes:
        """Return the contents of the manifest's file."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        """Return the manifest that a file holds.

        Args:
            data: The contents of the file.

        Returns:
            The manifest.

        Raises:
            ValueError: ``to_json`` did not write ``data``.

        Example:
            >>> Manifest.from_json(Manifest(version=1, epoch=1).to_json()).first
            1
        """
        try:
            found: dict[str, Any] = json.loads(data)
            numbers = [found[name] for name in ("version", "epoch", "first")]
            files = [found[name] for name in ("fragments", "seals")]
        except (KeyError, TypeError, IndexError, RecursionError) as error:
            raise ValueError(f"a manifest lacks {error}") from None
        for number in numbers:
            if type(number) is not int or not 0 <= number < 2**62:
                raise ValueError(f"{brief(number)} is not a number of a manifest")
        for names in files:
            if not isinstance(names, list):
                raise ValueError(f"{brief(names)} is not a list of fragments")
            for name in names:
                if not isinstance(name, str) or parsed(name) is None:
                    raise ValueError(f"{brief(name)} is not the name of a fragment")
        version, epoch, first = numbers
        return cls(version, epoch, tuple(files[0]), first, tuple(files[1]))


def manifest_name(version: int) -> str:
    """Return the file name of a manifest in the results folder; other readers of Parquet ignore it.

    Args:
        version: The manifest's version.

    Returns:
        The file name.
    """
    return f"_manifest-{version:08d}.json"


def version_of(name: str) -> int | None:
    """Return the version that a manifest's file name states.

    Args:
        name: A file name.

    Returns:
        The version; None for another file.
    """
    match = _MANIFEST.fullmatch(name)
    return int(match[1]) if match else None


@dataclass(frozen=True)
class Snapshot:
    """The fragments that count at one moment.

    Attributes:
        manifest: The newest manifest; None for a run of an older raynas, which wrote none.
        names: Names of the fragments, in the order of their rows.
        next: The number of the first empty slot of the open epoch.
        found: Contents that were read on the way, by name.
        listed: All files of the results folder, by name, from a listing.
    """

    manifest: Manifest | None
    names: tuple[str, ...]
    next: int
    found: Mapping[str, bytes] = field(default_factory=dict)
    listed: Mapping[str, FileStat] = field(default_factory=dict)


class _Again(Exception):
    """The files changed while they were looked at, or a listing was old."""


def snapshot(source: FragmentSource, listed: Mapping[str, FileStat] | None = None) -> Snapshot:
    """Determine which fragments count.

    Args:
        source: A storage; the results lie in its folder ``results``.
        listed: All its files, if they were just listed.

    Returns:
        The fragments that count.

    Raises:
        UserError: A fragment that counts is still missing after many tries, or the newest manifest
            cannot be read.
        OSError: The storage refuses.
    """
    why = ""
    for patience in attempts():
        names = _here(source.stats(FOLDER) if listed is None or patience else listed)
        try:
            return _look(source, names)
        except _Again as error:
            why = str(error)
    raise unsettled(why)


def attempts() -> Iterable[int]:
    """Yield the numbers of tries from 0, with ever longer pauses between them.

    Yields:
        0 to 49. The pauses grow from 1 ms to 0.2 s.
    """
    pause = _FIRST_PAUSE
    for number in range(_TRIES):
        if number:
            system().sleep(pause)
            pause = min(1.5 * pause, _LONGEST_PAUSE)
        yield number


def unsettled(why: str) -> UserError:
    """Return the error for results that keep changing, or that lack a fragment.

    Args:
        why: The reason of the last failed try.

    Returns:
        The error, to be raised by the caller.
    """
    return UserError(
        f"the results cannot be read as a whole: {why}",
        hint="try again in a moment; where a fragment was lost for good, make an empty file of its "
        f"name with {TORN} behind it: its rows are measured again by raynas resume",
    )


def newest_version(listed: Iterable[str]) -> int:
    """Return the version of the newest manifest in a listing.

    Args:
        listed: Names of files of a run, with or without the folder ``results``.

    Returns:
        The version; 0 without any manifest.
    """
    versions = (version_of(name.removeprefix(f"{FOLDER}/")) for name in listed)
    return max((v for v in versions if v is not None), default=0)


def _here(listed: Mapping[str, FileStat]) -> dict[str, FileStat]:
    start = len(FOLDER) + 1
    return {n[start:]: stat for n, stat in listed.items() if n.startswith(f"{FOLDER}/")}


def _look(source: FragmentSource, listed: dict[str, FileStat]) -> Snapshot:
    newest = newest_version(listed)
    if not newest and _try(source, manifest_name(1)) is None:
        return _without_manifest(source, listed)
    manifest, begun = _newest(source, newest or 1), newest or 1
    slots, found, end = _slots(source, manifest, listed)
    if _try(source, manifest_name(manifest.version + 1)) is not None:
        raise _Again("a writer publishes what counts faster than it can be read")
    # The oldest are removed first. So while this one is there, none above it was removed.
    if _try(source, manifest_name(begun)) is None:
        raise _Again("the listing of the results is old")
    names = (*(n for n in manifest.fragments if n + TORN not in listed), *slots)
    return Snapshot(manifest, names, end, found, listed)


def _newest(source: FragmentSource, version: int) -> Manifest:
    data = _try(source, manifest_name(version))
    if data is None:
        raise _Again("the listing of the results is old")
    while (later := _try(source, manifest_name(version + 1))) is not None:
        data, version = later, version + 1
    try:
        return Manifest.from_json(data)
    except ValueError as error:
        raise UserError(
            f"{FOLDER}/{manifest_name(version)} cannot be read: {error}",
            hint="restore it from a copy",
        ) from None


def _slots(
    source: FragmentSource, manifest: Manifest, listed: Mapping[str, FileStat]
) -> tuple[list[str], dict[str, bytes], int]:
    """The open epoch's slots that are taken, contents met on the way, the first empty number."""
    slots: list[str] = []
    found: dict[str, bytes] = {}
    number = manifest.first
    while True:
        name = FragmentName(manifest.epoch, number).text
        if name + TORN not in listed:
            if name not in listed:
                data = _try(source, name)
                if data is None:
                    break
                found[name] = data
            slots.append(name)
        number += 1
    later = [
        name
        for name in listed
        if (n := parsed(name)) and n.session == manifest.epoch and not n.merged and n.first > number
    ]
    if later:
        lost = FragmentName(manifest.epoch, number).text
        raise _Again(f"fragment {lost} is missing, and {min(later)} is there")
    return slots, found, number


def _without_manifest(source: FragmentSource, listed: dict[str, FileStat]) -> Snapshot:
    """A run that an older raynas wrote, or one that nobody has written yet."""
    again = _here(source.stats(FOLDER))
    if any(version_of(name) for name in again):
        raise _Again("a writer has just begun")
    before = older.CountedFragments.of(listed)
    counted = older.CountedFragments.of(again)
    if counted.gaps != before.gaps or (before.names and not counted.names):
        raise _Again("a merge is under way")
    return Snapshot(None, counted.names, counted.end + 1, {}, again)


def _try(source: FragmentSource, name: str) -> bytes | None:
    try:
        data: bytes = source.read(f"{FOLDER}/{name}")
    except FileNotFoundError:
        return None
    return data


def numbers(names: Sequence[str]) -> int:
    """Return the highest append number in the names of fragments.

    Args:
        names: File names. Those that are not fragments are ignored.

    Returns:
        The number; 0 without any fragment.
    """
    return max((n.last for name in names if (n := parsed(name))), default=0)
