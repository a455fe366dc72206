"""Persistent actors on a real Ray: what is killed, what cannot start, what waits for nobody."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray
from integration.toy_runs import NoWorker, Script, Table, content, large_view, search
from toys import Curves, Quick, ToyData, ToySpace

from raynas.core import Job, UserError
from raynas.runners.base import Resources
from raynas.runners.local import LocalRunner
from raynas.runners.ray import runner as lanes
from raynas.runners.ray.actors import ActorRunner
from raynas.runners.ray.runner import RayRunner
from raynas.runners.ray.tune import TuneRunner
from raynas.samplers import Exhaustive
from raynas.search.context import EvaluationContext

pytestmark = pytest.mark.ray
Make = Callable[..., ActorRunner]

SPACE = ToySpace(depth=12)  # 216 architectures
DEADLY = "x=5,y=0,op=a"
KILLED = ("x=2,y=0,op=a", "x=9,y=3,op=c")


@pytest.fixture
def make(ray_session: TuneRunner) -> Make:
    return lambda **resources: ActorRunner(Resources(**resources), modules=ray_session.modules)


def test_killed_workers_lose_and_repeat_no_row(make: Make, tmp_path: Path) -> None:
    rows, here, log = Table(), Table(), tmp_path / "log"
    evaluator = Quick(
        max_step=1, log=str(log), fault={DEADLY: "deadly", **dict.fromkeys(KILLED, "kill")}
    )
    work = search(Exhaustive(), evaluator, rows, space=SPACE, view=large_view())
    make(retries=1).run(work)
    assert work.done
    LocalRunner().run(search(Exhaustive(), Quick(max_step=1), here, space=SPACE))
    lost = [row for row in rows if row["arch"] == DEADLY]
    assert [row["state"] for row in lost] == ["FAILED"]
    assert lost[0]["message"].startswith("its worker died 2 times: it was killed")
    assert content(r for r in rows if r not in lost) == content(
        r for r in here if r["arch"] != DEADLY
    )
    evaluated = [line.split() for line in log.read_text().splitlines()]
    assert len({process for _, _, process in evaluated}) > 2  # dead ones were replaced
    assert {row["attempt"] for row in rows if row["arch"] in KILLED} == {1}


def test_workers_that_cannot_start_are_no_fault_of_the_trials(make: Make) -> None:
    rows = Table()
    with pytest.raises(UserError, match=r"cannot be set up: .*toy\.bin is not on this machine"):
        make().run(search(Exhaustive(), NoWorker(), rows))
    assert rows == []


def test_an_interrupt_waits_for_no_evaluation(make: Make, tmp_path: Path) -> None:
    rows, log = Table(), tmp_path / "log"
    work = search(Exhaustive(), Quick(max_step=2, seconds=6.0, log=str(log)), rows)
    ended: list[float] = []

    def interrupt() -> None:
        while not log.exists():
            time.sleep(0.02)
        work.interrupt()
        ended.append(time.monotonic())

    thread = threading.Thread(target=interrupt)
    thread.start()
    make().run(work)
    thread.join()
    assert time.monotonic() - ended[0] < 5
    assert {t.state.value for t in work.trials.values()} == {"RUNNING"}


def test_evaluations_beside_a_search_wait_for_no_cpu_and_outlive_a_worker(
    make: Make, tmp_path: Path
) -> None:
    @ray.remote(num_cpus=ray.cluster_resources()["CPU"])
    class Busy:
        def ready(self) -> None: ...

    busy = Busy.remote()
    ray.get(busy.ready.remote())
    archs = list(SPACE.enumerate())[:40]
    evaluator = Quick(
        max_step=1,
        log=str(tmp_path / "log"),
        fault={archs[7].text: "deadly", archs[20].text: "kill"},
    )
    payload = EvaluationContext(SPACE, evaluator, ToyData().search_view(0))
    jobs = [(arch, Job(n, 0, 1)) for n, arch in enumerate(archs)]
    runner = make(concurrent=2)
    found = runner.evaluate(payload, jobs)
    again = runner.evaluate(payload, jobs[:5])
    runner.close()
    ray.kill(busy)
    assert found[7][0].failure.startswith("its worker died 2 times")
    expected = LocalRunner().evaluate(
        EvaluationContext(SPACE, Quick(max_step=1), payload.view), jobs
    )
    assert [[o.measurement for o in one] for n, one in enumerate(found) if n != 7] == [
        [o.measurement for o in one] for n, one in enumerate(expected) if n != 7
    ]
    assert [one[0].measurement for one in again] == [one[0].measurement for one in found[:5]]


def test_each_work_takes_the_lane_of_its_evaluator(
    ray_session: TuneRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def noted(kind: Any) -> None:
        run = kind.run
        monkeypatch.setattr(kind, "run", lambda self, w: (ran.append(kind.name), run(self, w))[1])

    noted(lanes.ActorRunner)
    noted(TuneRunner)
    runner = RayRunner(Resources(), modules=ray_session.modules, scratch=tmp_path / "tune")
    for evaluator in (Quick(max_step=1), Curves(max_step=1)):
        work = search(Script(["x=1,y=1,op=a"]), evaluator, Table())
        runner.run(work)
        assert dict(work.status().counts) == {"COMPLETE": 1}
    runner.close()
    assert ran == ["actors", "tune"]
    assert ray.is_initialized()  # it belongs to who opened it
