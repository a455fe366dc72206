"""Every file in experiments/ runs with ``--smoke`` and leaves what it promises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from commands import done

from raynas.core import UserError
from raynas.experiment import load
from raynas.store import RunFolder
from raynas.training import load_network

CHECKOUT = Path(__file__).resolve().parents[2]
EXPERIMENTS = sorted((CHECKOUT / "experiments").glob("*.py"))
CIFAR = CHECKOUT / ".." / "shared" / "data" / "cifar10"
WITHOUT_DOWNLOAD = ("quickstart", "custom_space", "custom_data", "sample_and_retrain")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def smoke(name: str, output: Path, *more: str) -> None:
    done("run", CHECKOUT / "experiments" / f"{name}.py", "--smoke", "--local",
         "--output", output, *more)  # fmt: skip


def whole(run: Path) -> None:
    """The run has what the README says a run has."""
    folder = RunFolder.open(run)
    table = pq.read_table(folder.results)
    assert {"arch_id", "arch", "trial", "stage", "val_accuracy"} <= set(table.column_names)
    assert set(table["state"].to_pylist()) >= {"COMPLETE"}
    assert "<html" in folder.report.read_text()[:500].lower()
    told = json.loads((folder.best / "architecture.json").read_text())
    assert told["arch"] in set(table["arch"].to_pylist())
    space = load(folder.source, folder.info.overrides, smoke=True).experiment.space
    network = space.build(
        space.architecture(told["arch"]), tuple(told["input_shape"]), told["num_classes"]
    )
    load_network(folder.best / "network.safetensors", network)  # strict
    network.eval()
    with torch.inference_mode():
        logits = network(torch.zeros(2, *told["input_shape"]))
    assert logits.shape == (2, told["num_classes"])
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", WITHOUT_DOWNLOAD)
def test_smoke(name: str, tmp_path: Path) -> None:
    smoke(name, tmp_path / "run")
    whole(tmp_path / "run")


def test_sample_and_retrain_compares_three_samplers(tmp_path: Path) -> None:
    smoke("sample_and_retrain", tmp_path / "run")
    table = pq.read_table(tmp_path / "run" / "results")
    searched = [(a, s) for a, t, s in zip(
        *(table[n].to_pylist() for n in ("arm", "stage", "state")), strict=True
    ) if t == "search"]  # fmt: skip
    assert {arm for arm, _ in searched} == {"random", "evolution", "tpe"}
    assert all(arm != "random" or state != "STOPPED" for arm, state in searched)


def test_screened_search_trains_the_best_of_what_it_scores(tmp_path: Path) -> None:
    smoke("screened_search", tmp_path / "run")
    whole(tmp_path / "run")
    table = pq.read_table(tmp_path / "run" / "results")
    rows = [r for r in table.to_pylist() if r["stage"] == "search"]
    scored = [r for r in rows if r["step"] == 0]
    assert {r["arm"] for r in scored} == {"tpe"}
    assert len({r["trial"] for r in rows if r["arm"] == "tpe" and r["step"]}) == 3
    assert len(scored) == len({r["arch_id"] for r in scored}) > 6
    assert all(r["params"] is not None for r in scored)


def test_smoke_of_fashion_mnist(tmp_path: Path) -> None:
    try:
        from raynas.data import FashionMNIST

        FashionMNIST().search_view(0)
    except UserError as reason:
        pytest.skip(str(reason))
    smoke("fashion_mnist", tmp_path / "run")
    whole(tmp_path / "run")


@pytest.mark.skipif(not CIFAR.is_dir(), reason=f"no CIFAR-10 at {CIFAR}")
def test_smoke_of_cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYNAS_CACHE", str(tmp_path / "cache"))
    try:
        smoke("cifar10", tmp_path / "run", "--set", f"data.folder={CIFAR}")
    except AssertionError as error:
        if "is missing" in str(error) or "not found" in str(error):
            pytest.skip(str(error))
        raise
    whole(tmp_path / "run")


def test_exports_compute_what_the_network_computes(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    smoke("quickstart", tmp_path / "run", "--set", "against=()")
    done("export", tmp_path / "run", "--format", "onnx,torch,safetensors")
    folder = tmp_path / "run" / "export"
    told = json.loads((folder / "architecture.json").read_text())
    space = load(CHECKOUT / "experiments" / "quickstart.py").experiment.space
    network = space.build(space.architecture(told["arch"]), (1, 8, 8), 10)
    load_network(folder / "network.safetensors", network)
    network.eval()
    images = torch.randn(7, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        wanted = network(images)
    session = onnxruntime.InferenceSession(
        folder / "network.onnx", providers=["CPUExecutionProvider"]
    )
    found = torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    with (folder / "network.pt2").open("rb") as file:
        program = torch.export.load(file).module()
    with torch.no_grad():
        torch.testing.assert_close(program(images), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("file", EXPERIMENTS, ids=lambda file: file.stem)
def test_the_full_size_is_an_experiment_too(file: Path) -> None:
    """Not run here, but all its settings are valid, and the smoke ones exist."""
    experiment = load(file).experiment
    assert experiment.name == file.stem
    assert load(file, smoke=True).experiment.budget.trials == experiment.smoke["budget.trials"]
    described = experiment.description()
    json.dumps(described)
    assert experiment.fingerprint == load(file).experiment.fingerprint


@pytest.mark.ray
def test_quickstart_on_ray_as_a_user_types_it(tmp_path: Path) -> None:
    """In a process of its own, from another folder: workers must find the experiment's file."""
    command = [sys.executable, "-m", "raynas.cli", "run",
               str(CHECKOUT / "experiments" / "quickstart.py"), "--smoke"]  # fmt: skip
    ended = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    lines = ended.stdout.splitlines()
    assert [line.split(":")[0] for line in lines[-5:]] == [
        "search · tpe 100%", "search · random 100%", "final · tpe 100%", "best network", "report",
    ]  # fmt: skip
    assert len(lines) < 12  # none of Tune's own lines
    run = tmp_path / "runs" / "quickstart"
    whole(run)
    assert not (run / "tune").exists() or not any((run / "tune").iterdir())
