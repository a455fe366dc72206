"""One writer for a run on shared storage, where no operating system keeps a lock.

A writer claims an epoch, one above all that were, by a file in ``lease/``, and touches it again
and again. Whose claim was not touched for ``ttl`` seconds of the storage's own clock is gone, and
the next may claim. One that comes back from the dead sees the higher epoch before it writes; what
it wrote nevertheless is fenced off by its epoch in the fragments' names.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import threading
import time
from dataclasses import dataclass

from raynas.core import UserError
from raynas.store.remote import Remote

FOLDER = "lease"
_NAME = re.compile(r"lease/(\d{6,})-([0-9a-f]{8})\.(held|free)")
_ROUNDS = 5


@dataclass(frozen=True)
class Claim:
    """A writer's file: its epoch, when storage saw it last (seconds), and whether it was given
    back. The last one given back stays, so that no epoch comes twice."""

    name: str
    epoch: int
    seen: float
    free: bool


class TakenOver(UserError):
    """Another writer has the run now: nothing more may be written there."""


class Lease:
    """The right to write a run, from its making until ``release`` or ``ttl`` seconds of silence.

    ``least``: the epoch is at least this. Raises: UserError naming the holder when another writer
    is alive; OSError when the storage refuses.
    """

    def __init__(self, remote: Remote, least: int = 1, ttl: float = 60.0) -> None:
        self._remote, self._ttl = remote, ttl
        self._mutex = threading.Lock()
        self._claim = self._take(least)
        self._touched = time.monotonic()
        self._ended = threading.Event()
        self._lost: TakenOver | None = None
        threading.Thread(target=self._keep, name="lease", daemon=True).start()

    @property
    def epoch(self) -> int:
        return self._claim.epoch

    def _take(self, least: int) -> Claim:
        for round_ in range(_ROUNDS):
            before = claims(self._remote)
            epoch = max([least, *(c.epoch + 1 for c in before)])
            mine = self._put(f"{FOLDER}/{epoch:06d}-{secrets.token_hex(4)}.held")
            after = claims(self._remote)
            now = next(c for c in after if c.name == mine)
            others = [c for c in after if c.name != mine]
            # far in the future is as dead as long ago: the storage's clock was put back
            alive = [c for c in others if not c.free and abs(now.seen - c.seen) <= self._ttl]
            if not alive and all(c.epoch < epoch for c in others):
                for old in others:
                    self._remote.remove(old.name)
                return now
            self._remote.remove(mine)
            if any(c.epoch < epoch for c in alive):
                raise self._busy(alive)
            time.sleep(secrets.randbelow(1000) / 1000 * (round_ + 1))  # both withdrew: not in step
        raise self._busy(alive)

    def _put(self, name: str) -> str:
        holder = {"pid": os.getpid(), "host": socket.gethostname()}
        self._remote.write(name, json.dumps(holder).encode())
        return name

    def _busy(self, alive: list[Claim]) -> UserError:
        holder = holder_of(self._remote, alive[-1]) if alive else "another process"
        return UserError(
            f"the run at {self._remote.shown} is being written by {holder}",
            cure=f"wait for it or stop it; one that died is gone after {self._ttl:.0f} s",
        )

    def check(self, *, at_once: bool = False) -> None:
        """Before a write. Raises: UserError when another writer has taken over; OSError.

        ``at_once``: ask the storage, however short ago that was.
        """
        late = at_once or time.monotonic() - self._touched > self._ttl / 2
        if self._lost is None and late:
            self._touch()
        if self._lost is not None:
            raise self._lost

    def _touch(self) -> None:
        with self._mutex:
            if self._ended.is_set():
                return
            newer = [c for c in claims(self._remote) if c.epoch > self.epoch]
            if newer:
                self._lost = TakenOver(
                    f"the run at {self._remote.shown} was taken over by "
                    f"{holder_of(self._remote, newer[-1])}",
                    cure="this process had been silent too long; what it stored before is safe",
                )
                return
            self._put(self._claim.name)
            self._touched = time.monotonic()

    def _keep(self) -> None:
        while not self._ended.wait(self._ttl / 4) and self._lost is None:
            try:
                self._touch()
            except OSError:
                continue  # storage is slow: the next write will ask again

    def release(self) -> None:
        """Give the right back; a second call does nothing."""
        with self._mutex:
            if self._ended.is_set():
                return
            self._ended.set()
        try:
            self._put(self._claim.name.replace(".held", ".free"))
            self._remote.remove(self._claim.name)
        except OSError:
            return  # it runs out by itself


def claims(remote: Remote) -> list[Claim]:
    """All that there are, by epoch."""
    found = []
    for name, seen in remote.times(FOLDER).items():
        if match := _NAME.fullmatch(name):
            found.append(Claim(name, int(match[1]), seen, match[3] == "free"))
    return sorted(found, key=lambda c: (c.epoch, c.name))


def writer_of(remote: Remote) -> str:
    """Who holds the run now, in words, by this machine's clock; empty when nobody does.

    Raises: OSError.
    """
    held = [c for c in claims(remote) if not c.free]
    if not held or abs(time.time() - held[-1].seen) > longest_silence():
        return ""
    return holder_of(remote, held[-1])


def longest_silence() -> float:
    """After so much silence a writer is gone: ``$RAYNAS_LEASE_SECONDS``, or 60.

    Raises: UserError for what is no such time.
    """
    text = os.environ.get("RAYNAS_LEASE_SECONDS", "60")
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0.1 <= found <= 86_400:
        raise UserError(f"RAYNAS_LEASE_SECONDS={text}", allowed="seconds from 0.1 to 86400")
    return found


def holder_of(remote: Remote, claim: Claim) -> str:
    """Who made a claim, in words."""
    try:
        data = json.loads(remote.read(claim.name))
        return f"process {data['pid']} on {data['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
