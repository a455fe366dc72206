"""This module appends, merges and removes the fragments of a run, for the writer of one epoch.

It does not look into the contents. :mod:`raynas.store.manifest` defines which files count.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from raynas.store.lease import TakenOver
from raynas.store.manifest import (
    FOLDER,
    Manifest,
    Snapshot,
    attempts,
    manifest_name,
    newest_version,
    snapshot,
    unsettled,
    version_of,
)
from raynas.store.older import FragmentName, expect_fragments, parsed
from raynas.store.storage import Bytes, FileStat, Storage
from raynas.store.system import system

GRACE_SECONDS = 30.0
"""Time that a file which no longer counts stays on shared storage, for readers that use it."""


@dataclass(frozen=True)
class EpochSeals:
    """The means to close the slots of an earlier epoch.

    Attributes:
        data: The contents of this writer's seal.
        epoch_of: A function from the contents of a fragment to the epoch of the writer whose seal
            it is, or to None.
    """

    data: Bytes
    epoch_of: Callable[[bytes], int | None]


class FragmentLog:
    """The one writer's view of the fragments on one storage; not safe for several threads at once.

    Args:
        storage: The run's storage.
        epoch: The writer's epoch. No other process ever has the same one, except where a lock of
            the operating system excludes other writers (then ``seals`` is None).
        seals: The means to close earlier epochs; None where no earlier writer can be alive.
        grace: The time that files stay after they no longer count, in seconds.
        shown: The run's location, for error messages.
    """

    def __init__(
        self,
        storage: Storage,
        epoch: int,
        seals: EpochSeals | None,
        grace: float = 0.0,
        shown: str = "",
    ) -> None:
        self._storage, self.epoch, self._seals = storage, epoch, seals
        self._grace, self._shown = grace, shown
        self._slots: list[str] = []
        self._number = 0
        self._tried: list[bytes] = []  # contents that the next slot may hold, or come to hold
        self._publishing = False  # a manifest of this writer may be there, or come yet
        self._waiting: deque[tuple[float, Manifest]] = deque()  # when what it omits may be removed
        self._manifest = Manifest(0, 0)

    # -- beginning -----------------------------------------------------------------------------

    def begin(self) -> Snapshot:
        """Take over the fragments that count, and open this epoch.

        Returns:
            The fragments that count now.

        Raises:
            TakenOver: A later epoch has begun.
            UserError: The results cannot be read as a whole, or hold files that are not of raynas.
            OSError: The storage refuses.
        """
        for _ in attempts():
            seen = snapshot(self._storage)
            expect_fragments(seen.listed, f"{self._shown}/{FOLDER}")
            if self._open(seen):
                self._collect(seen.manifest)
                return replace(seen, manifest=self._manifest, names=self.fragments)
        raise unsettled("several writers begin at once")

    def _open(self, seen: Snapshot) -> bool:
        base = seen.manifest or Manifest(0, 0)
        if base.epoch > self.epoch:
            raise self._taken_over()
        if base.epoch == self.epoch and self._seals is not None:  # an attempt that seemed to fail
            self._manifest, self._number = base, seen.next - 1
            self._slots = list(seen.names[len(base.fragments) :])
            self.verify()
            return True
        names, seals, number = seen.names, base.seals, seen.next - 1
        if self._seals is not None:
            # without a manifest nobody's slots are open; epoch 0 is there for the seals alone
            first = seen.next if seen.manifest else 1
            slot = self._seal(self._seals, base.epoch, first)
            added = [FragmentName(base.epoch, n).text for n in range(first, slot + 1)]
            seals += tuple(self._seals_before(base.epoch, slot, base.first))
            if seen.manifest:
                names, number = (*names, *added), slot
        new = Manifest(base.version + 1, self.epoch, names, number + 1, seals)
        if not self._publish(new) or self._is_late(new.version):
            return False
        if self._seals is not None and self._is_there(FragmentName(base.epoch, slot + 1).text):
            raise self._taken_over()
        self._manifest, self._slots, self._number = new, [], number
        return True

    def _seal(self, seals: EpochSeals, epoch: int, number: int) -> int:
        """Put the seal into the first empty slot from ``number`` on, and return its number."""
        while True:
            name = FragmentName(epoch, number).text
            try:
                self._storage.create(f"{FOLDER}/{name}", seals.data)
                return number
            except FileExistsError:
                other = seals.epoch_of(self._storage.read(f"{FOLDER}/{name}"))
            if other is not None and other > self.epoch:
                raise self._taken_over()
            number += 1

    def _seals_before(self, epoch: int, slot: int, first: int) -> list[str]:
        """Return the names of this writer's seal and of the seals directly before it."""
        found = [FragmentName(epoch, slot).text]
        for number in range(slot - 1, first - 1, -1):
            name = FragmentName(epoch, number).text
            try:
                data = self._storage.read(f"{FOLDER}/{name}")
            except FileNotFoundError:
                break
            if self._seals is None or self._seals.epoch_of(data) is None:
                break
            found.append(name)
        return found[::-1]

    # -- what counts ---------------------------------------------------------------------------

    @property
    def manifest(self) -> Manifest:
        """The newest manifest that this writer has published or taken over."""
        return self._manifest

    @property
    def number(self) -> int:
        """The number of the last append."""
        return self._number

    @property
    def fragments(self) -> tuple[str, ...]:
        """The fragments that count.

        Returns:
            File names in the order of their rows.
        """
        return (*self._manifest.fragments, *self._slots)

    def append(self, data: bytes) -> list[tuple[str, bytes]]:
        """Store a fragment behind all others; it counts once this method returns.

        Args:
            data: The contents of the fragment.

        Returns:
            (name, contents) of each fragment that counts since then: this one, and before it one of
            an earlier call that raised an error although the storage had stored it.

        Raises:
            TakenOver: Another writer has the run.
            OSError: The storage refuses; the fragment may count or not.
        """
        added: list[tuple[str, bytes]] = []
        while True:
            name = FragmentName(self.epoch, self._number + 1).text
            try:
                self._tried.append(data)
                self._storage.create(f"{FOLDER}/{name}", data)
            except FileExistsError:
                there = self._storage.read(f"{FOLDER}/{name}")
                if there not in self._tried:
                    raise self._taken_over() from None
            else:
                there = data
            self._number += 1
            self._slots.append(name)
            self._tried.clear()
            added.append((name, there))
            if there == data:
                return added

    def merge(self, chosen: Sequence[str], data: Bytes) -> str:
        """Replace the last fragments by one that holds their rows.

        Args:
            chosen: The names of the last fragments that count, two or more.
            data: The contents of the merged fragment.

        Returns:
            The name of the merged fragment.

        Raises:
            TakenOver: Another writer has the run; no file was removed.
            OSError: The storage refuses. Either the same fragments count as before, or the merged
                fragment counts in place of the others.
        """
        first, last = parsed(chosen[0]), parsed(chosen[-1])
        assert first is not None
        assert last is not None
        merged = FragmentName(self.epoch, first.first, last.last).text
        self._storage.write(f"{FOLDER}/{merged}", data)
        kept = tuple(n for n in self.fragments if n not in chosen)
        new = Manifest(
            self._manifest.version + 1, self.epoch, (*kept, merged), self._number + 1,
            self._manifest.seals,
        )  # fmt: skip
        if not self._publish(new):
            self._other_version(new.version, merged)
            raise OSError(5, "an earlier attempt to publish what counts was found")
        self.verify()
        self._manifest, self._slots = new, []
        self._waiting.append((system().monotonic() + self._grace, new))
        return merged

    def verify(self) -> None:
        """Ask the storage if another writer has closed this epoch.

        Raises:
            TakenOver: Another writer has closed it.
            OSError: The storage does not answer.
        """
        if self._seals is None:
            return
        name = FragmentName(self.epoch, self._number + 1).text
        try:
            there = self._storage.read(f"{FOLDER}/{name}")
        except FileNotFoundError:
            return
        if there not in self._tried:
            raise self._taken_over()

    def _publish(self, new: Manifest) -> bool:
        """Create the manifest ``new``; return False if its version was taken."""
        self._publishing = True
        try:
            self._storage.create(f"{FOLDER}/{manifest_name(new.version)}", new.to_json())
        except FileExistsError:
            self._publishing = False
            return False
        self._publishing = False
        return True

    def _is_late(self, version: int) -> bool:
        """Return True if a newer manifest than ``version`` is listed.

        Then the manifest just made took a version that another writer had used and removed. That
        writer removes a version only when the newer ones are older than any listing.
        """
        if self._seals is None:
            return False
        return newest_version(self._storage.stats(FOLDER)) > version

    def _other_version(self, version: int, merged: str) -> None:
        """Handle a version that an earlier attempt of this writer, or another writer, has taken."""
        data = self._storage.read(f"{FOLDER}/{manifest_name(version)}")
        there = Manifest.from_json(data)
        if there.epoch == self.epoch:
            self._slots = [n for n in self._slots if _number(n) >= there.first]
            self._manifest = there
        if merged not in there.fragments:
            with contextlib.suppress(OSError):
                self._storage.remove(f"{FOLDER}/{merged}")
        if there.epoch != self.epoch:
            raise self._taken_over()

    def _is_there(self, name: str) -> bool:
        try:
            self._storage.read(f"{FOLDER}/{name}")
        except FileNotFoundError:
            return False
        return True

    def _taken_over(self) -> TakenOver:
        return TakenOver(
            f"the run at {self._shown} was taken over by another process",
            hint="this process had been silent too long; what it stored before is safe",
        )

    # -- removing ------------------------------------------------------------------------------

    def clean(self) -> None:
        """Remove files that no longer count, once their grace time has passed.

        Raises:
            OSError: The storage refuses.
        """
        now, since = system().monotonic(), None
        while self._waiting and self._waiting[0][0] <= now and not self._publishing:
            _, since = self._waiting.popleft()
        if since is not None:
            self._remove(self._storage.stats(FOLDER), since)

    def _collect(self, base: Manifest | None) -> None:
        """Remove the files of earlier writers whose grace has passed on the storage's own clock."""
        self._waiting.append((system().monotonic() + self._grace, self._manifest))
        if self._grace == 0:
            self.clean()
        elif base is not None:
            listed = self._storage.stats(FOLDER)
            before, now = (
                listed.get(f"{FOLDER}/{manifest_name(v)}")
                for v in (base.version, self._manifest.version)
            )
            if before and now and now.modified - before.modified >= self._grace:
                self._remove(listed, base)

    def _remove(self, listed: Mapping[str, FileStat], since: Manifest) -> None:
        """Remove files that count neither by ``since`` nor now: manifests first, then fragments."""
        start = len(FOLDER) + 1
        named = {*since.fragments, *self._manifest.fragments, *self._manifest.seals}
        for name in sorted((n[start:] for n in listed), key=_order):
            if name not in named and self._is_garbage(name, since):
                self._storage.remove(f"{FOLDER}/{name}")

    def _is_garbage(self, name: str, since: Manifest) -> bool:
        if (version := version_of(name)) is not None:
            return version < since.version
        found = parsed(name)
        return found is not None and found.session <= self.epoch and found.last < since.first


def _number(name: str) -> int:
    found = parsed(name)
    return found.first if found else 0


def _order(name: str) -> tuple[int, int, str]:
    version = version_of(name)
    return (0, version, name) if version is not None else (1, _number(name), name)
