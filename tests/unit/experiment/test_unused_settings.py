"""Settings that are given and that nothing uses are named before a run begins."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import experiment_file, raynas

from raynas import reports
from raynas.evaluators import Inherited
from raynas.experiment import load
from raynas.pipeline.checks import unused_settings
from raynas.runners.base import Resources
from raynas.runners.local import LocalRunner
from raynas.supernet.evaluation.race import Race

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({}, []),
        ({"scheduler": "NoStopping()"}, []),
        ({"evaluator": "Curves(max_step=1)"}, ["scheduler=ASHA: not used, since curves measures"]),
        ({"evaluator": "Curves(max_step=1)", "scheduler": "NoStopping()"}, []),
        (
            {"finalists": "Finalists(0, evaluator=Curves(max_step=2))"},
            ["finalists.evaluator: not used, since finalists.top=0"],
        ),
        ({"finalists": "Finalists(1, evaluator=Curves(max_step=2))"}, []),
    ],
)
def test_parts_that_are_never_asked_are_named(
    tmp_path: Path, parts: dict[str, str], words: list[str]
) -> None:
    found = unused_settings(load(experiment_file(tmp_path / "toy.py", **parts)).experiment)
    assert len(found) == len(words)
    assert all(line.startswith(word) for line, word in zip(found, words, strict=True))


def test_a_local_run_names_what_only_workers_have() -> None:
    assert LocalRunner(Resources(cpus=2, gpus=0, concurrent=3)).remarks() == ()
    (line,) = LocalRunner(Resources(memory=4, patience=60)).remarks()
    assert line.startswith("resources.memory=4, resources.patience=60: not used in a local run")


def test_a_race_names_the_setting_without_effect() -> None:
    assert Inherited(race=Race()).remarks() == ()
    assert Inherited(race=Race(block=8)).remarks() == ("race.block=8: not used any more",)


def test_they_are_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "write_report", lambda *_: None)
    file = experiment_file(tmp_path / "toy.py", evaluator="Curves(max_step=1)")
    called = raynas("run", file, "--local", "--output", tmp_path / "run", "--set",
                    "resources.memory=3")  # fmt: skip
    assert called.code == 0
    assert "scheduler=ASHA: not used" in called.out
    assert "resources.memory=3.0: not used in a local run" in called.out


def test_finalists_that_cannot_be_trained_are_told_before_the_search(tmp_path: Path) -> None:
    final = "Retrain(Recipe(epochs=1, crop_pad=8))"
    file = experiment_file(
        tmp_path / "net.py", space="NASBench201(channels=2, cells=1)", data="Digits(subset=60)",
        evaluator="Retrain(Recipe(epochs=1, batch_size=30))", scheduler="NoStopping()",
        budget="Budget(1)", finalists=f"Finalists(1, 1, evaluator={final})",
        head="from raynas.spaces import NASBench201",
    )  # fmt: skip
    called = raynas("run", file, "--local", "--output", tmp_path / "run")
    assert called.code == 2
    assert "crop_pad=8 for images of 8 x 8 pixels" in called.err
    assert not (tmp_path / "run").exists()
