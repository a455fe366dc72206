"""Own training code in whole searches: paused, killed, resumed, ended by its own patience."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pyarrow.parquet as pq
import pytest
from commands import done, experiment_file, raynas
from integration.toy_runs import Table, search
from searches import make_ordered
from toys import Curves, ToyData, ToySpace, quality

from raynas.core import Architecture, Job, Metric, Objective, Trial, TrialState
from raynas.evaluators import Evaluator, FunctionEvaluator
from raynas.experiment import Budget, Experiment, Finalists
from raynas.pipeline.finalists import finalists_refused
from raynas.runners.local import LocalRunner
from raynas.samplers import Random
from raynas.schedulers import ASHA, Hyperband, PromotionASHA, Scheduler
from raynas.schedulers.none import NoStopping
from raynas.search.context import EvaluationContext, SearchLimits

pytestmark = pytest.mark.usefixtures("undrawn")

LAST = 9
SCHEDULERS: dict[str, Callable[[], Scheduler]] = {
    "none": NoStopping,
    "asha": lambda: ASHA(min_step=1, factor=3),
    "promotion": PromotionASHA,
    "hyperband": Hyperband,
}


def truth(arch: Architecture, epoch: int) -> float:
    return quality(arch) * (1 - 0.6**epoch)


@dataclass
class Training:
    """Epochs with a checkpoint after each, told at every ``every``-th; ``patience``: it ends there.

    ``form``: ``named``, ``counted`` or ``pushed``.
    """

    form: str = "named"
    every: int = 1
    patience: int = LAST
    early: bool = True  # a checkpoint is written before its epoch is told

    made: ClassVar[list[tuple[str, int]]] = []

    def epochs(self, arch: Architecture, job: Job) -> Iterator[tuple[int, float]]:
        assert job.workdir is not None
        file = job.workdir / "epoch"
        kept = int(file.read_text()) if file.exists() else 0
        for epoch in range(kept + 1, self.patience + 1):
            self.made.append((arch.text, epoch))
            if self.early:
                file.write_text(str(epoch))
            if epoch % self.every == 0:
                yield epoch, truth(arch, epoch)
            if not self.early:
                file.write_text(str(epoch))

    def function(self) -> Callable[..., Any]:
        def named(arch: Architecture, job: Job) -> Iterator[Any]:
            for epoch, value in self.epochs(arch, job):
                yield {"step": epoch, "val_accuracy": value}

        def counted(arch: Architecture, job: Job) -> Iterator[Any]:
            for _, value in self.epochs(arch, job):
                yield value

        def pushed(arch: Architecture, job: Job, report: Callable[..., None]) -> None:
            for epoch, value in self.epochs(arch, job):
                report(step=epoch, val_accuracy=value)

        return {"named": named, "counted": counted, "pushed": pushed}[self.form]


FORMS = {
    "named": Training(),
    "named late": Training(early=False),
    "counted": Training("counted"),
    "pushed": Training("pushed"),
    "every third": Training(every=3),
    "every third, pushed": Training("pushed", every=3, early=False),
}


@pytest.fixture(autouse=True)
def _nothing_made() -> None:
    Training.made.clear()


def evaluator_of(training: Training) -> FunctionEvaluator:
    return FunctionEvaluator(training.function(), max_step=LAST)


def carry_out(training: Training, scheduler: str, rows: Table, folder: Path, **more: Any) -> Any:
    work = search(
        Random(), evaluator_of(training), rows, scheduler=SCHEDULERS[scheduler](), trials=7,
        folder=folder, **more,
    )  # fmt: skip
    LocalRunner().run(work)
    assert work.done
    return work


def right(rows: Table) -> bool:
    """Every stored value is that of its step."""
    space = ToySpace()
    return all(
        row["val_accuracy"] == truth(space.architecture(row["arch"]), row["step"])
        for row in rows
        if row["step"] is not None
    )


def states(work: Any) -> set[TrialState]:
    return {trial.state for trial in work.trials.values()}


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("form", FORMS)
def test_schedulers_pause_and_stop_it_as_any_evaluator(
    form: str, scheduler: str, tmp_path: Path
) -> None:
    rows, training = Table(), FORMS[form]
    work = carry_out(training, scheduler, rows, tmp_path)
    assert right(rows)
    assert states(work) <= {TrialState.COMPLETE, TrialState.STOPPED}
    assert TrialState.COMPLETE in states(work)
    assert max(t.step for t in work.trials.values()) == LAST
    if form in ("named", "pushed", "every third"):  # its checkpoints are worth something
        assert len(training.made) == len(set(training.made))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("lanes", [1, 2])
def test_in_order_it_gives_the_table_of_one_worker(form: str, lanes: int, tmp_path: Path) -> None:
    rows = Table()
    payload = EvaluationContext(ToySpace(), evaluator_of(FORMS[form]), ToyData().search_view(0))
    work = make_ordered(
        payload, rows, lanes=lanes, sampler=Random(), fallback=Random(), run="test", seed=0,
        scheduler=PromotionASHA(), limits=SearchLimits(trials=7), stage="search", arm="random",
        objectives=(Objective(),), folder=tmp_path,
    )  # fmt: skip
    LocalRunner().run(work)
    assert right(rows)
    assert states(work) == {TrialState.COMPLETE, TrialState.STOPPED}


def resumed(rows: Table) -> list[Trial]:
    """The trials of these rows, as a resume reads them."""
    from raynas.core import Measurement

    found: dict[int, Trial] = {}
    for row in rows:
        arch = ToySpace().architecture(row["arch"])
        trial = found.setdefault(row["trial"], Trial(row["trial"], arch, arch, row["seed"]))
        trial.state, trial.message = TrialState(row["state"]), row["message"] or ""
        if row["step"] is not None:
            values = {"val_accuracy": row["val_accuracy"]}
            trial.measurements.append(Measurement(row["step"], values, row["seconds"]))
    return [found[number] for number in sorted(found)]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("cut", [1, 4, 8, 12, 17])
def test_a_driver_that_died_at_any_row_ends_in_the_same_table(
    form: str, cut: int, tmp_path: Path
) -> None:
    """Its files may be ahead of the store."""
    training, whole = FORMS[form], Table()
    carry_out(training, "none", whole, tmp_path / "whole")
    rows = Table()
    work = search(
        Random(), evaluator_of(training), rows, scheduler=NoStopping(), trials=7,
        folder=tmp_path / "run",
    )  # fmt: skip
    runner = LocalRunner()

    class Killed(BaseException):
        pass

    def append(new: Any) -> None:
        if len(rows) + len(new) > cut:
            raise Killed
        rows.extend(dict(row) for row in new)

    rows.append = append  # type: ignore[method-assign]
    if cut < len(whole):
        with pytest.raises(Killed):
            runner.run(work)
    del rows.append
    rest = carry_out(
        training, "none", rows, tmp_path / "run", past=resumed(rows), session=2, first_number=0
    )
    assert right(rows)
    assert states(rest) == {TrialState.COMPLETE}
    kept = [(r["arch"], r["step"], r["val_accuracy"]) for r in rows if r["step"] is not None]
    assert sorted(kept) == sorted((r["arch"], r["step"], r["val_accuracy"]) for r in whole)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("form", ["named", "counted", "pushed"])
def test_its_own_patience_completes_a_trial_and_says_so(
    form: str, scheduler: str, tmp_path: Path
) -> None:
    rows, training = Table(), Training(form, patience=5)
    work = carry_out(training, scheduler, rows, tmp_path)
    assert right(rows)
    ended = [row for row in rows if row["state"] == "COMPLETE"]
    assert ended
    assert {row["message"] for row in ended} == {"its evaluator ended it at step 5 of 9"}
    assert states(work) <= {TrialState.COMPLETE, TrialState.STOPPED}
    assert work.best[0].values()["val_accuracy"] == truth(work.best[0].arch, 5)


def test_strictness_fails_a_trial_that_ends_early(tmp_path: Path) -> None:
    rows = Table()
    evaluator = FunctionEvaluator(Training(patience=5).function(), max_step=LAST, strict=True)
    work = search(Random(), evaluator, rows, trials=2, folder=tmp_path)
    LocalRunner().run(work)
    assert states(work) == {TrialState.FAILED}
    assert "gave 5 of 9 measurements" in rows[-1]["message"]


# -- finalists ---------------------------------------------------------------------------------


def train(arch: Architecture, job: Job) -> dict[str, float]:
    return {"val_accuracy": quality(arch) - (10 if job.held_out == "test" else 0)}


def experiment(evaluator: Evaluator, **more: Any) -> Experiment:
    return Experiment(
        ToySpace(), ToyData(), evaluator, Random(), baselines=(), budget=Budget(trials=2), **more
    )


@dataclass
class Validation(Curves):
    """A user's evaluator that knows of no test data."""

    name: ClassVar[str] = "validation"

    @property
    def final_metrics(self) -> tuple[Metric, ...]:
        return self.metrics


def test_finalists_that_cannot_be_measured_are_refused_whatever_trains_them() -> None:
    able, unable = FunctionEvaluator(train, on_test=True), FunctionEvaluator(train)
    assert finalists_refused(experiment(able)) == ""
    assert finalists_refused(experiment(Curves())) == ""
    told = finalists_refused(experiment(unable))
    assert told.startswith("no finalists will be trained: function 'train' does not measure on")
    assert "or set finalists.top=0" in told
    assert "'validation' does not measure test_acc" in finalists_refused(experiment(Validation()))
    for settings in (Finalists(top=0), Finalists(evaluator=able), Finalists(evaluator=Curves())):
        assert finalists_refused(experiment(unable, finalists=settings)) == ""
    assert finalists_refused(experiment(able, finalists=Finalists(evaluator=unable))) == told


_TRAIN = """
import torch
from toys import quality

def train(arch, job):
    network = ToySpace().build(arch, (1, 4, 4), 2)
    with torch.no_grad():
        network[1].bias.fill_(float(arch["x"]))
    for epoch in (1, 2, 3):
        yield Measurement(epoch, {"val_accuracy": quality(arch) - 10 * (job.held_out == "test")})
    torch.save(network.state_dict(), job.workdir / "weights.pt")

def trained(arch, workdir):
    network = ToySpace().build(arch, (1, 4, 4), 2)
    network.load_state_dict(torch.load(workdir / "weights.pt"))
    return network
"""


def stored(run: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(run / "results").to_pylist()
    return sorted(rows, key=lambda row: (row["trial"], row["step"] or 10**6))


def test_without_test_data_no_finalist_starts_and_that_is_said_first(tmp_path: Path) -> None:
    evaluator = "FunctionEvaluator(train, 3)"
    file = experiment_file(
        tmp_path / "own.py", _TRAIN, evaluator=evaluator, scheduler="NoStopping()"
    )
    out = done("run", file, "--local", "--output", tmp_path / "run").splitlines()
    said = [place for place, line in enumerate(out) if "no finalists will be trained" in line]
    searched = [place for place, line in enumerate(out) if line.startswith("search")]
    assert len(said) == 1
    assert said[0] < searched[0]
    assert {row["stage"] for row in stored(tmp_path / "run")} == {"search"}
    assert {row["state"] for row in stored(tmp_path / "run")} == {"RUNNING", "COMPLETE"}
    assert "finalists" not in done("plan", file)
    assert not (tmp_path / "run" / "best" / "network.safetensors").exists()
    answer = raynas("export", tmp_path / "run", "--to", tmp_path / "export")
    assert answer.code == 2
    assert "has no trained network to export" in answer.err


def test_finalists_and_the_best_network_are_the_functions_own(tmp_path: Path) -> None:
    evaluator = "FunctionEvaluator(train, 3, on_test=True, network=trained)"
    file = experiment_file(
        tmp_path / "own.py", _TRAIN, evaluator=evaluator, scheduler="NoStopping()"
    )
    out = done("run", file, "--local", "--output", tmp_path / "run")
    assert "no finalists" not in out
    rows = stored(tmp_path / "run")
    last = {row["trial"]: row for row in rows}.values()
    finals = [row for row in last if row["stage"] == "final"]
    assert len(finals) == 4
    assert {row["state"] for row in last} == {"COMPLETE"}
    for row in finals:
        assert row["test_accuracy"] == quality(ToySpace().architecture(row["arch"])) - 10
        assert row["val_accuracy"] is None
    from safetensors.torch import load_file

    told = json.loads((tmp_path / "run" / "best" / "architecture.json").read_text())
    weights = load_file(tmp_path / "run" / "best" / "network.safetensors")
    assert weights["1.bias"].tolist() == [float(told["choices"]["x"])] * 2
    assert told["trained"]["trial"] in {row["trial"] for row in finals}
    done("export", tmp_path / "run", "--to", tmp_path / "export")
    assert (tmp_path / "export" / "network.safetensors").is_file()


def test_what_a_job_is_measured_on_survives_another_attempt() -> None:
    assert replace(Job(0, 0, 1, held_out="test"), attempt=1).held_out == "test"
