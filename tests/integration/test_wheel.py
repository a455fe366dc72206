"""A wheel has all that the package needs, and what it installs works outside the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]


def run(*command: object, folder: Path, **environment: str) -> str:
    done = subprocess.run(
        [str(part) for part in command], cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, without a network: setuptools leaves files in the folder it builds."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, folder)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(CHECKOUT / "raynas", folder / "raynas", ignore=ignored)
    run(sys.executable, "-m", "pip", "wheel", ".", "--no-build-isolation", "--no-deps",
        "--wheel-dir", "out", folder=folder)  # fmt: skip
    (made,) = (folder / "out").glob("raynas-*.whl")
    return made


def test_every_file_of_the_package_is_in_the_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("raynas/")}
    there = {
        path.relative_to(CHECKOUT).as_posix()
        for path in (CHECKOUT / "raynas").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == there
    assert {Path(name).suffix for name in packed} >= {".py", ".html", ".css", ".template"}


@pytest.mark.long
def test_an_installed_wheel_runs_the_demo(wheel: Path, tmp_path: Path) -> None:
    """In a folder of its own; only the dependencies are those of the tests."""
    target = tmp_path / "installed"
    run(sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", target,
        wheel, folder=tmp_path)  # fmt: skip
    path = {"PYTHONPATH": str(target), "RAYNAS_STORAGE": "runs"}
    small = ["--set", "budget.trials=3", "--set", "evaluator.recipe.epochs=2"]
    code = (
        f"import raynas, sys; assert raynas.__file__.startswith({str(target)!r}); "
        "from raynas.cli.main import main; main()"
    )
    out = run(sys.executable, "-c", code, "demo", "--local", *small, folder=tmp_path, **path)
    assert "report: " in out
    assert (tmp_path / "runs" / "quickstart" / "report.html").is_file()
    run(sys.executable, "-c", code, "new", "mine.py", folder=tmp_path, **path)
    run(sys.executable, "-c", code, "run", "mine.py", "--smoke", "--local", folder=tmp_path, **path)
    assert (tmp_path / "runs" / "mine" / "best" / "network.safetensors").is_file()
