"""The facade's example, as a script and as a notebook: killed, resumed, and read."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from integration.drivers import TESTS, Driver, rows_of

import raynas as rn
from raynas.store import RunFolder

EXAMPLE = """
import raynas as rn

run = rn.run(
    rn.Experiment(
        space=rn.NASBench201(channels=4, cells=1),
        data=rn.Digits(subset=128),
        evaluator=rn.Retrain(rn.Recipe(epochs=2, batch_size=32, crop_pad=1)),
        sampler=rn.TPE(n_startup=4),
        budget=rn.Budget(trials=TRIALS),
    ), local=True, output="run",
)
print(run.best())
"""
SMALL = "finalists=rn.Finalists(top=1, seeds=1), baselines=(),"
OWN = '''
from dataclasses import dataclass

SCALE = 2.0


@dataclass(frozen=True)
class Sized(rn.NASBench201):
    """A space of the notebook's own."""

    factor: float = SCALE
'''


def example(trials: int) -> str:
    text = EXAMPLE.replace("TRIALS", str(trials))
    return text.replace("        budget", f"        {SMALL}\n        budget")


def started(run: Path) -> bool:
    """Whether trials are stored already."""
    return (run / "run.json").exists() and len(rows_of(run)) >= 4


def test_the_example_has_twelve_lines() -> None:
    assert len(EXAMPLE.strip().splitlines()) == 12


def test_a_script_is_killed_and_resumed(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(example(400))
    run = tmp_path / "run"
    paths = os.pathsep.join([str(tmp_path), str(TESTS.parent)])
    with Driver(cwd=tmp_path, program="script", PYTHONPATH=paths) as driver:
        driver.until(lambda: started(run))
        driver.process.kill()
        assert driver.wait(10) == -signal.SIGKILL
    before = rows_of(run)
    assert 0 < len({row["trial"] for row in before}) < 400
    more = rn.resume(run, local=True, overrides={"budget.trials": len(before) + 2})
    rows = rows_of(run)
    stored = {(row["trial"], row["step"]): row for row in rows}
    assert all(stored[row["trial"], row["step"]] == row for row in before)
    assert more.best().test is not None
    assert (
        sum(p.numel() for p in more.best().network().parameters()) == more.best().metrics["params"]
    )


def executed(cells: list[str], folder: Path, **environment: str) -> Any:
    """Execute a notebook in a kernel of its own; gives it with its outputs."""
    nbclient = pytest.importorskip("nbclient", reason="nbclient executes notebooks")
    nbformat = pytest.importorskip("nbformat", reason="nbformat writes notebooks")
    pytest.importorskip("ipykernel", reason="ipykernel is what executes a notebook's cells")
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = nbclient.NotebookClient(
        book, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    paths = os.pathsep.join(filter(None, [str(TESTS.parent), os.environ.get("PYTHONPATH")]))
    client.execute(env={**os.environ, "PYTHONPATH": paths, **environment})
    return book


@pytest.mark.filterwarnings("default")  # of Jupyter's own packages
def test_a_notebook_shows_the_run_and_another_process_resumes_it(tmp_path: Path) -> None:
    own = example(2).replace("rn.NASBench201(", "Sized(").replace("import raynas as rn\n", "")
    book = executed(["import raynas as rn\n" + OWN, own, "run", "run.figure()"], tmp_path)
    shown = book.cells[2].outputs[0]["data"]["text/html"]
    assert "<td>tpe</td><td>2</td>" in shown
    folder = RunFolder.open(tmp_path / "run")
    assert folder.pickled.is_file()
    assert folder.info.source_file == str(tmp_path / "(interactive)")
    with Driver("resume", "run", "--local", "--trials", "+2", cwd=tmp_path) as driver:
        assert driver.wait(240) == 0, driver.err.read_text()
    assert (rn.open(tmp_path / "run").trials()["stage"] == "search").sum() == 4
