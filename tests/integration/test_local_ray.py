"""A Ray of raynas' own: who can reach it, and where it keeps its files."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from sessions import SharedRay

from raynas.core import UserError
from raynas.runners.ray import environment
from raynas.runners.ray.tune import TuneRunner

psutil = pytest.importorskip("psutil", reason="sees what processes listen on")


@pytest.fixture
def long_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / ("a-long-name-" * 8)
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    return folder


@pytest.fixture(autouse=True)
def alone(shared_ray: SharedRay) -> None:
    """Each of these begins a Ray of its own, or none."""
    shared_ray.close()


@pytest.fixture
def own() -> Iterator[TuneRunner]:
    runner = TuneRunner()
    yield runner
    runner.close()


@pytest.mark.ray
@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning",  # Ray leaves its processes to the system
    "ignore::ResourceWarning",
)
def test_it_is_reached_from_this_machine_only_and_takes_a_short_folder(
    own: TuneRunner, long_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own.open()
    me = psutil.Process()
    ours = {me.pid, *(child.pid for child in me.children(recursive=True))}
    listening = {
        c.laddr.ip for c in psutil.net_connections("tcp") if c.status == "LISTEN" and c.pid in ours
    }
    assert listening
    assert listening <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    assert os.environ.get("RAY_AUTH_MODE") == "token"
    line = capsys.readouterr().err
    assert f"the path {long_folder / 'ray'} is too long for Ray's sockets" in line
    folder = Path(line.split()[-1])
    assert folder.stat().st_mode & 0o777 == 0o700
    own.close()
    assert not folder.exists()


@pytest.mark.parametrize(
    "error", [PermissionError(13, "denied"), Exception("The current node timed out during startup")]
)
def test_without_an_address_no_error_speaks_of_one(
    own: TuneRunner, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    import ray

    def refuses(**_: object) -> None:
        raise error

    monkeypatch.setattr(ray, "init", refuses)
    with pytest.raises(UserError, match="Ray does not start on this machine") as told:
        own.open()
    assert "address" not in str(told.value)
    assert "None" not in str(told.value)
    assert "RAY_TMPDIR" in str(told.value)


def test_with_an_address_it_is_named() -> None:
    with socket.socket() as taken:  # bound and not listening: nobody answers
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"no Ray cluster answers at '127.0.0.1:{port}'"):
            TuneRunner(address=f"127.0.0.1:{port}").open()


def test_a_usual_folder_is_left_to_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", "/var/tmp")
    assert environment.short_folder() is None


@pytest.mark.usefixtures("long_folder")
def test_where_no_short_folder_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_SHORT", tmp_path / "missing")
    with pytest.raises(UserError, match=r"too long a path.*set RAY_TMPDIR"):
        environment.short_folder()


def test_the_switch_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private import ray_constants

    monkeypatch.setenv(environment._CLUSTERS, "1")
    with environment.on_loopback():
        assert not ray_constants.ENABLE_RAY_CLUSTER
        assert os.environ[environment._CLUSTERS] == "0"
    assert ray_constants.ENABLE_RAY_CLUSTER
    assert os.environ[environment._CLUSTERS] == "1"
