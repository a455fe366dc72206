"""The contract suite of runners.

Example: a test file for a runner of your own.

.. code-block:: python

    import pytest

    from raynas.runners.base import Resources
    from raynas.runners.local import LocalRunner
    from raynas.testing.runners import RunnerTestCase


    class MyRunner(LocalRunner):
        pass


    class TestMyRunner(RunnerTestCase):
        @pytest.fixture
        def make(self):
            return lambda **resources: MyRunner(Resources(**resources))
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raynas.benchmarks import Synthetic
from raynas.core import Bound, Job, Objective
from raynas.data import Digits
from raynas.evaluators import Retrain, Tabular
from raynas.runners.base import Runner
from raynas.runners.local import LocalRunner
from raynas.runners.placement import ResourceRequest
from raynas.samplers import TPE
from raynas.samplers.evolution import RegularizedEvolution
from raynas.samplers.random import Random
from raynas.schedulers import ASHA, PromotionASHA
from raynas.schedulers.none import NoStopping
from raynas.search.context import EvaluationContext, SearchLimits
from raynas.search.deterministic import DeterministicOrder
from raynas.spaces import NASBench201
from raynas.testing.searches import SAME, Table, content, make_ordered, search
from raynas.testing.toys import Curves, Script, ToyData, ToySpace
from raynas.training import Recipe

MakeRunner = Callable[..., Runner]
"""A function of the fields of :class:`~raynas.runners.base.Resources` that makes a runner."""


class RunnerTestCase:
    """What every runner does: the same search gives the same table as with LocalRunner.

    A subclass defines the fixture ``make``. Some searches train small networks; all together take
    seconds where starting a job takes none.
    """

    @pytest.fixture
    def make(self) -> MakeRunner:
        """Return a function that makes the runner to test, with these resources."""
        raise NotImplementedError("define the fixture `make` in your subclass")

    def test_the_same_random_search_at_any_number_of_workers(
        self, make: MakeRunner, tmp_path: Path
    ) -> None:
        """The same random search at any number of workers."""
        rows, here = Table(), Table()
        work = search(Random(), Curves(log=str(tmp_path / "log")), rows, trials=12)
        runner = make(cpus=0.5, concurrent=2)
        runner.run(work)
        assert work.done
        assert work.most <= 2 or runner.name == "actors"  # these have some jobs ahead
        LocalRunner().run(search(Random(), Curves(), here, trials=12))
        assert content(rows) == content(here)
        assert len(rows) == 48
        log = [line.rpartition(" ") for line in (tmp_path / "log").read_text().splitlines()]
        assert len(log) == len({step for step, _, _ in log}) == 48  # nothing is evaluated twice
        assert len({process for _, _, process in log}) <= 2

    def test_one_at_a_time_means_ask_after_tell(self, make: MakeRunner, tmp_path: Path) -> None:
        """One at a time means ask after tell."""
        texts = [f"x={x},y={y},op=c" for x in (5, 3, 0, 2) for y in (0, 4, 2)]
        rows, here = Table(), Table()
        sampler = Script(texts)
        evaluator = Curves(max_step=9, log=str(tmp_path / "log"))
        work = search(sampler, evaluator, rows, scheduler=ASHA(min_step=1, factor=3))
        make(concurrent=1).run(work)
        assert work.most == 1
        assert sampler.calls == [(call, n) for n in range(12) for call in ("ask", "tell")]
        LocalRunner().run(
            search(Script(texts), Curves(max_step=9), here, scheduler=ASHA(min_step=1, factor=3))
        )
        assert content(rows) == content(here)
        assert {"STOPPED", "COMPLETE"} <= {row["state"] for row in rows}
        processes = {line.split()[-1] for line in (tmp_path / "log").read_text().splitlines()}
        assert len(processes) == 1  # the worker is used again

    def test_in_order_any_number_of_workers_gives_the_table_of_one(
        self, make: MakeRunner, tmp_path: Path
    ) -> None:
        """In order any number of workers gives the table of one."""

        def work(rows: Table, folder: str) -> DeterministicOrder:
            payload = EvaluationContext(ToySpace(), Curves(max_step=9), ToyData().search_view(0))
            return make_ordered(
                payload, rows, lanes=3, sampler=TPE(n_startup=4), fallback=Random(),
                scheduler=ASHA(min_step=1, factor=3), limits=SearchLimits(trials=14), run="test",
                stage="search", arm="tpe", objectives=(Objective(),), seed=0,
                folder=tmp_path / folder,
            )  # fmt: skip

        rows, here = Table(), Table()
        make(cpus=0.5, concurrent=2).run(work(rows, "a"))
        LocalRunner().run(work(here, "b"))
        names = ("trial", "arch", "step", "state", "val_accuracy")
        assert [[r[n] for n in names] for r in rows] == [[r[n] for n in names] for r in here]
        assert {"STOPPED", "COMPLETE"} <= {row["state"] for row in rows}

    def test_a_search_that_learns_decides_the_same_with_one_worker(self, make: MakeRunner) -> None:
        """A search that learns decides the same with one worker."""

        def work(rows: Table) -> Any:
            return search(
                RegularizedEvolution(population=5, sample=3),
                Tabular(Synthetic(max_step=4, noise=1.0), costs=("latency_ms",)),
                rows,
                trials=20,
                scheduler=ASHA(min_step=1, factor=2),
                bounds=(Bound("latency_ms", max=7.0),),
            )

        rows, here = Table(), Table()
        make(concurrent=1).run(work(rows))
        LocalRunner().run(work(here))
        assert _ordered(rows) == _ordered(here)
        assert {row["state"] for row in rows} == {"RUNNING", "STOPPED", "COMPLETE", "INFEASIBLE"}
        assert sum(row["seconds"] for row in rows) == sum(row["seconds"] for row in here)

    def test_training_gives_identical_floats(self, make: MakeRunner, tmp_path: Path) -> None:
        """Training gives identical floats."""
        recipe = Recipe(epochs=2, batch_size=64, flip=False, crop_pad=1)
        view = Digits(subset=256).search_view(0)

        def work(rows: Table, folder: str) -> Any:
            space = NASBench201(channels=4, cells=1)
            return search(
                Random(), Retrain(recipe), rows, trials=3, view=view, space=space,
                folder=tmp_path / folder,
            )  # fmt: skip

        rows, here = Table(), Table()
        make().run(work(rows, "a"))
        LocalRunner().run(work(here, "b"))
        assert len(rows) == 6
        for metric in ("val_accuracy", "val_loss", "train_loss"):
            assert content(rows, metric) == content(here, metric)

    def test_a_fault_ends_its_trial_and_only_that(self, make: MakeRunner) -> None:
        """A fault ends its trial and only that."""
        faults = {f"x={i},y=0,op=a": f for i, f in enumerate(["nan", "crash", "memory", "short"])}
        rows, sampler = Table(), Script([*faults, "x=5,y=5,op=c"])
        make().run(search(sampler, Curves(fault=faults), rows))
        ends = {row["arch"]: (row["state"], row["message"]) for row in rows}
        assert [ends[arch] for arch in sorted(faults)] == [
            ("FAILED", "val_accuracy is nan at step 2"),
            ("FAILED", "RuntimeError: a toy crash"),
            ("INFEASIBLE", _out_of_memory()),
            ("COMPLETE", "its evaluator ended it at step 1 of 4"),
        ]
        assert ends["x=5,y=5,op=c"] == ("COMPLETE", None)
        told = [sampler.told[n].state.value for n in range(5)]
        assert told == ["FAILED", "FAILED", "INFEASIBLE", "COMPLETE", "COMPLETE"]

    def test_out_of_memory_is_tried_once_more_and_then_infeasible(
        self, make: MakeRunner, tmp_path: Path
    ) -> None:
        """Out of memory is tried once more and then infeasible."""
        faults = {"x=0,y=0,op=a": "memory", "x=1,y=0,op=a": "tight"}
        rows, sampler = Table(), Script([*faults, "x=5,y=5,op=c"])
        make(cpus=0.5).run(search(sampler, Curves(fault=faults), rows, folder=tmp_path))
        told = [(sampler.told[n].state.value, sampler.told[n].attempt) for n in range(3)]
        assert told == [("INFEASIBLE", 1), ("COMPLETE", 1), ("COMPLETE", 0)]
        seen = {
            arch: [(r["step"], r["attempt"], r["state"], r["message"]) for r in rows.of(arch)]
            for arch in faults
        }
        first, second = (
            _out_of_memory(),
            [(1, 0, "RUNNING", None), (None, 0, "RUNNING", _out_of_memory())],
        )
        assert seen["x=0,y=0,op=a"] == [*second, (None, 1, "INFEASIBLE", first)]
        assert seen["x=1,y=0,op=a"] == [
            *second, (2, 1, "RUNNING", first), (3, 1, "RUNNING", first), (4, 1, "COMPLETE", None)
        ]  # fmt: skip

    def test_out_of_memory_in_order(self, make: MakeRunner, tmp_path: Path) -> None:
        """Out of memory in order."""
        faults = {"x=0,y=0,op=a": "memory", "x=1,y=0,op=a": "tight"}
        rows, sampler = Table(), Script([*faults, "x=5,y=5,op=c"])
        payload = EvaluationContext(ToySpace(), Curves(fault=faults), ToyData().search_view(0))
        work = make_ordered(
            payload, rows, lanes=2, sampler=sampler, fallback=Random(), scheduler=NoStopping(),
            limits=SearchLimits(), run="test", stage="search", arm="script",
            objectives=(Objective(),), seed=0, folder=tmp_path,
        )  # fmt: skip
        make(cpus=0.5, concurrent=2).run(work)
        assert [sampler.told[n].state.value for n in range(3)] == [
            "INFEASIBLE",
            "COMPLETE",
            "COMPLETE",
        ]
        assert sampler.told[0].message == _out_of_memory()
        assert [row["step"] for row in rows.of("x=1,y=0,op=a") if row["step"]] == [1, 2, 3, 4]

    def test_the_worker_time_of_an_arm_and_an_exhausted_space_end_it(
        self, make: MakeRunner
    ) -> None:
        """The worker time of an arm and an exhausted space end it."""
        rows = Table()
        work = search(Random(), Curves(), rows, limits=SearchLimits(seconds=6.0))
        make(concurrent=1).run(work)
        assert work.done
        assert work.meter.spent == 8.0  # the trial that crosses it is finished
        work = search(Random(), Curves(), Table(), space=ToySpace(depth=1), trials=1000)
        make().run(work)
        assert work.done
        assert work.note
        assert dict(work.status().counts) == {"COMPLETE": 18}

    def test_evaluations_beside_a_search_come_back_in_order(
        self, make: MakeRunner, tmp_path: Path
    ) -> None:
        """Evaluations beside a search come back in order."""
        faults = {"x=1,y=0,op=a": "crash", "x=1,y=1,op=a": "memory", "x=1,y=2,op=a": "short"}
        evaluator = Curves(max_step=2, fault=faults, log=str(tmp_path / "log"))
        space = ToySpace()
        payload = EvaluationContext(space, evaluator, ToyData().search_view(0))
        jobs = [(arch, Job(n, seed=n, max_step=2)) for n, arch in enumerate(space.enumerate())]
        runner = make()
        found = runner.evaluate(payload, jobs)
        assert [[o.measurement.step for o in outcomes if o.measurement] for outcomes in found] == [
            [1] if arch.text in faults else [1, 2] for arch, _ in jobs
        ]
        ends = {arch.text: outcomes[-1] for (arch, _), outcomes in zip(jobs, found, strict=True)}
        assert {arch: o.failure for arch, o in ends.items() if o.failure} == {
            "x=1,y=0,op=a": "RuntimeError: a toy\ncrash",
            "x=1,y=1,op=a": "MemoryError: toy",
        }
        again = runner.evaluate(payload, jobs[:3])
        assert [[o.measurement for o in one] for one in again] == [
            [o.measurement for o in one] for one in found[:3]
        ]
        assert runner.evaluate(payload, []) == []
        runner.close()

    def test_paused_trials_go_on_or_end_alike(self, make: MakeRunner, tmp_path: Path) -> None:
        """A trial that is promoted comes back as a new job of the same number."""
        rows, here = Table(), Table()

        def work(rows: Table, folder: Path | None) -> Any:
            evaluator, scheduler = Curves(max_step=9), PromotionASHA()
            return search(Random(), evaluator, rows, trials=8, scheduler=scheduler, folder=folder)

        runner = make(concurrent=1)
        # actors carry out what is quick, which keeps nothing, and carry it out to its end
        one = work(rows, None if runner.name == "actors" else tmp_path / "a")
        runner.run(one)
        assert one.done
        LocalRunner().run(work(here, tmp_path / "b"))
        measured = [[row for row in table if row["step"] is not None] for table in (rows, here)]
        assert content(measured[0]) == content(measured[1])
        assert len(rows) == len(here)
        assert {row["state"] for row in rows} == {"RUNNING", "STOPPED", "COMPLETE"}


def _ordered(rows: Table) -> list[Any]:
    """The rows in the order in which they came, without time and place."""
    return [tuple(row.get(c) for c in ("trial", *SAME, "val_accuracy")) for row in rows]


def _out_of_memory() -> str:
    """What is said of it on this machine."""
    return f"out of memory with {ResourceRequest().in_words('cpu')}: MemoryError: toy"
