"""Experiments that were built in a script, a cell or a session: stored, and made again."""

from __future__ import annotations

import io
import json
import linecache
import os
import pickle
import subprocess
import sys
import threading
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from commands import raynas
from rich.console import Console
from toys import Curves, ToyData, ToySpace

import raynas as rn
from raynas.experiment import load_object, objects
from raynas.experiment.importable import importable
from raynas.experiment.pickles import pickled, stored_experiment
from raynas.experiment.source_text import source_text
from raynas.pipeline.history import reload
from raynas.store import RunFolder
from raynas.store.run_source import PICKLE

TESTS = Path(__file__).resolve().parents[2]


def toy(**settings: Any) -> rn.Experiment:
    parts: dict[str, Any] = {
        "space": ToySpace(),
        "data": ToyData(),
        "evaluator": Curves(),
        "sampler": rn.Random(),
        "baselines": (),
        "budget": rn.Budget(trials=3),
        "finalists": rn.Finalists(top=0),
        "name": "toy",
    }
    return rn.Experiment(**{**parts, **settings})


def start(experiment: rn.Experiment, output: Path) -> rn.Run:
    return rn.run(experiment, output=output, local=True, console=Console(file=io.StringIO()))


def executed(text: str, file: str) -> dict[str, Any]:
    """The names that a cell of a notebook defines: its source is in linecache only."""
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(text, file, "exec"), names)
    return names


CELL = """
from dataclasses import dataclass

from toys import ToySpace

LIMIT = 4


def few(number):
    return number < LIMIT


@dataclass(frozen=True)
class OwnSpace(ToySpace):
    name = "own"
    scale: float = 1

    def canonical(self, arch):
        return arch if few(arch["x"]) else self.architecture({**arch, "x": 0})
"""


@pytest.fixture
def cell() -> dict[str, Any]:
    return executed(CELL, "<cell 1 of the test>")


# -- source that is written --------------------------------------------------------------------


def test_plain_experiments_are_written_as_source() -> None:
    experiment = rn.Experiment(
        space=rn.NASBench201(channels=8, cells=1),
        data=rn.Digits(),
        evaluator=rn.Retrain(rn.Recipe(epochs=9, batch_size=64, flip=False, crop_pad=1)),
        sampler=rn.TPE(n_startup=12),
        scheduler=rn.ASHA(min_step=1, factor=3),
        bounds=(rn.Bound("params", max=1e6),),
        name="digits",
        smoke={"budget.trials": 3},
    )
    text = source_text(experiment)
    assert text is not None
    assert text.startswith('"""Written by raynas: an experiment that was given to raynas.run')
    assert "\nfrom raynas.spaces import NASBench201\n" in text
    assert "\n        sampler=TPE(n_startup=12),\n" in text
    assert "baselines" not in text  # it has its default
    assert max(map(len, text.splitlines())) <= 100
    names: dict[str, Any] = {}
    exec(text, names)
    made = names["experiment"]()
    assert made.description() == experiment.description()
    assert made.smoke == experiment.smoke


@dataclass(frozen=True)
class Values(ToySpace):
    """A space with a setting of any kind."""

    name: ClassVar[str] = "values"
    value: Any = None


@pytest.mark.parametrize(
    "value",
    [
        (), (1,), (1, (2.5, "a'\"\n")), [1, [2]], {"a": (1,), 2: {3}}, frozenset({"a", "b"}),
        float("inf"), -0.0, 1e-300, b"\x00", range(2, 8, 2), Path("/a b/c"), rn.TrialState.FAILED,
        Curves, importable, int, None, True, rn.Recipe(epochs=2, lr=0.1), "x" * 300,
        tuple(range(100)),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_values_of_settings_are_written(value: object) -> None:
    text = source_text(toy(space=Values(value=value)))
    assert text is not None
    names: dict[str, Any] = {}
    exec(text, names)
    made = names["experiment"]().space.value
    assert made == value
    assert type(made) is type(value)


class Plain:
    """Not a dataclass."""


def test_what_has_no_source_is_not_written(cell: dict[str, Any]) -> None:
    def local() -> None: ...

    for value in (Plain(), np.zeros(2), local, lambda: 1, types.SimpleNamespace(), np.int64(1)):
        assert source_text(toy(space=Values(value=(value,)))) is None, value
    assert source_text(toy(space=cell["OwnSpace"]())) is None
    twin = executed("from dataclasses import dataclass", "<twin>")
    assert twin["__name__"] == "__main__"


def test_modules_that_only_this_process_has_are_not_importable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "raynas_experiment_x", types.ModuleType("x"))
    assert not importable("raynas_experiment_x")
    assert not importable("__main__")
    assert all(map(importable, ("toys", "raynas.samplers.optuna", "numpy", "builtins", "json")))


# -- pickles -----------------------------------------------------------------------------------


def test_a_plain_experiment_runs_from_its_source(tmp_path: Path) -> None:
    made = start(toy(), tmp_path / "run")
    assert not (made.path / PICKLE).exists()
    again = reload(RunFolder.open(made.path)).experiment
    assert again.fingerprint == made.folder.info.fingerprint == toy().fingerprint


def test_a_cell_s_classes_are_stored_with_their_source(
    tmp_path: Path, cell: dict[str, Any]
) -> None:
    experiment = toy(space=cell["OwnSpace"](scale=2))
    made = start(experiment, tmp_path / "run")
    head = json.loads((made.path / PICKLE).read_bytes().partition(b"\n")[0])
    assert head["sources"] == {"<cell 1 of the test>": CELL}
    assert made.folder.info.fingerprint == experiment.fingerprint


RESUME = """
import sys
from raynas.cli.main import main
sys.argv = ["raynas", "resume", sys.argv[1], "--trials", "+2", "--local"]
main()
"""


def in_new_process(folder: Path, code: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path]),
             "PYTHONHASHSEED": "7"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_another_process_makes_the_same_experiment(tmp_path: Path, cell: dict[str, Any]) -> None:
    """The same fingerprint, by source and not by bytecode; so ``resume`` does not refuse it."""
    made = start(toy(space=cell["OwnSpace"](scale=2)), tmp_path / "run")
    in_new_process(tmp_path, RESUME, made.path)
    assert len(rn.open(made.path).trials()) == 5


def test_an_edited_cell_is_another_experiment() -> None:
    first = executed(CELL, "<cell 2 of the test>")
    second = executed(CELL.replace("LIMIT = 4", "LIMIT = 3"), "<cell 3 of the test>")
    moved = executed("\n# moved\n" + CELL, "<cell 4 of the test>")
    prints = [toy(space=names["OwnSpace"]()).fingerprint for names in (first, second, moved)]
    assert prints[0] != prints[1]
    assert prints[0] == prints[2]


def test_images_in_memory_are_stored(tmp_path: Path) -> None:
    pixels = np.arange(40 * 64, dtype=np.uint8).reshape(40, 8, 8, 1)
    data = rn.Arrays(pixels, np.arange(40) % 2)
    made = start(toy(data=data), tmp_path / "run")
    found = reload(RunFolder.open(made.path)).experiment.data
    assert isinstance(found, rn.Arrays)
    np.testing.assert_array_equal(found.train_images, pixels)
    head = json.loads((made.path / PICKLE).read_bytes().partition(b"\n")[0])
    assert (head["code"], head["sources"]) == (False, {})


def test_a_stored_object_can_be_run_as_a_file(tmp_path: Path, cell: dict[str, Any]) -> None:
    made = start(toy(space=cell["OwnSpace"]()), tmp_path / "run")
    file = made.path / "experiment.py"
    called = raynas("run", file, "--local", "--output", tmp_path / "again")
    assert called.code == 0, called.err
    again = rn.open(tmp_path / "again")
    assert again.folder.info.fingerprint == made.folder.info.fingerprint
    assert (again.path / PICKLE).read_bytes() == (made.path / PICKLE).read_bytes()
    report = (made.path / "report.html").read_text()
    assert f"raynas run {made.path}/experiment.py" in report


@dataclass(frozen=True)
class Locked(ToySpace):
    """Cannot be pickled."""

    name: ClassVar[str] = "locked"
    lock: Any = field(default_factory=threading.Lock)


def test_what_cannot_be_stored_is_refused_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(rn.UserError) as caught:
        start(toy(space=Locked()), tmp_path / "run")
    assert str(caught.value) == (
        "the experiment cannot be stored, so its run could not be resumed: TypeError: cannot "
        "pickle '_thread.lock' object; write a file with experiment() that makes it, and give the "
        "path of that file"
    )
    assert not (tmp_path / "run").exists()


def with_head(content: bytes, **changes: Any) -> bytes:
    head, _, data = content.partition(b"\n")
    return json.dumps({**json.loads(head), **changes}).encode() + b"\n" + data


DAMAGED: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "another Python": (
        lambda c: with_head(c, python="2.7"),
        "has code of functions or classes, which only one version of Python can load: it was "
        "stored by Python 2.7 and raynas",
    ),
    "another raynas": (
        lambda c: with_head(c.replace(b"raynas.samplers.random", b"raynas.samplers.rondam"),
                            raynas="0.0.7"),
        "cannot be loaded: ModuleNotFoundError: No module named 'raynas.samplers.rondam'; it was "
        f"stored by Python 3.{sys.version_info.minor} and raynas 0.0.7, this is Python 3.",
    ),
    "cut off": (lambda c: c[:-200], "cannot be loaded: "),
    "no header": (lambda c: c.partition(b"\n")[2], "is not a stored experiment, or is damaged"),
    "another format": (lambda c: with_head(c, format=2), "damaged: ValueError: format 2, not 1"),
    "other sources": (lambda c: with_head(c, sources={"a": 1}), "sources that are no texts"),
    "empty": (lambda _c: b"", "is not a stored experiment, or is damaged"),
    "another object": (
        lambda c: c.partition(b"\n")[0] + b"\n" + pickle.dumps((1, 2)),
        "has a tuple; expected: an Experiment",
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_pickle_that_cannot_be_loaded_is_one_line(
    damage: str, tmp_path: Path, cell: dict[str, Any]
) -> None:
    change, words = DAMAGED[damage]
    (tmp_path / "experiment.py").touch()
    (tmp_path / PICKLE).write_bytes(change(pickled(toy(space=cell["OwnSpace"]()))))
    with pytest.raises(rn.UserError) as caught:
        stored_experiment(tmp_path / "experiment.py")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_data_alone_can_be_loaded_by_another_python(tmp_path: Path) -> None:
    data = rn.Arrays(np.zeros((4, 8, 8, 1), np.uint8), np.arange(4) % 2)
    (tmp_path / "experiment.py").touch()
    (tmp_path / PICKLE).write_bytes(with_head(pickled(toy(data=data)), python="2.7"))
    assert stored_experiment(tmp_path / "experiment.py").fingerprint == toy(data=data).fingerprint


# -- whose pickle ------------------------------------------------------------------------------


class Mark:
    """A pickle that writes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.fixture
def hostile(tmp_path: Path, cell: dict[str, Any]) -> Path:
    made = start(toy(space=cell["OwnSpace"]()), tmp_path / "run")
    head = (made.path / PICKLE).read_bytes().partition(b"\n")[0]
    content = head + b"\n" + pickle.dumps(Mark(tmp_path / "was-loaded"))
    (made.path / PICKLE).write_bytes(content)
    return made.path


def test_reading_a_run_loads_no_pickle(hostile: Path, tmp_path: Path) -> None:
    opened = rn.open(hostile)
    opened.report()
    assert opened.best().metrics
    assert opened.figure_names()
    for command in ("status", "report"):
        assert raynas(command, hostile).code == 0
    assert raynas("verify", hostile, "--history").code == 0
    assert not (tmp_path / "was-loaded").exists()


def test_a_pickle_of_another_user_is_not_loaded(
    hostile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest of the folder is the user's own: only the pickle is not."""
    owner, real = os.geteuid() + 1, Path.stat

    def foreign(path: Path, **settings: Any) -> os.stat_result:
        found = real(path, **settings)
        if path.name != PICKLE:
            return found
        return os.stat_result([*found[:4], owner, *found[5:]])

    monkeypatch.setattr(Path, "stat", foreign)
    for command in ("resume", "export"):
        called = raynas(command, hostile, *(["--local"] if command == "resume" else []))
        assert called.code == 2
        assert f"{PICKLE} belongs to another user (uid {owner})" in called.err
        assert "--trust" in called.err
    with pytest.raises(rn.UserError, match="belongs to another user"):
        rn.open(hostile).best().network()
    with pytest.raises(rn.UserError, match="loading it executes code; make it yours"):
        stored_experiment(hostile / "experiment.py")
    assert not (tmp_path / "was-loaded").exists()


# -- scripts -----------------------------------------------------------------------------------

PARTS = """
from toys import Curves, ToyData, ToySpace

import raynas as rn

PARTS = dict(
    space=ToySpace(), data=ToyData(), evaluator=Curves(), sampler=rn.Random(), baselines=(),
    budget=rn.Budget(trials=3), finalists=rn.Finalists(top=0),
)
"""
GUARDED = f"""{PARTS}
print("executed")


def experiment():
    return rn.Experiment(**PARTS)


def begin():
    rn.run(experiment(), local=True)


if __name__ == "__main__":
    begin()
"""
UNGUARDED = f"""{PARTS}
def experiment():
    return rn.Experiment(**PARTS)


rn.run(experiment(), local=True)
"""
OTHER = GUARDED.replace("rn.run(experiment()", "rn.run(rn.Experiment(**PARTS, seed=7)")


@pytest.mark.parametrize(
    ("text", "stored"), [(GUARDED, True), (UNGUARDED, False), (OTHER, False)],
    ids=["guarded", "unguarded", "of another object"],
)  # fmt: skip
def test_a_script_is_stored_where_it_makes_the_experiment(
    text: str, stored: bool, tmp_path: Path
) -> None:
    script = tmp_path / "my_search.py"
    script.write_text(text)
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    folder = RunFolder.open(tmp_path / "runs" / "my_search")
    assert (folder.source.read_text() == text) is stored
    assert not folder.pickled.exists()
    assert folder.info.source_file == str(script)
    assert reload(folder).experiment.fingerprint == folder.info.fingerprint
    written = f"raynas run {'runs/my_search/experiment.py' if not stored else script}"
    assert written in folder.report.read_text()


def test_a_session_has_a_name_and_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(objects, "_script", lambda: None)
    loaded = load_object(toy(name=""))
    assert loaded.experiment.name == "experiment"
    assert loaded.path == tmp_path / "(interactive)"
    with pytest.raises(rn.UserError, match=r"key in --set budget\.trails"):
        load_object(toy(), {"budget.trails": 3})
