"""A server of subnets on a real Ray: replicas are killed, weights change, callers wait."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import ray
import torch
from integration.toy_runs import Script, Table, search
from sessions import SharedRay
from tiny_supernet import Tiny, tiny_view
from toys import Quick, ToySpace

from raynas.core import Architecture, UserError
from raynas.evaluators import Inherited
from raynas.runners.base import Resources
from raynas.runners.local import LocalRunner
from raynas.runners.ray import actor_pool as crew
from raynas.runners.ray.actors import ActorRunner
from raynas.runners.ray.server import ServerBusy, SubnetAnswer, SupernetServer
from raynas.runners.ray.tune import TuneRunner
from raynas.samplers.random import Random
from raynas.search.context import EvaluationContext
from raynas.supernet.evaluation.measurements import Looks
from raynas.supernet.evaluation.subnets import SubnetEvaluator
from raynas.supernet.weights import save_weights

pytestmark = [pytest.mark.ray, pytest.mark.long]
SPACE, VIEW = Tiny(), tiny_view(200)
Serve = Callable[..., SupernetServer]


def weights(folder: Path, seed: int) -> str:
    """Left in ``folder``; gives their version."""
    torch.manual_seed(seed)
    supernet = SPACE.supernet(VIEW.input_shape, VIEW.num_classes)
    return save_weights(folder, supernet, epoch=1, identity={"seed": seed}).version


def truth(folder_seed: int, archs: list[Architecture]) -> list[float]:
    torch.manual_seed(folder_seed)
    supernet = SPACE.supernet(VIEW.input_shape, VIEW.num_classes)
    return [f.loss for f in SubnetEvaluator(supernet, Looks(64).of(VIEW)).measure(archs)]


def losses(answers: list[SubnetAnswer]) -> list[float]:
    assert [a.failure for a in answers] == [""] * len(answers)
    return [a.measurement.values["val_loss"] for a in answers if a.measurement]


@pytest.fixture(scope="module")
def session(shared_ray: SharedRay) -> Iterator[TuneRunner]:
    """Ray, on which workers know the modules of these tests."""
    shared_ray.close()
    import sys

    import tiny_supernet
    import toys
    from integration import toy_runs

    runner = TuneRunner(modules=(toys, toy_runs, tiny_supernet, sys.modules[__name__]))
    runner.open()
    yield runner
    runner.close()


@pytest.fixture
def serve(session: TuneRunner, tmp_path: Path) -> Iterator[Serve]:
    """Starts servers by the weights of seed 1, with ``concurrent`` replicas."""
    weights(tmp_path / "1", 1)
    started: list[SupernetServer] = []

    def start(evaluator: Inherited | None = None, **settings: float) -> SupernetServer:
        evaluator = evaluator or Inherited(
            calibration=64, weights=tmp_path / "1", preferred_batch=4
        )
        resources = Resources(cpus=0.5, concurrent=int(settings.pop("concurrent", 1)))
        payload = EvaluationContext(SPACE, evaluator, VIEW)
        server = SupernetServer(payload, resources, modules=session.modules, **settings)  # type: ignore[arg-type]
        started.append(server)
        return server

    yield start
    for server in started:
        server.close()


def all_archs(count: int) -> list[Architecture]:
    return list(SPACE.enumerate())[:count]


def test_killed_replicas_under_load_leave_no_question_open(serve: Serve, tmp_path: Path) -> None:
    second = weights(tmp_path / "2", 2)
    server, archs = serve(concurrent=2), all_archs(54)
    first = server.version
    server.evaluate(archs[:1])
    early = server.submit(archs)
    assert server.update(tmp_path / "2") == second
    late = server.submit(archs)
    told: list[SubnetAnswer] = []
    for future in (*early, *late):
        future.add_done_callback(lambda f: told.append(f.result()))
    os.kill(server.health().processes[0], signal.SIGKILL)
    wait([*early, *late], timeout=60)
    assert [f.result().version for f in early] == [first] * 54
    assert [f.result().version for f in late] == [second] * 54
    assert losses([f.result() for f in early]) == pytest.approx(truth(1, archs), rel=1e-4)
    assert losses([f.result() for f in late]) == pytest.approx(truth(2, archs), rel=1e-4)
    assert len(told) == 108  # each once
    health = server.health()
    assert (health.waiting, health.under_way, health.answered) == (0, 0, 108)
    assert health.restarted >= 1
    again = server.submit(archs)  # known by now
    assert all(f.done() for f in again)


def test_a_replica_that_dies_idle_is_replaced_before_it_is_needed(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew, "_PING_SECONDS", 0.1)
    server = serve()
    server.evaluate(all_archs(1))
    (process,) = server.health().processes
    os.kill(process, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while server.health().processes in ((process,), ()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert losses(server.evaluate(all_archs(4))) == pytest.approx(truth(1, all_archs(4)), rel=1e-4)
    assert server.health().restarted == 0


def test_weights_that_cannot_be_used_change_nothing(serve: Serve, tmp_path: Path) -> None:
    server, archs = serve(), all_archs(3)
    before, version = server.evaluate(archs), server.version
    weights(tmp_path / "torn", 3)
    file = tmp_path / "torn" / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"torn/weights\.safetensors is not a complete"):
        server.update(tmp_path / "torn")
    other = Tiny(widths=(2, 4)).supernet(VIEW.input_shape, VIEW.num_classes)
    save_weights(tmp_path / "other", other, epoch=1, identity={})
    with pytest.raises(UserError, match=r"other/weights\.safetensors are of another supernet"):
        server.update(tmp_path / "other")
    with pytest.raises(UserError, match="of space 'toy', not of 'tiny'"):
        server.submit([ToySpace().architecture("x=0,y=0,op=a")])
    assert server.version == version
    assert server.evaluate(archs) == before


@dataclass
class Slow(Inherited):
    """Takes a while for each, or for ever; what a machine does that is too busy."""

    seconds: float = 0.3
    hang: str = ""

    def evaluate_many(self, archs, jobs):  # type: ignore[no-untyped-def]
        time.sleep(self.seconds)
        if self.hang and not Path(self.hang).exists():
            Path(self.hang).touch()
            time.sleep(600)
        yield from super().evaluate_many(archs, jobs)


def test_a_full_queue_makes_callers_wait_or_says_so(serve: Serve, tmp_path: Path) -> None:
    evaluator = Slow(calibration=64, weights=tmp_path / "1", preferred_batch=2)
    server, archs = serve(evaluator, queue=4), all_archs(12)
    first = server.submit(archs[:4])
    with pytest.raises(ServerBusy, match="architectures wait, up to 4 may"):
        server.submit(archs[4:9], wait=0.0)
    assert server.health().waiting <= 4
    most: list[int] = []
    waiting = threading.Thread(target=lambda: most.append(len(server.evaluate(archs[4:8]))))
    waiting.start()
    assert len(server.submit(archs[:4], wait=0.0)) == 4  # on their way already
    waiting.join()
    assert most == [4]
    assert all(f.done() for f in first)
    assert len(server.evaluate(archs)) == 12  # more than the queue holds, alone


def test_a_replica_that_falls_silent_is_replaced(serve: Serve, tmp_path: Path) -> None:
    evaluator = Slow(
        calibration=64, weights=tmp_path / "1", seconds=0.0, hang=str(tmp_path / "hung")
    )
    server = serve(evaluator, patience=3.0)
    began = time.monotonic()
    answers = server.evaluate(all_archs(3))
    assert losses(answers) == pytest.approx(truth(1, all_archs(3)), rel=1e-4)
    assert time.monotonic() - began < 60
    assert server.health().restarted == 3


def test_a_server_that_ends_leaves_no_caller_waiting(serve: Serve, tmp_path: Path) -> None:
    server = serve(Slow(calibration=64, weights=tmp_path / "1", seconds=30.0))
    futures = server.submit(all_archs(3))
    server.close()
    for future in futures:
        with pytest.raises(UserError, match="was closed"):
            future.result(timeout=1)
    with pytest.raises(UserError, match="has ended"):
        server.evaluate(all_archs(1))


def test_weights_in_the_store_are_read_only_and_nobody_writes_to_them(
    session: TuneRunner, tmp_path: Path
) -> None:
    version = weights(tmp_path / "1", 1)
    runner = ActorRunner(modules=session.modules)
    runner.open()
    evaluator = Inherited(calibration=64, weights=tmp_path / "1")
    shared = runner.share(EvaluationContext(SPACE, evaluator, VIEW))
    assert shared.version == version
    arrays = ray.get(shared.assets)
    before = {name: array.copy() for name, array in arrays.items()}
    assert not any(array.flags.writeable for array in arrays.values())
    evaluator.load_assets(arrays)
    evaluator.setup(SPACE, VIEW)
    supernet = evaluator._on("cpu").supernet
    for name, tensor in supernet.state_dict().items():
        assert not np.shares_memory(arrays[name], tensor.numpy())
        tensor.add_(1)
    assert all(np.array_equal(before[name], ray.get(shared.assets)[name]) for name in before)
    runner.close()


def test_a_search_by_inherited_weights_is_the_same_here_and_on_actors(
    session: TuneRunner, tmp_path: Path
) -> None:
    weights(tmp_path / "1", 1)
    evaluator = Inherited(calibration=64, weights=tmp_path / "1", preferred_batch=4)
    rows, here = Table(), Table()
    ActorRunner(Resources(cpus=0.5, concurrent=2), modules=session.modules).run(
        search(Random(), evaluator, rows, space=SPACE, view=VIEW, trials=20)
    )
    LocalRunner().run(search(Random(), evaluator, here, space=SPACE, view=VIEW, trials=20))
    found = [{r["arch"]: r["val_loss"] for r in table} for table in (rows, here)]
    assert found[0].keys() == found[1].keys()
    assert len(found[0]) == 20
    assert [found[0][arch] for arch in found[1]] == pytest.approx(list(found[1].values()), rel=1e-4)


def test_one_at_a_time_goes_for_crowds_too(session: TuneRunner) -> None:
    sampler = Script([f"x={x},y=0,op=a" for x in range(4)])
    evaluator = Quick(max_step=1)
    evaluator.preferred_batch = 8  # type: ignore[misc]
    runner = ActorRunner(Resources(concurrent=1), modules=session.modules)
    runner.run(search(sampler, evaluator, Table()))
    assert sampler.calls == [(call, n) for n in range(4) for call in ("ask", "tell")]
