"""This module keeps one writer for a run on shared storage, where no operating system keeps a lock.

A writer claims an epoch by creating ``lease/EPOCH.json``, which only one process can do. It renews
its claim by writing the file again with a higher counter. Whether a holder is alive is judged by
change: another process watches the claim until it changes, or has not changed for the time that
stands in it, on that process's own clock. Clocks of two machines are never compared. Claims stay,
so no epoch is used twice.

That keeps two drivers apart as far as clocks and pauses allow. Where it fails, the seal of
:mod:`raynas.store.manifest` keeps the rows whole.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from raynas.core import UserError
from raynas.store.remote import RemoteFolder
from raynas.store.system import Holder, system

FOLDER = "lease"
_NAME = re.compile(r"lease/(\d{6,})(?:-[0-9a-f]{8})?\.(json|held|free)")
_ROUNDS = 20
_RENEWALS, _LOOKS = 4, 12
"""Counts within ``ttl`` seconds: renewals of a holder, looks of a process that waits for it."""


class TakenOver(UserError):
    """An error for a writer whose run another writer has taken over: it must not write any more."""


@dataclass(frozen=True)
class LeaseClaim:
    """A writer's claim file.

    Attributes:
        name: The name of the file.
        epoch: The epoch that it claims.
        ttl: The time without a change after which its holder counts as dead, in seconds.
        free: The holder has given the claim back.
        holder: The process that made it; see :meth:`System.identity`.
        mark: A value that changes with every renewal.
    """

    name: str
    epoch: int
    ttl: float
    free: bool
    holder: Holder
    mark: object = None

    @property
    def in_words(self) -> str:
        """The holder in words, for error messages."""
        pid, host = self.holder.get("pid"), self.holder.get("host")
        return f"process {pid} on {host}" if pid and host else "another process"


class Lease:
    """The right to write a run, held until ``release`` or until ``ttl`` seconds without a renewal.

    A background thread renews it.

    Args:
        remote: The run's storage.
        least: The smallest epoch to claim.
        ttl: The time without a renewal after which the right is lost, in seconds.
        waiting: Called with a sentence when the constructor must wait to see if an earlier holder
            is alive.

    Raises:
        UserError: Another writer is alive. The error names it.
        OSError: The storage refuses.
    """

    def __init__(
        self,
        remote: RemoteFolder,
        least: int = 1,
        ttl: float = 60.0,
        waiting: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._remote, self._ttl, self._waiting = remote, ttl, waiting
        self._mutex = system().mutex()
        self._renewals = 0
        self._holder = system().identity()
        self.epoch = self._take(least)
        self._touched = system().monotonic()
        self._ended = False
        self._lost: TakenOver | None = None
        self._stop = system().every(ttl / _RENEWALS, self._keep, "lease")

    # -- taking --------------------------------------------------------------------------------

    def _take(self, least: int) -> int:
        for _ in range(_ROUNDS):
            last = newest(self._remote)
            if last is not None and not last.free:
                self._expect_gone(last)
            epoch = max(least, last.epoch + 1 if last else 1)
            try:
                self._remote.create(_file(epoch), self._content(epoch))
            except FileExistsError:
                continue  # another was quicker: look at its claim
            if max(epochs(self._remote), default=epoch) <= epoch:
                return epoch
        raise self._busy(newest(self._remote))

    def _expect_gone(self, seen: LeaseClaim) -> None:
        """Wait until the holder counts as dead. Raises: UserError once it renews its claim."""
        if system().is_dead(seen.holder):
            return
        self._waiting(
            f"the run at {self._remote.shown} is held by {seen.in_words}: waiting up to "
            f"{seen.ttl:.0f} s for a sign that it lives"
        )
        began = system().monotonic()
        while system().monotonic() - began < seen.ttl:
            system().sleep(seen.ttl / _LOOKS)
            now = newest(self._remote)
            if now is not None and now.epoch == seen.epoch and now.mark == seen.mark:
                continue
            if now is not None and not now.free:
                raise self._busy(now)
            return

    def _busy(self, holder: LeaseClaim | None) -> UserError:
        words = holder.in_words if holder else "another process"
        ttl = holder.ttl if holder else self._ttl
        return UserError(
            f"the run at {self._remote.shown} is being written by {words}",
            hint=f"wait for it or stop it; the lock of a dead process expires after {ttl:.0f} s",
        )

    def _content(self, epoch: int, free: bool = False) -> bytes:
        claim = {"epoch": epoch, "ttl": self._ttl, "renewals": self._renewals, "free": free}
        return json.dumps({**claim, "holder": dict(self._holder)}).encode()

    # -- holding -------------------------------------------------------------------------------

    def check(self, *, at_once: bool = False) -> None:
        """Check, before a write, that the right is still held.

        Args:
            at_once: Ask the storage even if it was asked a short time ago.

        Raises:
            TakenOver: Another writer has the run.
            OSError: The storage does not answer.
        """
        late = at_once or system().monotonic() - self._touched > self._ttl / 2
        if self._lost is None and late:
            self._touch()
        if self._lost is not None:
            raise self._lost

    def taken_over(self) -> TakenOver:
        """Note that another writer has the run.

        Returns:
            The error for it, which names the other writer; the caller raises it.
        """
        if self._lost is None:
            try:
                holder = newest(self._remote)
            except OSError:
                holder = None
            other = holder is not None and holder.epoch > self.epoch
            words = holder.in_words if holder and other else "another process"
            self._lost = TakenOver(
                f"the run at {self._remote.shown} was taken over by {words}",
                hint="this process had been silent too long; what it stored before is safe",
            )
        return self._lost

    def _touch(self) -> None:
        with self._mutex:
            if self._ended or self._lost is not None:
                return
            if max(epochs(self._remote), default=0) > self.epoch:
                self.taken_over()
                return
            self._renewals += 1
            began = system().monotonic()
            self._remote.write(_file(self.epoch), self._content(self.epoch))
            self._touched = began

    def _keep(self) -> bool:
        try:
            self._touch()
        except Exception:  # whatever it is: the next renewal, or the next write, asks again
            return not self._ended
        return self._lost is None and not self._ended

    def release(self) -> None:
        """Give the right back; a second call does nothing."""
        with self._mutex:
            if self._ended:
                return
            self._ended = True
        self._stop()
        if self._lost is not None:
            return
        try:
            self._remote.write(_file(self.epoch), self._content(self.epoch, free=True))
        except OSError:
            return  # it runs out by itself


# -- looking at claims -------------------------------------------------------------------------


def _file(epoch: int) -> str:
    return f"{FOLDER}/{epoch:06d}.json"


def epochs(remote: RemoteFolder) -> list[int]:
    """Return all epochs that were ever claimed.

    Args:
        remote: The run's storage.

    Returns:
        Epochs, in no order.

    Raises:
        OSError: The storage does not answer.
    """
    return [int(m[1]) for name in remote.names(FOLDER) if (m := _NAME.fullmatch(name))]


def newest(remote: RemoteFolder) -> LeaseClaim | None:
    """Return the claim of the highest epoch.

    Args:
        remote: The run's storage.

    Returns:
        The claim, or None if no process has ever written the run.

    Raises:
        OSError: The storage does not answer.
    """
    stats = remote.stats(FOLDER)
    known = [(int(m[1]), m[2] == "held", name) for name in stats if (m := _NAME.fullmatch(name))]
    if not known:
        return _read(remote, 1, _file(1))
    epoch, _, name = max(known)
    if name.endswith(".json"):
        while (later := _read(remote, epoch + 1, _file(epoch + 1))) is not None:
            epoch, name = epoch + 1, later.name  # the listing was old
        return _read(remote, epoch, name)
    # a claim of an older raynas, which touched its file instead of counting renewals
    held, mark = name.endswith(".held"), stats[name].modified
    return LeaseClaim(name, epoch, longest_silence(), not held, _holder(remote, name), mark)


def _read(remote: RemoteFolder, epoch: int, name: str) -> LeaseClaim | None:
    try:
        data = remote.read(name)
    except FileNotFoundError:
        return None
    try:
        found: Mapping[str, Any] = json.loads(data)
        ttl, free, holder = float(found["ttl"]), bool(found["free"]), dict(found["holder"])
    except (ValueError, KeyError, TypeError):
        return LeaseClaim(name, epoch, longest_silence(), False, {}, data)
    return LeaseClaim(name, epoch, ttl, free, holder, data)


def _holder(remote: RemoteFolder, name: str) -> Holder:
    try:
        return dict(json.loads(remote.read(name)))
    except (OSError, ValueError, TypeError):
        return {}


_SEEN: dict[str, tuple[LeaseClaim, float]] = {}


def writer_of(remote: RemoteFolder) -> str:
    """Return the holder of a run in words.

    At the first look, a claim that was not given back counts. Later looks of this process judge by
    its change between the looks.

    Args:
        remote: The run's storage.

    Returns:
        The holder in words; empty if no process holds the run.

    Raises:
        OSError: The storage does not answer.
    """
    claim, now = newest(remote), system().monotonic()
    if claim is None or claim.free or system().is_dead(claim.holder):
        return ""
    before, since = _SEEN.get(remote.uri, (None, now))
    if before != claim:
        _SEEN[remote.uri] = claim, now
    elif now - since >= claim.ttl:
        return ""
    return claim.in_words


def longest_silence() -> float:
    """Return the time without a renewal after which a writer counts as dead.

    Returns:
        Seconds: ``$RAYNAS_LEASE_SECONDS``, or 60.

    Raises:
        UserError: The variable is not a number from 0.1 to 86400.
    """
    text = os.environ.get("RAYNAS_LEASE_SECONDS", "60")
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0.1 <= found <= 86_400:
        raise UserError(f"RAYNAS_LEASE_SECONDS={text}", expected="seconds from 0.1 to 86400")
    return found
