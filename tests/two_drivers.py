"""Two drivers on one S3 run, round after round: `python tests/two_drivers.py --rounds 200`.

In each round a first process creates a run on an S3-compatible server and appends; it is stopped by
SIGSTOP for less or more than its lease, its clock jumps, or the server fails; meanwhile a second
process resumes the run; then the first is woken. In the end a third machine reads: every row that
was acknowledged is there, none twice, sessions in order, and the stored history holds.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from unittest import mock

from integration.storages import Server, serve

from raynas.store import RunFolder, read
from raynas.store.fragments import list_fragments, read_fragment
from raynas.store.history import check
from raynas.store.working_copies import fetch

LEASE = 0.5
PATIENCE = 180.0


class Driver:
    """One process, on a machine of its own."""

    def __init__(self, cache: Path) -> None:
        env = {**os.environ, "RAYNAS_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
        file = Path(__file__).parent / "integration" / "store_driver.py"
        self.process = subprocess.Popen(
            [sys.executable, str(file)], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        self.acknowledged: list[tuple[int, int]] = []
        self._lines: Queue[str] = Queue()
        self._listener = Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))

    def begin(self, **given: object) -> None:
        assert self.process.stdin is not None
        self.acknowledged = []
        self.process.stdin.write(json.dumps(given) + "\n")
        self.process.stdin.flush()

    def hear(self, acknowledged: int = 10**9) -> str:
        """Until so many rows are stored, or the end, whose reason comes back."""
        end = time.monotonic() + PATIENCE
        while len(self.acknowledged) < acknowledged:
            try:
                line = self._lines.get(timeout=max(0.01, end - time.monotonic()))
            except Empty:
                raise AssertionError(f"process {self.process.pid} says nothing") from None
            word, _, rest = line.partition(" ")
            if word == "end":
                return rest
            session, trial = map(int, rest.split())
            self.acknowledged.append((session, trial))
        return ""

    def stop(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self.wake()
        self.process.kill()
        self.process.wait()
        self._listener.join()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


def play(
    number: int, rng: random.Random, server: Server, one: Driver, two: Driver, third: Path
) -> str:
    """One round. Returns what it was, in words."""
    uri = server.run(f"two-drivers-{os.getpid()}-{number}")
    kind = rng.choice(["long sleep", "short sleep", "clock", "storage", "all"])
    same = {
        "uri": uri, "lease": LEASE, "merge_every": rng.choice([3, 5, 50]),
        "pause": rng.choice([0.0, 0.02, 0.05]), "jump": rng.choice([5.0, 3600.0, 86_400.0]),
    }  # fmt: skip
    jump_at = rng.randrange(8) if kind in ("clock", "all") else -1
    one.begin(**same, create=True, first=0, appends=30, jump_at=jump_at)
    early = one.hear(rng.randint(1, 8))
    if kind in ("storage", "all"):
        server.weather.failing, server.weather.slow = 0.2, 0.1
    if kind != "storage":
        one.stop()
    if kind == "short sleep":
        time.sleep(LEASE * rng.uniform(0.1, 0.8))
        one.wake()
    two.begin(**same, create=False, first=1000, appends=rng.randint(2, 10), jump_at=-1)
    if kind in ("long sleep", "all") and rng.random() < 0.7:
        late = two.hear(1)  # it has the run
        one.wake()
        late = late or two.hear()
    else:
        time.sleep(rng.uniform(0, 2 * LEASE))
        one.wake()
        late = two.hear()
    early = early or one.hear()
    server.weather.failing = server.weather.slow = 0.0
    judge(uri, third, one, two)
    return f"{kind}: first {_short(early)}, second {_short(late)}"


def _short(reason: str) -> str:
    for words in ("done", "taken over", "is being written by"):
        if words in reason:
            return words
    return reason[:80]


def judge(uri: str, third: Path, one: Driver, two: Driver) -> None:
    """What a third machine sees. Raises: AssertionError."""
    with mock.patch.dict(os.environ, {"RAYNAS_CACHE": str(third)}):
        folder = RunFolder.open(fetch(uri))
    rows = [
        (row["session"], row["trial"])
        for fragment in list_fragments(folder.results)[0]
        for row in read_fragment(fragment.path).to_pylist()
    ]
    lost = {*one.acknowledged, *two.acknowledged} - set(rows)
    assert not lost, f"acknowledged, and not there: {sorted(lost)}"
    twice = [row for row, count in Counter(rows).items() if count > 1]
    assert not twice, f"there twice: {twice}"
    sessions = [session for session, _ in rows]
    assert sessions == sorted(sessions), f"two writers at a time: {rows}"
    assert read(folder).num_rows == len(rows)
    assert check(folder) == []


def play_rounds(rounds: int, seed: int) -> Counter[str]:
    """So many rounds; how often each ended in which way."""
    found: Counter[str] = Counter()
    with serve() as server, tempfile.TemporaryDirectory() as folder:
        caches = [Path(folder) / name for name in ("one", "two", "three")]
        one, two = Driver(caches[0]), Driver(caches[1])
        try:
            for number in range(rounds):
                rng = random.Random(f"{seed}-{number}")
                try:
                    found[play(number, rng, server, one, two, caches[2])] += 1
                except AssertionError as error:
                    raise AssertionError(f"seed {seed}, round {number}: {error}") from error
        finally:
            one.close()
            two.close()
        found["requests"], found["failed"] = server.weather.asked, server.weather.failed
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    began = time.monotonic()
    found = play_rounds(given.rounds, given.seed)
    for words, count in sorted(found.items()):
        print(f"{count:6}  {words}")
    print(f"{given.rounds} rounds, no row lost, one writer: {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
