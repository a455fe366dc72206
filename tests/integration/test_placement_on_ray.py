"""On a real Ray with a GPU that is none: who shares it, who hangs, and who kills all workers."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import ray
import toys
from integration import toy_runs
from integration.toy_runs import Script, Table, search
from sessions import SharedRay
from toys import Curves

from raynas.core import Architecture, Job, Measurement, Trial
from raynas.data.base import DataView
from raynas.runners.base import Resources
from raynas.runners.failures import QUARANTINE
from raynas.runners.placement import DeviceKind
from raynas.runners.ray import environment, tasks
from raynas.runners.ray import tune as tune_module
from raynas.runners.ray.actors import ActorRunner
from raynas.runners.ray.tune import TuneRunner
from raynas.search.controller import SearchController
from raynas.spaces.base import SearchSpace

pytestmark = [pytest.mark.ray, pytest.mark.long]

SMALL = [f"x={x},y=0,op=a" for x in range(6)]
LARGE = "x=5,y=5,op=c"
PATIENCE = 3.0


@dataclass
class Sized(Curves):
    """Says how much memory it needs, and notes when it is at work; ``together``: so many others of
    its size must come first."""

    name: ClassVar[str] = "sized"
    together: int = 3

    def memory(self, arch: Architecture, space: SearchSpace, view: DataView) -> int:
        return 10**15 if arch.text == LARGE else 10**7

    def evaluate(self, arch: Architecture, job: Job) -> Iterator[Measurement]:
        self._note(f"{arch.text} begins {time.monotonic()}")
        deadline = time.monotonic() + 60
        while arch.text != LARGE and self._begun() < self.together:
            if time.monotonic() > deadline:
                raise RuntimeError("the others did not come")
            time.sleep(0.05)
        self._note(f"{arch.text} ends {time.monotonic()}")
        yield Measurement(1, {"val_accuracy": 1.0}, 1.0)

    def _begun(self) -> int:
        lines = Path(self.log).read_text().splitlines()
        return sum(" begins " in line and not line.startswith(LARGE) for line in lines)


@dataclass
class Harmful(Curves):
    """``fault``: also ``"hangs"`` (once) and ``"stuck"`` (always): in C, with the interpreter
    locked; ``"poison"``: kills whoever tries it. Before step 2; each time is noted."""

    name: ClassVar[str] = "harmful"

    def evaluate(self, arch: Architecture, job: Job) -> Iterator[Measurement]:
        fault = self.fault.get(arch.text, "")
        for measurement in super().evaluate(arch, job):
            if measurement.step == min(2, job.max_step):
                self._harm(arch, fault)
            yield measurement

    def _harm(self, arch: Architecture, fault: str) -> None:
        mark = Path(f"{self.log}.hung-{arch.id}")
        if fault in ("poison", "stuck") or (fault == "hangs" and not mark.exists()):
            with Path(f"{self.log}.victims").open("a") as file:
                file.write(f"{arch.text} {os.getpid()}\n")
            if fault == "poison":
                os.kill(os.getpid(), signal.SIGKILL)
            mark.touch()
            ctypes.PyDLL(None).sleep(300)


@dataclass
class QuickHarm(Harmful):
    name: ClassVar[str] = "quick_harm"
    lightweight: ClassVar[bool] = True
    max_step: int = 1


@pytest.fixture(scope="module", autouse=True)
def session(shared_ray: SharedRay) -> Iterator[None]:
    shared_ray.close()
    environment.prepare()
    for module in (toys, toy_runs, sys.modules[__name__]):
        ray.cloudpickle.register_pickle_by_value(module)
    ray.init(
        address="local", num_cpus=4, num_gpus=1, _memory=16 * 2**30, include_dashboard=False,
        log_to_driver=False, logging_level="ERROR",
    )  # fmt: skip
    yield
    ray.shutdown()


@pytest.mark.parametrize(
    "resources", [{"gpus": "fit"}, {"gpus": 0.0, "memory": "fit"}], ids=["gpu", "memory"]
)
def test_small_trials_share_what_a_large_one_has_alone(
    resources: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune_module, "look_at_devices", lambda: (DeviceKind(26 * 10**8),))
    log = tmp_path / "log"
    evaluator = Sized(max_step=1, log=str(log))
    work = search(Script([*SMALL[:3], LARGE, SMALL[3]]), evaluator, Table())
    TuneRunner(Resources(concurrent=3, **resources), scratch=tmp_path / "tune").run(work)
    assert dict(work.status().counts) == {"COMPLETE": 5}
    when: dict[str, list[float]] = {}
    for line in log.read_text().splitlines():
        arch, _, moment = line.split()
        when.setdefault(arch, []).append(float(moment))
    begin, end = when.pop(LARGE)
    assert all(other[1] <= begin or other[0] >= end for other in when.values())
    first = [when[text] for text in SMALL[:3]]
    assert max(b for b, _ in first) < min(e for _, e in first)


def test_booked_memory_limits_how_many_run_at_once() -> None:
    runner = TuneRunner(Resources(gpus=0.0, memory=8.0))
    runner.open()
    assert runner._slots() == 2  # of 16 GiB
    assert runner._placer().place(0, None).bundle(1.0)["memory"] == 8 * 10**9
    fitted = TuneRunner(Resources(gpus="fit", cpus=0.5))
    fitted.open()
    assert fitted._slots() == 1  # quick ones: a whole GPU each
    assert fitted._slots(1 / 16) == 8


def resumed(work: SearchController, rows: Table, evaluator: Curves, text: str) -> SearchController:
    """A later session, whose sampler proposes ``text`` again."""
    past = [Trial(**vars(trial)) for trial in work.trials.values()]
    return search(Script([text]), evaluator, rows, past=past)


def test_who_hangs_is_tried_again_and_who_kills_two_workers_is_not(tmp_path: Path) -> None:
    stuck, poison, hangs, good = SMALL[:4]
    fault = {stuck: "stuck", poison: "poison", hangs: "hangs"}
    evaluator = Harmful(fault=fault, log=str(tmp_path / "log"))
    rows = Table()
    work = search(Script([*fault, good]), evaluator, rows, folder=tmp_path / "folder")
    resources = Resources(retries=5, patience=PATIENCE, gpus=0.0, cpus=2.0)
    TuneRunner(resources, scratch=tmp_path / "tune").run(work)
    ends = {row["arch"]: (row["state"], row["message"], row["attempt"]) for row in rows}
    never = "; in quarantine, no third worker gets it"
    assert ends[stuck] == ("FAILED", f"its worker died 2 times: no measurement for 3 s{never}", 1)
    assert ends[poison][0] == "FAILED"
    assert ends[poison][1].startswith("its worker died 2 times: it was killed")
    assert ends[poison][1].endswith(never)
    assert ends[hangs] == ("COMPLETE", None, 1)
    assert ends[good] == ("COMPLETE", None, 0)
    assert victims(tmp_path) == {stuck: 2, poison: 2, hangs: 1}
    rest = resumed(work, rows, evaluator, poison)
    TuneRunner(resources, scratch=tmp_path / "tune").run(rest)
    assert rest.done
    assert victims(tmp_path)[poison] == 2


def test_quick_evaluations_too(tmp_path: Path) -> None:
    stuck, poison, *good = SMALL
    evaluator = QuickHarm(fault={stuck: "stuck", poison: "poison"}, log=str(tmp_path / "log"))
    work = search(Script([*good[:2], stuck, poison, *good[2:]]), evaluator, Table())
    ActorRunner(Resources(retries=5, patience=PATIENCE, gpus=0.0, concurrent=2)).run(work)
    assert dict(work.status().counts) == {"COMPLETE": 4, "FAILED": 2}
    killed = victims(tmp_path)  # one of two workers may be the other one's
    # a worker that dies before anybody heard that it came to the task says nothing against it
    assert max(killed.values()) <= QUARANTINE + tasks._UNHEARD
    assert set(killed) == {stuck, poison}
    messages = {t.arch.text: t.message for t in work.trials.values()}
    assert messages[stuck].startswith("its worker died 2 times: no measurement for 3 s")
    assert messages[poison].startswith("its worker died 2 times: it was killed")


def victims(folder: Path) -> dict[str, int]:
    """How many workers each architecture has ended."""
    lines = (folder / "log.victims").read_text().splitlines()
    assert len({line.split()[1] for line in lines}) == len(lines)
    return dict(Counter(line.split()[0] for line in lines))
