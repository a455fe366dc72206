"""Ray Tune's traps: each must not be ours. One Ray session for all."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import ray
from integration.toy_runs import (
    Faulty,
    Meeting,
    Mortal,
    NoWorker,
    Recorded,
    Script,
    Several,
    Table,
    content,
    large_view,
    search,
)
from optuna.trial import TrialState as OptunaState
from toys import Curves

from raynas.core import Measurement, UserError
from raynas.data import Digits
from raynas.runners.base import JobOutcome, Resources
from raynas.runners.local import LocalRunner
from raynas.runners.placement import ResourceAllocator, ResourceRequest
from raynas.runners.ray import tune_search as tune_module
from raynas.runners.ray.tune import TuneRunner
from raynas.samplers import TPE
from raynas.samplers.random import Random
from raynas.schedulers import ASHA
from raynas.spaces import NASBench201
from raynas.training import Recipe
from raynas.training.checkpoint import load_checkpoint

pytestmark = pytest.mark.ray
Make = Callable[..., TuneRunner]

FAULTS = {
    "x=0,y=0,op=a": "nan",
    "x=0,y=1,op=a": "crash",
    "x=0,y=2,op=a": "memory",
    "x=0,y=3,op=a": "kill",
    "x=0,y=4,op=a": "kill",
}
DEADLY = "x=0,y=4,op=a"
GOOD = tuple(f"x={x},y=5,op=c" for x in range(6))


@dataclass
class Finished:
    work: Recorded
    rows: Table
    sampler: Script
    log: list[str]
    seen: set[str]
    scratch: Path


@pytest.fixture(scope="module")
def faults(ray_session: TuneRunner, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """One search with every fault in it, in a working folder with a file of the user's."""
    folder = tmp_path_factory.mktemp("faults")
    log = folder / "log"
    evaluator = Faulty(fault=FAULTS, deadly=(DEADLY,), log=str(log))
    rows, sampler = Table(), Script([*FAULTS, *GOOD])
    work = search(sampler, evaluator, rows, view=large_view(), folder=folder / "checkpoints")
    scratch = folder / "tune"
    runner = TuneRunner(Resources(retries=1), scratch=scratch, modules=ray_session.modules)
    runner.run(work)
    seen = Path(f"{log}.seen").read_text().splitlines()
    return Finished(work, rows, sampler, log.read_text().splitlines(), set(seen), folder / "tune")


def ends(found: Finished, arch: str) -> tuple[str, str | None, list[int | None]]:
    rows = found.rows.of(arch)
    return rows[-1]["state"], rows[-1]["message"], [row["step"] for row in rows]


def test_a_nan_never_goes_on(faults: Finished) -> None:
    arch = "x=0,y=0,op=a"
    assert ends(faults, arch) == ("FAILED", "val_accuracy is nan at step 2", [1, None])
    assert not [line for line in faults.log if line.startswith(f"{arch} 3")]
    assert faults.sampler.told[0].state.value == "FAILED"


def test_a_crash_is_failed_and_the_worker_lives_on(faults: Finished) -> None:
    assert ends(faults, "x=0,y=1,op=a") == ("FAILED", "RuntimeError: a toy crash", [1, None])
    assert faults.sampler.told[1].state.value == "FAILED"
    state, message, steps = ends(faults, "x=0,y=2,op=a")
    room = ResourceRequest().in_words("cpu")
    assert (state, message) == ("INFEASIBLE", f"out of memory with {room}: MemoryError: toy")
    assert steps == [1, None, None]  # with the first time that memory was short


def test_a_killed_worker_is_followed_by_one_that_goes_on_from_the_checkpoint(
    faults: Finished,
) -> None:
    arch = "x=0,y=3,op=a"
    assert ends(faults, arch) == ("COMPLETE", None, [1, 2, 3, 4])
    assert [row["attempt"] for row in faults.rows.of(arch)] == [0, 1, 1, 1]
    lines = [line.split() for line in faults.log if line.startswith(arch)]
    assert [step for _, step, _ in lines] == ["1", "2", "3", "4"]  # step 1 only once
    assert len({process for _, _, process in lines}) == 2


def test_a_trial_whose_worker_always_dies_fails_and_harms_nobody(faults: Finished) -> None:
    state, message, steps = ends(faults, DEADLY)
    assert (state, steps) == ("FAILED", [1, None])
    assert message is not None
    assert message.startswith("its worker died 2 times: it was killed")
    assert faults.rows.of(DEADLY)[-1]["attempt"] == 1
    for arch in GOOD:
        assert ends(faults, arch) == ("COMPLETE", None, [1, 2, 3, 4])
    assert set(faults.sampler.told) == set(range(len(FAULTS) + len(GOOD)))


def test_images_are_shared_read_only_and_paths_stay_the_users(faults: Finished) -> None:
    total = large_view().train.pixels.sum()
    assert faults.seen == {f"{Path.cwd()}|False|True|{total}"}


def test_tune_leaves_no_file(faults: Finished) -> None:
    assert not faults.scratch.exists()


def test_tune_does_not_keep_trials_that_ended(tune: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[int] = []
    real = tune_module.WorkScheduler.on_trial_result

    def result(self: Any, controller: Any, trial: Any, found: dict[str, Any]) -> str:
        gc.collect()
        kept.append(sum(type(o) is type(trial) for o in gc.get_objects()))
        return real(self, controller, trial, found)

    monkeypatch.setattr(tune_module.WorkScheduler, "on_trial_result", result)
    work = search(Random(), Curves(1), Table(), trials=20)
    gc.freeze()  # what was there before is no trial of this search, and need not be looked through
    try:
        tune().run(work)
    finally:
        gc.unfreeze()
    assert work.status().counts == {"COMPLETE": 20}
    assert max(kept) <= 6  # two that run, two that wait, and those of a step


def test_a_late_result_of_an_ended_trial_changes_nothing(faults: Finished) -> None:
    class Zombie:
        config = {"job": type("J", (), {"trial": 0, "attempt": 0})}  # noqa: RUF012

    before, told = list(faults.rows), faults.sampler.told[0]
    hooks = tune_module.TuneHooks(
        faults.work, ResourceAllocator(ResourceRequest(), (0, 0)), Resources()
    )
    scheduler = tune_module.WorkScheduler(hooks)
    late = {"outcome": JobOutcome(Measurement(3, {"val_accuracy": 99.0})), "node": "n"}
    assert scheduler.on_trial_result(None, Zombie(), late) == "STOP"
    assert faults.rows == before
    assert told.measurements[-1].step == 1


def test_training_goes_on_after_a_kill_as_if_nothing_had_happened(
    tune: Make, tmp_path: Path
) -> None:
    recipe = Recipe(epochs=4, batch_size=64, flip=False, crop_pad=1)
    view, space = Digits(subset=256).search_view(0), NASBench201(channels=4, cells=1)

    def train(runner: Any, folder: Path, mark: str) -> tuple[Table, dict[str, Any]]:
        rows = Table()
        evaluator = Mortal(recipe, checkpoint_seconds=0.0, mark=mark)
        work = search(
            Random(), evaluator, rows, trials=1, view=view, space=space, folder=folder
        )  # fmt: skip
        runner.run(work)
        network = space.build(work.arch(0), view.input_shape, view.num_classes)
        (kept,) = (folder / "000000").iterdir()
        assert load_checkpoint(kept, {"label": work.arch(0).text}, network)
        return rows, network.state_dict()

    mark = tmp_path / "killed"
    rows, weights = train(tune(), tmp_path / "a", str(mark))
    calm, expected = train(LocalRunner(), tmp_path / "b", "")
    assert mark.exists()
    assert [row["attempt"] for row in rows] == [0, 0, 1, 1]
    for metric in ("val_accuracy", "val_loss", "train_loss"):
        assert content(rows, metric) == content(calm, metric)
    assert weights.keys() == expected.keys()
    assert all((weights[name] == expected[name]).all() for name in weights)


def test_optuna_hears_of_every_end_as_the_store_does(tune: Make) -> None:
    faults = {f"x={x},y={y},op=a": "crash" for x in range(6) for y in range(6)}
    sampler, rows = TPE(n_startup=5), Table()
    evaluator = Curves(max_step=9, fault=faults)
    work = search(sampler, evaluator, rows, trials=24, scheduler=ASHA(min_step=1, factor=3))
    tune().run(work)
    stored = [t.state.value for t in work.trials.values()]
    study = sampler._study.trials
    assert OptunaState.RUNNING not in {t.state for t in study}
    for state, told in (("COMPLETE", "COMPLETE"), ("STOPPED", "PRUNED")):
        assert stored.count(state) == sum(t.state.name == told for t in study) > 0
    assert "FAILED" in stored
    curves = [
        {m.step: m.values["val_accuracy"] for m in t.measurements}
        for t in work.trials.values()
        if t.state.value == "STOPPED"
    ]
    for trial in study:
        if trial.state is OptunaState.PRUNED:
            assert trial.intermediate_values in curves


def test_half_a_core_each_lets_four_work_on_two(tune: Make, tmp_path: Path) -> None:
    rows = Table()
    runner = tune(cpus=ray.cluster_resources()["CPU"] / 4)
    work = search(Random(), Meeting(log=str(tmp_path / "log")), rows, trials=4)
    runner.run(work)
    assert {row["state"] for row in rows if row["step"] in (4, None)} == {"COMPLETE"}
    assert work.most == 4


def test_workers_that_cannot_start_are_no_fault_of_the_trials(tune: Make) -> None:
    rows = Table()
    work = search(Random(), NoWorker(), rows, trials=3)
    with pytest.raises(UserError, match=r"cannot be set up: .*toy\.bin is not on this machine"):
        tune().run(work)
    assert rows == []
    assert {t.state.value for t in work.trials.values()} == {"RUNNING"}


@pytest.fixture
def memory_is_short(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], list[int]]:
    """A trial's measurements end the whole fit as a kill by Ray's memory monitor does."""

    def shorten(arch: str, times: int) -> list[int]:
        kills: list[int] = []
        real = tune_module.WorkScheduler.on_trial_result

        def result(self: Any, controller: Any, trial: Any, outcome: Any) -> str:
            if trial.config["arch"] == arch and len(kills) < times:
                kills.append(len(self._hooks.work.live))
                raise ray.exceptions.OutOfMemoryError("Task was killed: memory is low")
            return real(self, controller, trial, outcome)

        monkeypatch.setattr(tune_module.WorkScheduler, "on_trial_result", result)
        return kills

    return shorten


@pytest.mark.parametrize(("times", "state"), [(1, "COMPLETE"), (99, "INFEASIBLE")])
def test_a_kill_by_rays_memory_monitor_does_not_end_the_search(
    tune: Make, memory_is_short: Any, times: int, state: str
) -> None:
    kills = memory_is_short(GOOD[1], times)
    rows, sampler = Table(), Script(GOOD[:4])
    work = search(sampler, Curves(seconds=0.05), rows)
    tune(retries=1).run(work)
    assert work.done
    found = {t.arch.text: t.state.value for t in work.trials.values()}
    assert found == {**dict.fromkeys(GOOD[:4], "COMPLETE"), GOOD[1]: state}
    assert all(n == 1 for n in kills[1:])  # tried again alone
    if state == "INFEASIBLE":
        message = rows.of(GOOD[1])[-1]["message"]
        assert message.startswith("out of memory with ")
        assert message.endswith(" GB of memory to itself: Ray's memory monitor killed its worker")
    assert set(sampler.told) == {0, 1, 2, 3}


def test_when_ray_is_gone_the_run_ends_and_the_trials_stay_open(
    tune: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from raynas.core import RaynasError

    def broken(_self: TuneRunner, hooks: Any) -> None:
        hooks.work.next()
        raise ConnectionError("the cluster is gone")

    monkeypatch.setattr(TuneRunner, "_fit", broken)
    rows = Table()
    with pytest.raises(RaynasError, match=r"ended \d+ times without a result: .*cluster is gone"):
        tune().run(search(Random(), Curves(), rows, trials=3))
    assert rows == []


def test_a_full_disk_ends_the_search_with_what_is_stored(tune: Make) -> None:
    class Disk(Table):
        def append(self, rows: Any) -> None:  # type: ignore[override]
            if len(self) >= 7:
                raise UserError("no space left")
            super().append(rows)

    rows = Disk()
    work = search(Random(), Curves(), rows, trials=20)
    with pytest.raises(UserError, match="no space left"):
        tune().run(work)
    assert len(rows) == 7


def test_the_scratch_folder_in_the_systems_place_is_removed(
    ray_session: TuneRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    runner = TuneRunner(modules=ray_session.modules)
    runner.run(search(Random(), Curves(), Table(), trials=1))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:1", "no Ray cluster answers at '127.0.0.1:1'; expected: 'auto' on a machine"),
        ("ray://127.0.0.1:1", "address 'ray://127.0.0.1:1'; expected: 'auto' on a machine"),
    ],
)
def test_an_address_that_cannot_be_joined_is_told_at_once(address: str, expected: str) -> None:
    code = (
        "from raynas.runners.ray.tune import TuneRunner\n"
        f"try: TuneRunner(address={address!r}).open()\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert told.stdout.startswith(f"UserError {expected}")
    assert told.stderr == ""


def test_an_evaluation_by_several_processes_gets_their_resources(tune: Make) -> None:
    rows = Table()
    work = search(Script(GOOD[:2]), Several(max_step=2), rows, trials=2)
    tune(cpus=1.0).run(work)
    assert work.most == 1  # there are two cores
    assert [row["state"] for row in rows].count("COMPLETE") == 2
    with pytest.raises(UserError, match="3 processes that train together need 3 CPUs on one mach"):
        tune(cpus=1.0).run(search(Script(GOOD[:1]), Several(processes=3), Table(), trials=1))
