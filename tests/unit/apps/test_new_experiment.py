"""``raynas demo`` and ``raynas new``: files to begin with."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from commands import done, raynas

import raynas as rn
from raynas.apps.new_experiment import new_text, quickstart_file
from raynas.experiment import load, with_data
from raynas.spaces import ElasticResNet, NASBench201, NASBench201Cells

ROOT = Path(__file__).resolve().parents[3]
SPACES = {space.name: space for space in (NASBench201, NASBench201Cells, ElasticResNet)}
SETS = ("arrays", "cifar10", "cifar100", "digits", "fashion-mnist", "imagenet16")


def test_the_package_has_the_quickstart_of_the_experiments() -> None:
    assert quickstart_file().read_text() == (ROOT / "experiments" / "quickstart.py").read_text()


@pytest.mark.parametrize("data", SETS)
@pytest.mark.parametrize("space", SPACES)
def test_every_new_file_is_an_experiment(space: str, data: str, tmp_path: Path) -> None:
    file = tmp_path / "my_search.py"
    file.write_text(new_text(file, space, data))
    experiment = with_data(load(file, smoke=True)).experiment
    assert type(experiment.space) is SPACES[space]
    assert experiment.data.name in (data, "stand-in")
    assert experiment.budget.trials == 2
    text = file.read_text()
    assert "raynas run my_search.py --smoke --local" in text
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize(
    ("space", "data", "settings"),
    [
        ("nasbench201", "digits", ("--set", "space.cells=1", "--set", "space.channels=4")),
        ("elastic_resnet", "arrays", ()),
    ],
)
def test_a_new_file_runs(
    space: str,
    data: str,
    settings: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAYNAS_STORAGE", raising=False)
    out = done("new", "my_search.py", "--space", space, "--data", data)
    assert out == "wrote my_search.py; next: raynas run my_search.py --smoke --local\n"
    done("run", "my_search.py", "--smoke", "--local", *settings)
    run = rn.open("runs/my_search")
    trials = run.trials()
    assert set(trials["stage"]) == {"search", "final"}
    assert run.best().test is not None
    assert not run.best().network().training


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "my_search.py"
    file.write_text("mine")
    called = raynas("new", file)
    assert called.code == 2
    assert called.err.startswith(f"error: {file} exists, and is left as it is; ")
    assert file.read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["my_search.txt"], "file 'my_search.txt'; expected: a name that ends in .py"),
        (["a.py", "--space", "elastic"], "unknown space 'elastic'; expected: nasbench201,"),
        (["a.py", "--data", "idx9"], "unknown data set 'idx9'; expected: arrays, cifar10,"),
        ([f"nowhere{os.sep}a.py"], "cannot be written: No such file or directory"),
    ],
)
def test_wrong_arguments_are_one_line(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    called = raynas("new", *arguments)
    assert called.code == 2
    assert words in called.err
    assert called.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_demo_is_the_quickstart(tmp_path: Path) -> None:
    small = ["budget.trials=1", "evaluator.recipe.epochs=1", "data.subset=60", "finalists.top=0"]
    sets = [part for text in (*small, "baselines=()") for part in ("--set", text)]
    out = done("demo", "--local", "--output", tmp_path / "demo", *sets)
    assert out.endswith("next: raynas new my_search.py writes an experiment of your own\n")
    run = rn.open(tmp_path / "demo")
    assert run.name == "quickstart"
    assert run.folder.source.read_text() == quickstart_file().read_text()
