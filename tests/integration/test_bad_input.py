"""Bad input, as users give it: one line that names value, allowed set and hint; exit code 2;
nothing that is stored is touched."""

from __future__ import annotations

import errno
import gzip
import json
import os
import pickle
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Called, done, experiment_file, raynas, stored

from raynas.core import UserError
from raynas.spaces import ElasticResNet, NASBench201
from raynas.spaces.base import SearchSpace
from raynas.store import Provenance, RunFolder, Writer
from raynas.store import files as store_files
from raynas.store import local_storage as store_local

pytestmark = pytest.mark.usefixtures("undrawn")

TESTS = Path(__file__).resolve().parents[1]
PATHS = os.pathsep.join([str(TESTS), str(TESTS / "fakes")])


def refused(called: Called, *words: str) -> None:
    """One line on stderr with all ``words``, exit code 2."""
    assert called.code == 2, called.err
    assert called.err.startswith("error: ")
    assert called.err.count("\n") == 1
    assert called.err.endswith("\n")
    for word in words:
        assert word in called.err, called.err


def in_own_process(*arguments: object) -> Called:
    ended = subprocess.run(
        [sys.executable, "-m", "raynas.cli.main", *map(str, arguments)],
        capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "PYTHONPATH": PATHS},
    )  # fmt: skip
    return Called(ended.returncode, ended.stdout, ended.stderr)


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    return experiment_file(tmp_path / "toy.py")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with one fragment for every measurement, as a killed one leaves it."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Writer, "_merge", lambda *_: None)
        done("run", experiment_file(folder / "toy.py"), "--local", "--output", folder / "run")
    assert len(list((folder / "run" / "results").glob("*.parquet"))) > 20
    return folder / "run"


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


# -- settings ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("bugdet.trials=3", ["'bugdet'", "expected: space, data", "did you mean 'budget'?"]),
        ("budget.trails=3", ["'trails'", "expected: trials, hours", "did you mean 'trials'?"]),
        ("evaluator.secnds=3", ["'secnds'", "did you mean 'seconds'?"]),
        ("budget.trials=many", ["'many'", "whole number or none", "it is 6 now"]),
        ("budget.trials=0", ["budget.trials=0", ">= 1"]),
        ("budget.trials", ["'budget.trials'", "path=value, as in budget.trials=8"]),
        ("sampler=TPE", ["'TPE'", "Sampler object", "change the experiment file"]),
        ("bounds=1e6", ["bounds=1000000.0", "change the experiment file"]),
    ],
)
def test_settings(toy: Path, tmp_path: Path, setting: str, words: list[str]) -> None:
    refused(raynas("run", toy, "--local", "--output", tmp_path / "x", "--set", setting), *words)
    assert not (tmp_path / "x").exists()


def test_settings_on_a_resume(run: Path) -> None:
    before = stored(run)
    for setting, words in (
        ("budget.trails=3", ["did you mean 'trials'?"]),
        ("scheduler.factor=4", ["another experiment", "scheduler.factor: 2 -> 4", "undo"]),
        ("seed=1", ["another experiment", "seed: 0 -> 1", "--output"]),
    ):
        refused(raynas("resume", run, "--local", "--set", setting), *words)
        assert stored(run) == before


def test_an_unknown_key_in_a_process_of_its_own(toy: Path, tmp_path: Path) -> None:
    output = tmp_path / "x"
    called = in_own_process("run", toy, "--output", output, "--set", "budget.trails=3")
    refused(called, "'trails'", "did you mean 'trials'?")
    assert called.out == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["resume", "RUN", "--trials", "32"], ["--trials 32", "+N with N >= 1"]),
        (
            ["resume", "RUN", "--local", "--address", "auto"],
            ["--local and --address", "give only"],
        ),
        (
            ["run", "TOY", "--local", "--address", "auto"],
            ["--local and --address", "give only one"],
        ),
        (["list", "sampler"], ["'sampler'", "spaces, data, evaluators", "mean 'samplers'"]),
    ],
)
def test_arguments(toy: Path, run: Path, arguments: list[str], words: list[str]) -> None:
    before = stored(run)
    given = [{"RUN": str(run), "TOY": str(toy)}.get(a, a) for a in arguments]
    refused(raynas(*given), *words)
    assert stored(run) == before


# -- experiment files --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1\n", ["toy.py has no experiment()", "define `def experiment()"]),
        ("experiment = 3\n", ["toy.py has no experiment()"]),
        ("\ndef experiment(:\n", ["toy.py, line 2: SyntaxError", "invalid syntax"]),
        ("x = 1\nraise OSError('cable')\n", ["toy.py, line 2: OSError: cable"]),
        ("import nowhere_to_be\n", ["line 1: ModuleNotFoundError", "'nowhere_to_be'"]),
        ("def experiment():\n    return {}['a\\nb']\n", ["line 2: KeyError: 'a\\nb'"]),
        ("def experiment():\n    raise ValueError('a\\nb')\n", ["line 2: ValueError: a b"]),
        ("def experiment():\n    return 3\n", ["returned int", "expected: an Experiment"]),
        ("def experiment(x):\n    return 3\n", ["TypeError", "missing 1 required"]),
        ("import sys\nsys.exit(3)\n", ["line 2: SystemExit: 3"]),
    ],
)
def test_experiment_files(tmp_path: Path, text: str, words: list[str]) -> None:
    file = tmp_path / "toy.py"
    file.write_text(text)
    refused(raynas("run", file, "--local", "--output", tmp_path / "x"), *words)
    assert not (tmp_path / "x").exists()


def test_experiment_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "toy.txt").write_text("")
    (tmp_path / "toy.py").write_bytes(b"\xff\xfe\x00")
    refused(raynas("run", tmp_path / "lost.py"), "lost.py", "give a .py file")
    refused(raynas("run", tmp_path), str(tmp_path), "give a .py file")
    refused(raynas("run", tmp_path / "toy.txt"), "'toy.txt'", "expected: a Python file, *.py")
    refused(raynas("run", tmp_path / "toy.py"), "cannot be read", "UTF-8")


def test_a_syntax_error_in_a_process_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "toy.py").write_text("def experiment(:\n")
    refused(in_own_process("run", tmp_path / "toy.py"), "toy.py, line 1: SyntaxError")


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"bounds": "(Bound('latency', max=3),)"}, ["'latency'", "macs, params, val_accuracy"]),
        ({"bounds": "(Bound('param', max=3),)"}, ["'param'", "did you mean 'params'?"]),
        ({"bounds": "(Bound('params', 3, 5),)"}, ["min=5, max=3", "min <= max"]),
        ({"objectives": "(Objective('acc'),)"}, ["'acc'", "expected: layers, macs, params"]),
        ({"objectives": "(Objective(direction='up'),)"}, ["'up'", "max, min"]),
        ({"space": "ToySpace"}, ["space is the class ToySpace", "space=ToySpace(...)"]),
        ({"space": "'toy'"}, ["space is str, not a SearchSpace", "raynas list"]),
        ({"baselines": "(Random(),)"}, ["several samplers have the same name", "baselines=()"]),
        ({"budget": "Budget(None)"}, ["has no limit", "budget.trials or budget.hours"]),
        ({"scheduler": "ASHA(factor=1)"}, ["factor = 1", "expected"]),
    ],
)
def test_parts_that_do_not_fit(tmp_path: Path, parts: dict[str, str], words: list[str]) -> None:
    file = experiment_file(tmp_path / "toy.py", **parts)
    refused(raynas("run", file, "--local", "--output", tmp_path / "x"), *words)
    assert not (tmp_path / "x").exists()


NETWORKS = """
from torch import nn

class Wrong(ToySpace):
    def build(self, arch, input_shape=(3, 32, 32), num_classes=10):
        return {network}
"""


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ("nn.Sequential(nn.Flatten(), nn.Linear(16, 7))",
         ["gives (2, 7) for two images", "logits of shape (2, 2)", "num_classes"]),
        ("nn.Conv2d(1, 2, 3)", ["gives (2, 2, 2, 2)", "logits of shape (2, 2)"]),
        ("nn.Sequential(nn.Flatten(), nn.Linear(17, 2))", ["fails on input (2, 1, 4, 4)", "build"]),
        ("3", ["builds 'int'", "a torch.nn.Module"]),
    ],
)  # fmt: skip
def test_networks_of_a_wrong_shape(tmp_path: Path, network: str, words: list[str]) -> None:
    file = experiment_file(
        tmp_path / "toy.py", NETWORKS.format(network=network), space="Wrong()",
        evaluator="Retrain(Recipe(epochs=1, crop_pad=0))",
    )  # fmt: skip
    refused(raynas("run", file, "--local", "--output", tmp_path / "x"), "'toy'", *words)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("space", "text", "words"),
    [
        (NASBench201(), "|none~0|", ["|none~0|"]),
        (NASBench201(), "|none~0|+|none~0|none~1|+|none~0|none~1|conv~2|", ["'conv'", "none"]),
        (NASBench201(), "", ["''"]),
        (ElasticResNet(), "width=7", ["'width=7'", "write for instance w16d1"]),
        (ElasticResNet(), "nonsense", ["nonsense"]),
    ],
)
def test_architecture_texts(space: SearchSpace, text: str, words: list[str]) -> None:
    """They are given to the library only: no command takes one."""
    with pytest.raises(UserError) as raised:
        space.architecture(text)
    message = str(raised.value)
    assert "\n" not in message
    assert "expected: " in message or "write " in message
    for word in words:
        assert word in message


# -- data files --------------------------------------------------------------------------------

NAMES = ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz",
         "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")  # fmt: skip


def idx_files(folder: Path, count: int = 60) -> None:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for images, labels in (NAMES[:2], NAMES[2:]):
        pixels = rng.integers(0, 256, (count, 28, 28)).astype(np.uint8)
        header = struct.pack(">HBBIII", 0, 8, 3, count, 28, 28)
        (folder / images).write_bytes(gzip.compress(header + pixels.tobytes(), mtime=0))
        classes = (np.arange(count) % 10).astype(np.uint8)
        header = struct.pack(">HBBI", 0, 8, 1, count)
        (folder / labels).write_bytes(gzip.compress(header + classes.tobytes(), mtime=0))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def with_data(tmp_path: Path, data: str) -> Called:
    file = experiment_file(tmp_path / "toy.py", data=data)
    called = raynas("run", file, "--local", "--output", tmp_path / "x")
    assert not (tmp_path / "x").exists()
    return called


def test_idx_files(tmp_path: Path) -> None:
    folder = tmp_path / "idx"
    fashion, plain = f"FashionMNIST({str(folder)!r})", f"IDX({str(folder)!r})"
    refused(with_data(tmp_path, fashion), "Fashion-MNIST not found", str(folder), "apt-get install")
    idx_files(folder)
    refused(with_data(tmp_path, fashion), NAMES[0], "MD5", "download it again", "verify=False")
    cut(folder / NAMES[0])
    refused(with_data(tmp_path, plain), NAMES[0], "cut short or damaged", "download it again")
    (folder / NAMES[0]).write_bytes(b"not gzip at all")
    refused(with_data(tmp_path, plain), NAMES[0])
    (folder / NAMES[1]).unlink()
    refused(with_data(tmp_path, plain), NAMES[1].removesuffix(".gz"), "is missing")


def test_whole_idx_files_are_taken(tmp_path: Path) -> None:
    idx_files(tmp_path / "idx")
    file = experiment_file(tmp_path / "toy.py", data=f"IDX({str(tmp_path / 'idx')!r})")
    done("run", file, "--smoke", "--local", "--output", tmp_path / "x")


def test_cifar_batches(tmp_path: Path) -> None:
    folder = tmp_path / "cifar"
    data, unchecked = f"CIFAR10({str(folder)!r})", f"CIFAR10({str(folder)!r}, verify=False)"
    refused(with_data(tmp_path, data), "CIFAR-10 not found", str(folder), "batches")
    (folder / "cifar-10-batches-py").mkdir(parents=True)
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"]
    batch = {b"data": np.zeros((10, 3072), np.uint8), b"labels": list(range(10))}
    for name in names:
        (folder / "cifar-10-batches-py" / name).write_bytes(pickle.dumps(batch))
    refused(with_data(tmp_path, data), "data_batch_1", "MD5", "download it again")
    cut(folder / "cifar-10-batches-py" / "data_batch_2")
    refused(with_data(tmp_path, unchecked), "data_batch_2")
    (folder / "cifar-10-batches-py" / "data_batch_2").unlink()
    refused(with_data(tmp_path, unchecked), "data_batch_2")


def test_data_that_went_away_before_a_resume(tmp_path: Path) -> None:
    idx_files(tmp_path / "idx")
    file = experiment_file(tmp_path / "toy.py", data=f"IDX({str(tmp_path / 'idx')!r})")
    done("run", file, "--smoke", "--local", "--output", tmp_path / "x")
    before = stored(tmp_path / "x")
    cut(tmp_path / "idx" / NAMES[0])
    refused(raynas("resume", tmp_path / "x", "--local", "--trials", "+1"), NAMES[0])
    assert stored(tmp_path / "x") == before
    done("status", tmp_path / "x")


# -- run folders -------------------------------------------------------------------------------


def test_folders_that_are_no_run(tmp_path: Path, toy: Path) -> None:
    for command in ("status", "report", "resume", "export", "top"):
        refused(raynas(command, tmp_path), str(tmp_path), "no run.json", "raynas run FILE.py")
        refused(raynas(command, tmp_path / "no"), "does not exist", "raynas run FILE.py")
        refused(raynas(command, toy), str(toy), "raynas run FILE.py")


def test_runs_beside_a_wrong_name_are_named(run: Path) -> None:
    refused(raynas("status", run.parent / "rnu"), "rnu does not exist", f"{run.parent} are run")


def test_a_folder_with_a_run_in_it(toy: Path, run: Path) -> None:
    before = stored(run)
    refused(raynas("run", toy, "--local", "--output", run), "already exists", f"resume {run}")
    refused(raynas("run", toy, "--local", "--output", run.parent), "holds other files")
    assert stored(run) == before


def test_an_experiment_that_was_changed_since(run: Path) -> None:
    source = run / "experiment.py"
    source.write_text(source.read_text().replace("factor=2", "factor=4"))
    before = stored(run)
    refused(raynas("resume", run, "--local"), "another experiment", "factor: 2 -> 4", "--output")
    assert stored(run) == before
    done("status", run)


@pytest.mark.parametrize("command", ["status", "report", "resume", "export", "top"])
def test_a_newer_schema(run: Path, command: str) -> None:
    info = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**info, "schema_version": 99}))
    before = stored(run)
    refused(raynas(command, run), "schema version 99", "expected: up to", "upgrade raynas")
    assert stored(run) == before


@pytest.mark.parametrize("text", ["", "{", "[]", '{"run": 3}'])
def test_a_torn_run_file(run: Path, text: str) -> None:
    (run / "run.json").write_text(text)
    before = stored(run)
    for command in ("status", "resume"):
        refused(raynas(command, run), "run.json", "restore it from a copy")
    assert stored(run) == before


@pytest.mark.parametrize("size", [0, 5, 0.5])
def test_a_torn_fragment(run: Path, size: float) -> None:
    fragments = sorted((run / "results").glob("*.parquet"))
    torn = fragments[len(fragments) // 2]
    whole = torn.read_bytes()
    torn.write_bytes(whole[: int(size * len(whole)) if size < 1 else int(size)])
    before = stored(run)
    for command in ("status", "report", "resume", "top", "export"):
        refused(raynas(command, run), torn.name, "is torn", "move it away (mv ")
    assert stored(run) == before  # the others above all
    torn.rename(f"{torn}.torn")  # the hint of the message
    assert f"report: {run / 'report.html'}" in done("resume", run, "--local")
    assert "random 6/6" in done("status", run)


def test_two_writers(tmp_path: Path) -> None:
    """A resume while the first process is at work; then Ctrl-C gives the run free."""
    file = experiment_file(tmp_path / "slow.py", evaluator="Curves(seconds=0.1, max_step=500)")
    run = tmp_path / "run"
    first = subprocess.Popen(
        [sys.executable, "-m", "raynas.cli.main", "run", file, "--local", "--output", run],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": PATHS},
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not list(run.glob("results/*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.05)
    info = (run / "run.json").read_bytes()
    called = raynas("resume", run, "--local", "--trials", "+5")
    refused(called, f"is being written by process {first.pid}", "wait for it or stop it")
    assert (run / "run.json").read_bytes() == info
    assert f"running (process {first.pid})" in done("status", run)
    first.send_signal(signal.SIGINT)
    out, err = first.communicate(timeout=60)
    assert (first.returncode, err) == (130, f"interrupted; go on with: raynas resume {run}\n")
    assert "stopping: results are stored" in out
    assert "not running" in done("status", run)


# -- disks -------------------------------------------------------------------------------------


class FullDisk:
    """Room for so many fragments, then for no file."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.plain = {"create": store_files.create_whole, "write": store_files.write_whole}

    def create(self, path: Path, data: Any) -> None:
        self._put("create", path, data)

    def write(self, path: Path, data: Any) -> None:
        self._put("write", path, data)

    def _put(self, kind: str, path: Path, data: Any) -> None:
        self.room -= path.suffix == ".parquet"
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        self.plain[kind](path, data)


@pytest.mark.parametrize("room", [0, 1, 7])
def test_a_disk_that_fills_up_in_a_search(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    run, disk = tmp_path / "run", FullDisk(room)
    with monkeypatch.context() as patch:
        patch.setattr(store_local, "create_whole", disk.create)
        patch.setattr(store_local, "write_whole", disk.write)
        patch.setattr(store_files, "write_whole", disk.write)  # the report's, too
        called = raynas("run", toy, "--local", "--output", run)
    refused(called, "No space left on device (ENOSPC)", "make room", f"raynas resume {run}")
    assert "every row stored before is safe" in called.err
    assert len(list(run.glob("results/*.parquet"))) == room
    before = stored(run)
    done("resume", run, "--local")
    after = stored(run)
    assert "random 6/6" in done("status", run)
    assert before["run.json"] == after["run.json"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_report_that_cannot_be_written(
    run: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(path: Path, _data: object) -> None:
        raise OSError(number, os.strerror(number), str(path))

    before, page = stored(run), (run / "report.html").read_bytes()
    monkeypatch.setattr(store_files, "write_whole", refuse)
    refused(raynas("report", run), os.strerror(number), "writable, then `raynas report` again")
    assert stored(run) == before
    assert (run / "report.html").read_bytes() == page


def test_a_folder_that_cannot_be_made(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    refused(raynas("run", toy, "--local", "--output", tmp_path / "file"), "a file has its path")
    inside = tmp_path / "file" / "inside"
    refused(raynas("run", toy, "--local", "--output", inside), "a file has its path", "--output")

    def forbidden(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr(Path, "mkdir", forbidden)
    called = raynas("run", toy, "--local", "--output", tmp_path / "sealed")
    refused(called, "sealed", "Permission denied", "make it writable", "--output")


def test_a_folder_without_the_right_to_write(run: Path) -> None:
    before = stored(run)
    folders = (run, run / "results", run / "figures")
    for folder in folders:
        folder.chmod(0o500)
    if os.access(run, os.W_OK):
        pytest.skip("root may write everywhere")
    try:
        for command in (["resume", run, "--local", "--trials", "+1"], ["report", run]):
            refused(raynas(*command), "Permission denied", "writable")
        assert "random 6/6" in done("status", run)
    finally:
        for folder in folders:
            folder.chmod(0o700)
    assert stored(run) == before


def test_a_system_that_refuses_elsewhere_is_one_line(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/some/file")

    monkeypatch.setattr("raynas.pipeline.results.export_best", refuse)
    refused(raynas("export", run), "/some/file: No space left on device", "make room")


def test_a_mistake_of_ours_keeps_its_traceback(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("raynas.cli.run_views.show_status", broken)
    with pytest.raises(ZeroDivisionError):
        raynas("status", run)


def test_a_writer_in_the_way_of_an_idle_resume(run: Path) -> None:
    before = stored(run)
    with Writer(RunFolder.open(run), 2, Provenance.collect("")) as writer:
        refused(raynas("resume", run, "--local"), f"process {os.getpid()}", "wait for it")
        assert stored(run) == before
        writer._closed = True  # leave the fragments as they were
        writer._lock.release()
