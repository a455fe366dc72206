"""``import raynas as rn``: what it gives, what it imports, and runs as objects."""

from __future__ import annotations

import ast
import importlib.util
import io
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from commands import experiment_file, raynas
from matplotlib.figure import Figure
from rich.console import Console
from toys import Curves, ToyData, ToySpace

import raynas as rn
from raynas.callbacks import CALLBACKS, RunCallback
from raynas.pipeline.stages import RunInterrupted
from raynas.store import RunFolder, read

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "raynas" / "__init__.py"


def silent() -> Console:
    return Console(file=io.StringIO(), width=200)


def toy(**settings: Any) -> rn.Experiment:
    parts: dict[str, Any] = {
        "space": ToySpace(),
        "data": ToyData(),
        "evaluator": Curves(),
        "sampler": rn.Random(),
        "baselines": (),
        "budget": rn.Budget(trials=6),
        "finalists": rn.Finalists(top=2, seeds=2),
        "name": "toy",
    }
    return rn.Experiment(**{**parts, **settings})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> rn.Run:
    """A finished run of an object; tests only read it."""
    output = tmp_path_factory.mktemp("api") / "run"
    return rn.run(toy(), output=output, local=True, console=silent())


# -- names -------------------------------------------------------------------------------------


def typed_names() -> dict[str, str]:
    """Name -> module, of the imports for type checkers."""
    (block,) = (n for n in ast.parse(SOURCE.read_text()).body if isinstance(n, ast.If))
    return {
        alias.name: node.module or ""
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_type_checkers_see_what_is_loaded() -> None:
    typed = {name: module for name, module in typed_names().items() if module != "raynas"}
    packages = {name for name, module in typed_names().items() if module == "raynas"}
    assert typed == rn._HOME
    assert packages == set(rn._PACKAGES)
    assert sorted(rn.__all__) == sorted([*typed, *packages, "__version__"])
    assert set(rn.__all__) <= set(dir(rn))


def test_every_name_is_there_and_none_is_hidden_by_a_package() -> None:
    for name, module in rn._HOME.items():
        assert getattr(rn, name) is getattr(importlib.import_module(module), name)
        assert importlib.util.find_spec(f"raynas.{name}") is None, name
    for name in rn._PACKAGES:
        assert getattr(rn, name) is sys.modules[f"raynas.{name}"]
    with pytest.raises(AttributeError, match="module 'raynas' has no attribute 'shrink'"):
        _ = rn.shrink


def test_every_part_of_the_package_is_in_the_facade() -> None:
    registries: list[dict[str, Any]] = [
        rn.spaces.SPACES, rn.data.DATASETS, rn.evaluators.EVALUATORS, rn.proxies.proxies(),
        rn.samplers.samplers(), rn.schedulers.schedulers(), CALLBACKS, rn.benchmarks.BENCHMARKS,
        rn.supernet.RULES,
    ]  # fmt: skip
    for part in (part for registry in registries for part in registry.values()):
        assert getattr(rn, part.__name__) is part


def test_the_import_alone_loads_nothing_else() -> None:
    """A fresh interpreter: what is imported is what makes users wait."""
    code = (
        "import sys; import raynas as rn; dir(rn); heavy = {'numpy', 'torch', 'ray', 'pyarrow'}; "
        "print(sorted(m for m in sys.modules if m.startswith('raynas') or m in heavy))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "['raynas', 'raynas.moved', 'raynas.version']"


# -- a run as an object ------------------------------------------------------------------------


def test_measurements_are_the_table_of_the_store(run: rn.Run) -> None:
    table = read(RunFolder.open(run.path))
    frame = run.measurements()
    assert isinstance(frame, pd.DataFrame)
    assert list(frame.columns) == table.column_names
    assert len(frame) == table.num_rows == (6 + 2 * 2) * 4
    assert frame["val_accuracy"].tolist()[:4] == table["val_accuracy"].to_pylist()[:4]


def test_trials_are_their_last_rows(run: rn.Run) -> None:
    trials, rows = run.trials(), run.measurements()
    assert isinstance(trials, pd.DataFrame)
    assert isinstance(rows, pd.DataFrame)
    assert trials["trial"].tolist() == list(range(10))
    assert trials["stage"].tolist() == ["search"] * 6 + ["final"] * 4
    assert set(trials["state"]) == {"COMPLETE"}
    last = rows[rows["step"] == 4].set_index("trial")
    for name in ("val_accuracy", "test_accuracy", "params", "arch", "seed"):
        pd.testing.assert_series_equal(trials.set_index("trial")[name], last[name])
    assert trials["seconds"].tolist() == [4.0] * 10


def test_tables_are_arrow_where_pandas_is_not_installed(
    run: rn.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    trials, rows = run.trials(), run.measurements()
    assert isinstance(trials, pa.Table)
    assert isinstance(rows, pa.Table)
    assert (trials.num_rows, rows.num_rows) == (10, 40)
    assert trials.schema.field("val_accuracy").metadata[b"unit"] == b"%"


def test_a_trial_without_a_measurement_has_no_step(tmp_path: Path) -> None:
    bounds = (rn.Bound("params", max=40),)
    found = rn.run(
        toy(bounds=bounds, finalists=rn.Finalists(top=0)), output=tmp_path / "run", local=True,
        console=silent(),
    ).trials()  # fmt: skip
    assert isinstance(found, pd.DataFrame)
    outside = found[found["state"] == "INFEASIBLE"]
    assert len(outside)
    assert (outside["params"] > 40).all()
    assert outside[["step", "val_accuracy"]].isna().all(axis=None)
    assert (found[found["state"] == "COMPLETE"]["step"] == 4).all()


def test_the_best_is_the_best_of_the_search(run: rn.Run) -> None:
    best, trials = run.best(), run.trials()
    assert isinstance(trials, pd.DataFrame)
    searched = trials[trials["stage"] == "search"].set_index("trial")
    assert best.trial == searched["val_accuracy"].idxmax()
    row = searched.loc[best.trial]
    assert best.metrics["val_accuracy"] == row["val_accuracy"]
    assert best.metrics["params"] == row["params"]
    assert "test_accuracy" not in best.metrics
    assert (best.architecture.text, best.architecture.id) == (row["arch"], row["arch_id"])
    assert best.architecture == ToySpace().architecture(row["arch"])
    final = trials[(trials["stage"] == "final") & (trials["arch"] == row["arch"])]
    assert best.test is not None
    assert (best.test.metric, best.test.seeds) == ("test_accuracy", 2)
    assert best.test.mean == pytest.approx(final["test_accuracy"].mean())


def test_a_network_that_is_not_kept_is_said_to_be_missing(run: rn.Run) -> None:
    with pytest.raises(rn.UserError, match="keeps no trained network of trial"):
        run.best().network()


def test_the_front_of_one_objective_is_over_the_number_of_weights(run: rn.Run) -> None:
    front, trials = run.front(), run.trials()
    assert isinstance(trials, pd.DataFrame)
    points = trials[trials["stage"] == "search"][["val_accuracy", "params"]].to_numpy()
    best = {
        (a, p) for a, p in points
        if not any((b >= a and q <= p) and (b, q) != (a, p) for b, q in points)
    }  # fmt: skip
    assert {(r.metrics["val_accuracy"], r.metrics["params"]) for r in front} == best
    values = [result.metrics["val_accuracy"] for result in front]
    assert values == sorted(values, reverse=True)
    assert front[0].trial == run.best().trial


def test_the_front_of_several_objectives(tmp_path: Path) -> None:
    sought = (rn.Objective("val_accuracy"), rn.Objective("macs", "min"))
    made = rn.run(
        toy(objectives=sought, finalists=rn.Finalists(top=0), budget=rn.Budget(trials=12)),
        output=tmp_path / "run", local=True, console=silent(),
    )  # fmt: skip
    front = made.front()
    costs = [result.metrics["macs"] for result in front]
    assert len(front) > 1
    assert costs == sorted(costs, reverse=True)
    assert all(result.test is None for result in front)
    assert made.figure_names()[:3] == ["pareto", "best_so_far", "objectives"]


def test_figures_are_those_of_the_report(run: rn.Run) -> None:
    names = run.figure_names()
    assert names[0] == "pareto"
    assert set(names[1:]) == {file.stem for file in (run.path / "figures").glob("*.png")}
    figure = run.figure()
    assert isinstance(figure, Figure)
    (axes,) = figure.axes
    assert "weights" in axes.get_xlabel() or "parameters" in axes.get_xlabel()
    assert run.figure("learning_curves").axes[0].get_xlabel() == "step"


def test_an_unknown_figure_names_those_that_there_are(run: rn.Run) -> None:
    with pytest.raises(rn.UserError, match=r"figure 'paretto'.*pareto, best_so_far"):
        run.figure("paretto")


def test_the_notebook_shows_a_table_and_a_figure(run: rn.Run) -> None:
    shown = run._repr_html_()
    assert shown.count("<img") == 1
    assert "<td>random</td><td>6</td>" in shown
    assert "val_accuracy" in shown
    assert repr(run) == f"<Run 'toy' in {run.path}>"


def test_markup_in_names_is_shown_as_text(tmp_path: Path) -> None:
    name = "a<script>"
    made = rn.run(toy(name=name), output=tmp_path / "run", local=True, console=silent())
    assert "a&lt;script&gt;" in made._repr_html_()
    assert "<script>" not in made._repr_html_()


def test_a_run_without_results_says_so(run: rn.Run, tmp_path: Path) -> None:
    made = rn.Run(RunFolder.create(tmp_path / "empty", run.folder.info, "def experiment(): 1"))
    assert len(made.trials()) == 0
    assert made.front() == []
    assert made.figure_names() == []
    assert "Nothing has been measured yet" in made._repr_html_()
    with pytest.raises(rn.UserError, match="has no result yet"):
        made.best()
    with pytest.raises(rn.UserError, match="no results to draw yet"):
        made.figure()


def test_report_and_reading_execute_nothing(run: rn.Run, tmp_path: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(run.path, tmp_path / "copy"))
    (copy / "experiment.py").write_text("raise SystemExit('executed')")
    (copy / "report.html").unlink()
    opened = rn.open(copy)
    assert opened.report() == copy / "report.html"
    assert opened.report().is_file()
    assert opened.best().metrics == run.best().metrics
    assert opened._repr_html_()
    with pytest.raises(rn.UserError, match="SystemExit: executed"):
        opened.best().network()


def test_export_writes_the_best_network(tmp_path: Path) -> None:
    trained = toy(
        space=rn.NASBench201(channels=4, cells=1),
        data=rn.Digits(subset=60),
        evaluator=rn.Retrain(rn.Recipe(epochs=1, batch_size=30, crop_pad=1)),
        budget=rn.Budget(trials=1),
        finalists=rn.Finalists(top=1, seeds=1),
    )
    made = rn.run(trained, output=tmp_path / "run", local=True, console=silent())
    network = made.best().network()
    assert not network.training
    assert sum(p.numel() for p in network.parameters()) == made.best().metrics["params"]
    exported = made.export(tmp_path / "to", formats=("torch",))
    assert exported.paths["torch"].parent == tmp_path / "to"
    assert exported.paths["torch"].is_file()
    assert made.export().paths["safetensors"].parent == made.path / "export"


# -- the functions -----------------------------------------------------------------------------


def test_a_run_is_opened_and_resumed_by_object_and_by_path(tmp_path: Path) -> None:
    made = rn.run(toy(), output=tmp_path / "run", local=True, console=silent())
    again = made.resume(2, local=True, console=silent())
    assert again.path == made.path
    assert (again.trials()["stage"] == "search").sum() == 8
    rn.resume(str(made.path), trials=1, local=True, console=silent())
    assert (rn.open(made.path).trials()["stage"] == "search").sum() == 9
    assert RunFolder.open(made.path).info.overrides == {"budget.trials": 9}
    with pytest.raises(rn.UserError, match=r"trials=-1; expected: >= 0"):
        rn.resume(made, trials=-1)


def test_a_file_is_run_as_by_the_command_line(tmp_path: Path) -> None:
    file = experiment_file(tmp_path / "toy.py")
    settings = {"budget.trials": 3, "finalists.top": 0}
    made = rn.run(str(file), output=tmp_path / "a", local=True, overrides=settings,
                  console=silent())  # fmt: skip
    called = raynas("run", file, "--local", "--output", tmp_path / "b", "--set",
                    "budget.trials=3", "--set", "finalists.top=0")  # fmt: skip
    assert called.code == 0
    same = rn.open(tmp_path / "b")
    assert made.folder.info.fingerprint == same.folder.info.fingerprint
    assert made.folder.source.read_text() == same.folder.source.read_text() == file.read_text()
    assert made.folder.info.overrides == same.folder.info.overrides == settings
    assert made.trials()["arch"].tolist() == same.trials()["arch"].tolist()


def test_smoke_settings_of_an_object_are_kept(tmp_path: Path) -> None:
    small = {"budget.trials": 2, "finalists.top": 0}
    made = rn.run(toy(smoke=small), output=tmp_path / "run", local=True, smoke=True,
                  console=silent())  # fmt: skip
    assert len(made.trials()) == 2
    assert made.folder.info.smoke
    assert len(made.resume(1, local=True, console=silent()).trials()) == 3


class Noted(RunCallback):
    """Keeps the numbers of the rows it is shown."""

    name = "noted"

    def __init__(self) -> None:
        self.seen: list[int] = []

    def open(self, run: str, folder: Path, description: Any) -> None:
        self.folder = folder

    def show(self, row: Any) -> None:
        self.seen.append(row["trial"])


def test_callbacks_are_objects_or_names(tmp_path: Path) -> None:
    noted = Noted()
    small = toy(budget=rn.Budget(trials=2), finalists=rn.Finalists(top=0))
    rn.run(small, output=tmp_path / "run", local=True, callbacks=[noted], console=silent())
    assert noted.folder == tmp_path / "run"
    assert sorted(noted.seen) == [0] * 4 + [1] * 4
    with pytest.raises(rn.UserError, match=r"callback 'noted'"):
        rn.run(small, output=tmp_path / "other", local=True, callbacks=["noted"])
    assert not (tmp_path / "other").exists()


def test_the_default_place_has_the_name_of_the_experiment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAYNAS_STORAGE", raising=False)
    small = toy(name="", budget=rn.Budget(trials=1), finalists=rn.Finalists(top=0))
    made = rn.run(small, local=True)
    assert made.path.parent == tmp_path / "runs"
    assert f"report: {made.path / 'report.html'}" in capsys.readouterr().out
    assert rn.run(small, local=True).path.name == f"{made.path.name}-2"


def test_local_and_an_address_exclude_each_other() -> None:
    with pytest.raises(rn.UserError, match="--local and --address together"):
        rn.run(toy(), "auto", local=True)


def test_a_used_object_runs_again_as_if_it_were_new(tmp_path: Path) -> None:
    used = toy(sampler=rn.RegularizedEvolution(population=3, sample=2))
    first = rn.run(used, output=tmp_path / "a", local=True, console=silent())
    second = rn.run(used, output=tmp_path / "b", local=True, console=silent())
    assert first.trials()["arch"].tolist() == second.trials()["arch"].tolist()
    assert math.isfinite(second.best().metrics["val_accuracy"])


def test_an_interrupted_run_is_an_exception_that_says_how_to_go_on(tmp_path: Path) -> None:
    class Interrupting(Noted):
        def show(self, row: Any) -> None:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(RunInterrupted, match=f"raynas resume {tmp_path / 'run'}"):
        rn.run(
            toy(budget=rn.Budget(trials=500)), output=tmp_path / "run", local=True,
            callbacks=[Interrupting()], console=silent(),
        )  # fmt: skip
    assert 0 < len(rn.open(tmp_path / "run").trials()) < 500


def test_a_file_that_begins_a_run_when_it_is_loaded_is_refused(tmp_path: Path) -> None:
    file = experiment_file(tmp_path / "eager.py")
    file.write_text(file.read_text() + "\nimport raynas as rn\nrn.run(experiment(), local=True)\n")
    called = raynas("run", file, "--local", "--output", tmp_path / "run")
    assert called.code == 2
    assert "experiment file eager.py begins a run when it is loaded; put that below" in called.err
    assert not (tmp_path / "run").exists()
