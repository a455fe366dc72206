"""A process that drives runs by the store alone; `two_drivers.py` tells it what to do.

A line of JSON on its input is one start or resume; on its output comes ``ack SESSION TRIAL`` for
every row that was acknowledged, and ``end REASON``.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from raynas.core import Metric, UserError
from raynas.store import Provenance, RunFolder, RunInfo, Writer, new_run_id
from raynas.store import remote as remotes
from raynas.store.lease import TakenOver
from raynas.store.system import RealSystem
from raynas.store.working_copies import fetch, working_copy

AHEAD = [0.0]


def say(*words: object) -> None:
    print(*words, flush=True)


def row(trial: int) -> dict[str, Any]:
    return {
        "stage": "search", "arm": "a", "trial": trial, "attempt": 0, "arch_id": "", "arch": "",
        "proposal": "", "seed": 0, "step": 1, "state": "COMPLETE", "seconds": 0.0, "device": "",
    }  # fmt: skip


def drive(given: dict[str, Any]) -> str:
    uri = given["uri"]
    try:
        if given["create"]:
            info = RunInfo(new_run_id("r"), "r", "0", {}, "", {}, (Metric("loss", "", "min"),))
            RunFolder.create(working_copy(uri), info, "x = 1\n", uri)
        folder = RunFolder.open(fetch(uri))
        provenance = Provenance("", {}, "", "", 1)
        with Writer(folder, 1, provenance, merge_every=given["merge_every"],
                    lease_seconds=given["lease"]) as writer:  # fmt: skip
            for number in range(given["appends"]):
                trial = given["first"] + number
                writer.append([row(trial)])
                say("ack", writer.session, trial)
                if number == given["jump_at"]:
                    AHEAD[0] += given["jump"]
                time.sleep(given["pause"])
    except TakenOver as error:
        return f"taken over: {error}"
    except UserError as error:
        return str(error)
    return "done"


def main() -> None:
    plain = RealSystem.monotonic
    RealSystem.monotonic = lambda self: plain(self) + AHEAD[0]  # type: ignore[method-assign]
    remotes._FIRST_PAUSE = 0.02
    for line in sys.stdin:
        say("end", drive(json.loads(line)))


if __name__ == "__main__":
    main()
