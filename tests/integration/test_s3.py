"""A run on S3 for real: an S3-compatible server that fails and is slow."""

from __future__ import annotations

import contextlib
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from integration.drivers import Driver, experiment_file, lines, resume_here, rows_of, undisturbed
from integration.storages import Server, serve
from integration.toy_runs import content

from raynas.core import Metric, UserError
from raynas.store import Provenance, RunFolder, RunInfo, Writer, read
from raynas.store.checkpoint_mirror import CheckpointMirror
from raynas.store.remote import RemoteFolder
from raynas.store.working_copies import fetch, working_copy

pytest.importorskip("moto.server")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serve() as found:
        yield found


@pytest.fixture
def uri(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("RAYNAS_CACHE", str(tmp_path / "cache"))
    yield server.run(tmp_path.name)
    server.weather.failing = server.weather.slow = 0.0


PROVENANCE = Provenance("abc", {"python": "3"}, "a-host", "an-os", 2)


def _info() -> RunInfo:
    metrics = (Metric("val_accuracy", "%", "max", "share right"),)
    return RunInfo("r-1", "r", "0123", {"trials": 1}, "/x/r.py", {}, metrics)


def _row(trial: int) -> dict[str, Any]:
    return {
        "stage": "search", "arm": "random", "trial": trial, "attempt": 0,
        "arch_id": f"{trial:012x}", "arch": f"arch {trial}", "proposal": f"arch {trial}",
        "seed": 7, "step": 1,
        "state": "COMPLETE", "seconds": 0.5, "device": "cpu", "val_accuracy": 10.0,
    }  # fmt: skip


def test_rows_survive_a_server_that_fails_and_is_slow(
    uri: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raynas.store.remote._FIRST_PAUSE", 0.01)
    folder = RunFolder.create(working_copy(uri), _info(), "x = 1\n", uri=uri)
    server.weather.failing, server.weather.slow = 0.2, 0.05
    with Writer(folder, 1, PROVENANCE, merge_every=8) as writer:
        for trial in range(10):
            writer.append([_row(trial)])
    assert server.weather.failed > 5
    monkeypatch.setenv("RAYNAS_CACHE", str(tmp_path / "another machine"))
    seen = RunFolder.open(fetch(uri))
    assert read(seen)["trial"].to_pylist() == list(range(10))


def test_a_server_that_is_down_costs_no_stored_row(
    uri: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raynas.store.remote._FIRST_PAUSE", 0.001)
    monkeypatch.setattr("raynas.store.remote._TRIES", 1)
    folder = RunFolder.create(working_copy(uri), _info(), "x = 1\n", uri=uri)
    with Writer(folder, 1, PROVENANCE) as writer:
        writer.append([_row(0)])
        server.weather.failing = 1.0
        with pytest.raises(UserError, match=r"cannot be stored.*raynas resume"):
            writer.append([_row(1)])
        server.weather.failing = 0.0
        writer.append([_row(2)])
    assert read(RunFolder.open(fetch(uri)))["trial"].to_pylist() == [0, 2]


def test_a_trials_checkpoint_goes_on_elsewhere(uri: str, tmp_path: Path) -> None:
    remote = RemoteFolder(uri).below("checkpoints/000001")
    here, there = CheckpointMirror(tmp_path / "a", remote), CheckpointMirror(tmp_path / "b", remote)
    here.pull()
    (here.folder / "checkpoint-000002").mkdir(parents=True)
    data = random.Random(0).randbytes(6_000_000)  # more than one part of an upload
    (here.folder / "checkpoint-000002" / "weights.safetensors").write_bytes(data)
    here.push()
    there.pull()
    assert (there.folder / "checkpoint-000002" / "weights.safetensors").read_bytes() == data


def test_an_interrupted_put_leaves_all_of_it_or_nothing(uri: str) -> None:
    """As Ctrl-C at any moment of it."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    remote, rng = RemoteFolder(uri), random.Random(3)
    remote.write("x/first", b"1" * 300)  # connected
    before = signal.signal(signal.SIGALRM, interrupt)
    interrupted = 0
    try:
        for number in range(60):
            try:
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.0002, 0.02))
                remote.write(f"x/{number}", b"1" * 300)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                interrupted += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted > 0
    assert set(remote.names("x").values()) == {300}


def test_only_one_creates_an_object(uri: str) -> None:
    won: list[int] = []

    def create(number: int) -> None:
        with contextlib.suppress(FileExistsError):
            RemoteFolder(uri).create("claim", b"%d" % number)
            won.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [RemoteFolder(uri).read("claim")] == [b"%d" % number for number in won]


def test_a_bucket_that_is_not_there_is_one_line(uri: str) -> None:
    with pytest.raises(UserError, match="cannot be"):
        RunFolder.create(
            working_copy(uri), _info(), "x = 1\n", uri=uri.replace("@raynas/", "@nobody/")
            .replace("allow_bucket_creation=true", "allow_bucket_creation=false"),
        )  # fmt: skip


def test_a_search_on_s3_goes_on_on_another_machine_after_its_driver_was_killed(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"trials": 6, "steps": 4, "scheduler": "ASHA(1, 2)"}
    file = experiment_file(tmp_path / "a", seconds=0.05, **settings)
    log = tmp_path / "a" / "log"
    one = {"RAYNAS_CACHE": str(tmp_path / "one"), "RAYNAS_LEASE_SECONDS": "1"}
    with Driver("run", file, "--local", "--output", uri, cwd=file.parent, **one) as driver:
        driver.until(lambda: len(lines(log)) >= 5)
    time.sleep(3)  # its lease runs out; storage counts whole seconds
    monkeypatch.setenv("RAYNAS_CACHE", str(tmp_path / "two"))
    monkeypatch.setenv("RAYNAS_LEASE_SECONDS", "1")
    copy = fetch(uri)
    found = resume_here(copy, monkeypatch)
    assert content(rows_of(found.folder)) == undisturbed(tmp_path / "b", **settings)
    there = RemoteFolder(uri).names()
    assert {"run.json", "experiment.py", "report.html"} <= set(there)
    assert len(list((copy / "results").glob("*.parquet"))) == 1
