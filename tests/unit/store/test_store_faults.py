"""Processes that die or run out of disk in the middle of the work."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from raynas.core import UserError
from raynas.store import Provenance, RunFolder, Writer, read

SCRIPT = """
import json, resource, secrets, sys
from raynas.core import UserError
from raynas.core import UserError
from raynas.store import Provenance, RunFolder, Writer
path, session, row, limit = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3]), int(sys.argv[4])
provenance = Provenance("", {}, "h", "p", 1)
writer = Writer(RunFolder.open(path), session, provenance, merge_every=3)
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
trial = session * 100_000
print("ready", flush=True)
while True:
    try:
        writer.append([{**row, "trial": trial}])
    except UserError as error:
        print(error, flush=True)
        writer.close()
        sys.exit(2)
    print(trial, flush=True)
    trial += 1
    if limit:  # larger and larger, and nothing that could be compressed
        row["message"] = secrets.token_hex(2000 * (trial % 100_000))
"""


def start(folder: RunFolder, session: int, row: dict[str, Any], limit: int = 0) -> Any:
    command = [sys.executable, "-c", SCRIPT, str(folder.path), str(session), json.dumps(row)]
    return subprocess.Popen([*command, str(limit)], stdout=subprocess.PIPE, text=True)


def test_kill_at_random_moments_keeps_every_acknowledged_row(
    folder: RunFolder, provenance: Provenance, row: Any
) -> None:
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}")
    rng = random.Random(seed)
    acknowledged: list[int] = []
    for session in range(1, 5):
        process = start(folder, session, row())
        assert process.stdout.readline() == "ready\n"
        lines = [process.stdout.readline() for _ in range(rng.randint(1, 30))]
        time.sleep(rng.uniform(0, 0.01))
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.read().split("\n")[:-1]  # a half line was not acknowledged
        process.stdout.close()
        assert process.wait() == -signal.SIGKILL
        acknowledged += map(int, lines)
        seen = read(folder)["trial"].to_pylist()
        assert set(acknowledged) <= set(seen)
        assert len(seen) == len(set(seen)) <= len(acknowledged) + session
    with Writer(folder, 5, provenance):
        pass
    assert len(list(folder.results.iterdir())) == 2  # one fragment, and the manifest
    assert read(folder)["trial"].to_pylist() == seen


def test_a_real_limit_of_the_system_ends_in_one_line(folder: RunFolder, row: Any) -> None:
    process = start(folder, 1, row(), limit=40_000)
    output, _ = process.communicate(timeout=60)
    *rows, message = output.splitlines()[1:]
    assert process.returncode == 2
    assert "File too large (EFBIG); every row stored before is safe" in message
    assert read(folder)["trial"].to_pylist() == [int(line) for line in rows]
    assert len(rows) > 3
    assert not list(folder.results.glob(".tmp*"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_the_system_says_that_the_disk_is_full(
    folder: RunFolder, writer: Writer, row: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.append([row(0)])
    plain = Path.open
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda _, mode="r": plain(Path("/dev/full"), mode))
        with pytest.raises(UserError, match=r"No space left on device \(ENOSPC\)"):
            writer.append([row(1)])
    assert read(folder)["trial"].to_pylist() == [0]
