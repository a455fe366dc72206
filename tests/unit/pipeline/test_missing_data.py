"""Commands where the files of a data set are missing: what stands in, and who refuses."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from commands import done, experiment_file, raynas

from raynas.apps.score import ScoreRequest, load_request
from raynas.core import UserError
from raynas.data import CIFAR10, StandIn
from raynas.experiment import load, with_data

pytestmark = pytest.mark.usefixtures("undrawn")

HEAD = '''
from raynas.data.files import not_found
from raynas.evaluators import Retrain
from raynas.spaces import NASBench201


@dataclass(frozen=True)
class Leaves(ImageSet):
    """Declares 60 + 12 images of 8 x 6, of which there is no file."""

    name = "leaves"
    folder: str | None = None

    @property
    def declared(self):
        return DeclaredImages("Leaves", (8, 6, 3), 4, 60, 12)

    def load(self, part):
        raise not_found("Leaves", [], "collect some", self.folder)
'''
SAID = "Leaves: random images stand in (8 x 6 x 3, 4 classes, 60 training and 12 test images"
MISSING = "Leaves not found (looked in: no folder given and $RAYNAS_DATA not set); collect some"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAYNAS_DATA", raising=False)
    monkeypatch.delenv("RAYNAS_STORAGE", raising=False)
    return experiment_file(
        tmp_path / "mine.py", HEAD, data="Leaves()", space="NASBench201(channels=4, cells=1)",
        evaluator="Retrain(Recipe(epochs=2, batch_size=16, crop_pad=1))",
        smoke='{"budget.trials": 2, "finalists.top": 1, "finalists.seeds": 1, "data.subset": 24}',
    )  # fmt: skip


def test_a_run_refuses_before_anything_is_made(file: Path) -> None:
    called = raynas("run", file, "--local")
    assert (called.code, called.out) == (2, "")
    assert called.err == f"error: {MISSING}\n"
    assert not Path("runs").exists()


def test_smoke_runs_on_random_images_and_goes_on(file: Path) -> None:
    out = done("run", file, "--smoke", "--local", "--output", "run")
    assert SAID in out
    assert MISSING in out
    assert Path("run/best/network.safetensors").exists()
    assert '"StandIn"' in Path("run/run.json").read_text()
    again = done("resume", "run", "--local", "--trials", "+1")
    assert SAID in again
    assert len({r["trial"] for r in pq.read_table("run/results").to_pylist()}) == 4
    assert "safetensors" in done("export", "run")


def test_smoke_refuses_a_folder_that_was_named(file: Path) -> None:
    called = raynas("run", file, "--smoke", "--local", "--set", "data.folder=/elsewhere")
    assert called.code == 2
    assert "Leaves not found" in called.err


def test_a_plan_is_of_the_declared_shape_and_all_images(file: Path) -> None:
    out = done("plan", file, "--sample", "5")
    assert SAID in out
    made = with_data(load(file)).experiment
    view = made.data.search_view(made.seed)
    assert (view.input_shape, len(view.train) + len(view.held_out)) == ((3, 8, 6), 60)
    with pytest.raises(UserError, match="Leaves not found"):
        load(file).experiment.data.search_view(0)


@pytest.mark.parametrize("known", [("--step-seconds", "3"), ("--probe", "1")])
def test_a_simulation_takes_costs_from_the_declared_shape(
    file: Path, known: tuple[str, ...]
) -> None:
    out = done("simulate", file, *known, "--set", "budget.trials=4")
    assert SAID in out
    assert "SIMULATED" in out


def test_scores_say_that_they_are_of_random_images_and_the_run_keeps_it(file: Path) -> None:
    out = done("score", file, "--random", "2", "--proxies", "naswot,params", "--local",
               "--batch", "8", "--output", "scores")  # fmt: skip
    assert SAID in out
    assert '"stand_in": true' in Path("scores/run.json").read_text()
    assert SAID in done("score", "scores", "--top", "1")
    called = raynas("score", file, "--random", "2", "--local", "--set", "data.folder=/elsewhere")
    assert called.code == 2
    assert "Leaves not found" in called.err


def test_a_named_data_set_is_scored_on_its_declared_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAYNAS_DATA", raising=False)
    loaded = load_request(ScoreRequest("nasbench201", data="cifar10"), {"data.subset": 128})
    assert loaded.experiment.data == StandIn(of=CIFAR10(subset=128), subset=128)
    assert loaded.stand_in
    assert load_request(ScoreRequest("nasbench201"), {}).stand_in is False
