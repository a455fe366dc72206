from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from raynas import version
from raynas.store import Provenance

GIT = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one committed file."""
    (tmp_path / "experiment.py").write_text("x = 1\n")
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        try:
            subprocess.run([*GIT, *command], cwd=tmp_path, check=True, capture_output=True)
        except FileNotFoundError:
            pytest.skip("git is not installed")
    return tmp_path


def head(repository: Path) -> str:
    command = [*GIT, "rev-parse", "HEAD"]
    return subprocess.run(
        command, cwd=repository, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_a_clean_repository_gives_its_revision(repository: Path) -> None:
    found = Provenance.collect(repository / "experiment.py")
    assert found.git == head(repository)
    (repository / "runs").mkdir()
    (repository / "runs" / "a.txt").write_text("untracked files of runs do not count")
    assert Provenance.collect(repository / "experiment.py").git == head(repository)


def test_a_change_or_an_untracked_experiment_is_dirty(repository: Path) -> None:
    (repository / "new.py").write_text("")
    assert Provenance.collect(repository / "new.py").git == head(repository) + "-dirty"
    (repository / "experiment.py").write_text("x = 2\n")
    assert Provenance.collect(repository / "experiment.py").git == head(repository) + "-dirty"


def test_no_git_no_failure(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert Provenance.collect(repository / "experiment.py").git == ""


def test_a_package_inside_someone_elses_repository_is_not_taken_for_it(
    repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (repository / "installed").mkdir()
    monkeypatch.setattr(version, "__file__", str(repository / "installed" / "__init__.py"))
    outside = tmp_path_factory.mktemp("outside") / "experiment.py"
    outside.write_text("")
    assert Provenance.collect(outside).git == ""


def test_versions_host_and_machine() -> None:
    found = Provenance.collect()
    assert found.versions["raynas"] == version.__version__
    assert found.versions_text.startswith("python 3.")
    assert "numpy " in found.versions_text
    assert found.host
    assert found.platform
    assert found.cpus == (os.cpu_count() or 1)


def test_a_missing_file_or_package_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raynas.store.provenance._PACKAGES", ("no-such-package",))
    found = Provenance.collect(tmp_path / "gone" / "experiment.py")
    assert set(found.versions) == {"python", "raynas"}


def test_none_of_the_packages_is_imported() -> None:
    code = (
        "import sys; from raynas.store import Provenance; Provenance.collect();"
        "sys.exit(any(name in sys.modules for name in ('torch', 'ray', 'optuna', 'pyarrow')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
