"""Whole runs on Ray as processes: killed, interrupted, silent, on a cluster of others."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from integration.drivers import (
    PATHS,
    Driver,
    experiment_file,
    lines,
    resume_here,
    rows_of,
    run_here,
    session_folders,
    undisturbed,
)
from integration.toy_runs import content
from repetition import more

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("undrawn")]

#: what a run prints when nobody watches: its progress, then where things are
_OURS = re.compile(
    r"(search|final) .*\d:\d\d gone|report: |best network: "
    r"|stopping: results are stored|interrupted; go on with"
)


def sessions() -> set[Path]:
    return {p for p in Path("/tmp/ray").glob("session_2*") if not p.is_symlink()}


def finished(rows: list[dict[str, Any]]) -> set[str]:
    return {row["arch"] for row in rows if row["state"] != "RUNNING"}


def only_ours(driver: Driver) -> bool:
    printed = [*lines(driver.out), *lines(driver.err)]
    foreign = [line for line in printed if line.strip() and not _OURS.match(line)]
    assert not foreign, foreign
    return True


@pytest.mark.parametrize("lane", ["Curves", *more("Quick")])
def test_a_killed_driver_on_ray_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lane: str
) -> None:
    """``Curves`` are Tune's trials; ``Quick`` ones go in chunks through actors."""
    file = experiment_file(tmp_path / "a", trials=14, seconds=0.05, evaluator=lane)
    run, log = tmp_path / "a" / "run", tmp_path / "a" / "log"
    seed = int.from_bytes(os.urandom(2), "big")
    print(f"seed of the moment: {seed}")
    moment = random.Random(seed).randrange(1, 45)
    with Driver("run", file, "--output", run, cwd=tmp_path) as driver:
        driver.until(lambda: len(lines(log)) >= moment)
        left = session_folders(driver.mark)
        driver.process.kill()
        assert driver.wait(10) == -signal.SIGKILL
        # these two idle for a minute, trying to tell a Ray that is gone; nothing else may stay
        agents = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
        assert driver.all_gone(30, but=agents), driver.commands()
        assert only_ours(driver)
    before, done = rows_of(run), len(lines(log))

    with Driver("resume", run, cwd=tmp_path) as driver:
        assert driver.wait(120) == 0, driver.err.read_text()
        assert driver.all_gone(30)
        assert only_ours(driver)
        assert "14 complete" in driver.out.read_text()
    rows = rows_of(run)
    again = {line.split()[0] for line in lines(log)[done:]}
    assert not again & finished(before)
    assert max(Counter((row["trial"], row["step"]) for row in rows).values()) == 1
    stored = {(row["trial"], row["step"]): row for row in rows}
    assert all(stored[row["trial"], row["step"]] == row for row in before)
    assert content(rows) == undisturbed(tmp_path / "b", trials=14)
    assert not (run / "tune").exists()
    for folder in left:  # of the killed driver: nobody is left to remove it
        shutil.rmtree(folder, ignore_errors=True)
    assert resume_here(run, monkeypatch).folder.report.exists()


@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_ends_in_order_and_a_second_one_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, presses: int
) -> None:
    """The step under way takes a minute: the first Ctrl-C does not wait for it, either."""
    file = experiment_file(tmp_path, trials=3, seconds=60.0)
    run = tmp_path / "run"
    with Driver("run", file, "--output", run, cwd=tmp_path) as driver:
        driver.until(lambda: any(".train" in command for command in driver.commands()))
        folders = session_folders(driver.mark)
        assert folders
        began = time.monotonic()
        for _ in range(presses):
            driver.process.send_signal(signal.SIGINT)
            time.sleep(0.5)
        assert driver.wait(60) == 130, driver.err.read_text()
        took = time.monotonic() - began
        print(f"ended after {took:.1f} s")
        assert driver.all_gone(30), "Ray processes are left"
        assert only_ours(driver)
    assert not folders & sessions()
    assert not (run / "tune").exists()
    assert took < (40 if presses == 1 else 20)  # 12 and 3 on a quiet machine
    if presses == 1:
        assert f"raynas resume {run}" in driver.err.read_text()
        assert (run / "report.html").exists()
    monkeypatch.setattr("raynas.testing.toys.time", SimpleNamespace(sleep=lambda _seconds: None))
    resume_here(run, monkeypatch)
    assert content(rows_of(run)) == content(
        rows_of(run_here(experiment_file(tmp_path / "calm", trials=3)))
    )


def test_joining_a_cluster_and_leaving_it_as_it_was(tmp_path: Path) -> None:
    file = experiment_file(tmp_path, trials=3)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    env = {"RAY_AUTH_MODE": "disabled"}
    mark = f"RAYNAS_CLUSTER_{uuid.uuid4().hex[:6]}"
    port = address.rpartition(":")[2]
    head = subprocess.Popen(
        [
            str(Path(sys.executable).with_name("ray")), "start", "--head", "--block",
            "--node-ip-address=127.0.0.1", f"--port={port}", "--num-cpus=2",
            "--include-dashboard=false", "--disable-usage-stats",
        ],
        env={**os.environ, **env, "PYTHONPATH": os.pathsep.join(PATHS), mark: "1"},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        _wait_for(address)
        for command in (["run", file, "--output", tmp_path / "run"], ["resume", tmp_path / "run"]):
            extra = ["--trials", "+1"] if command[0] == "resume" else []
            with Driver(*command, *extra, "--address", address, cwd=tmp_path, **env) as driver:
                assert driver.wait(120) == 0, driver.err.read_text()
                assert only_ours(driver)
            assert head.poll() is None, "the cluster was stopped"
        assert len({row["trial"] for row in rows_of(tmp_path / "run")}) == 4
    finally:
        left = session_folders(mark)
        head.terminate()
        head.wait(30)
        for folder in left:
            shutil.rmtree(folder, ignore_errors=True)


def _wait_for(address: str, timeout: float = 60) -> None:
    host, _, port = address.partition(":")
    deadline = time.monotonic() + timeout
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
            break
        except OSError:
            assert time.monotonic() < deadline, "no cluster"
            time.sleep(0.2)
    time.sleep(3.0)  # the node joins its own cluster a little later
