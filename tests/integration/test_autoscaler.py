"""Searches on a cluster of which only the head is there: Ray's autoscaler brings the machines."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.drivers import Driver, experiment_file, lines, rows_of, undisturbed
from integration.machines import ENVIRONMENT, Autoscaled, Cluster
from integration.toy_runs import content

pytestmark = [pytest.mark.ray, pytest.mark.long]
SEARCH = {"trials": 40, "steps": 4}
QUICK = {"trials": 90, "steps": 1, "evaluator": "Quick"}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Autoscaled]:
    folder = tmp_path_factory.mktemp("cluster")
    kinds = {"cpu": ({"CPU": 2}, 3), "gpu": ({"CPU": 2, "GPU": 1}, 1)}
    with Autoscaled(folder, **kinds) as made:
        yield made


def workers(log: Path) -> int:
    return len({line.split()[2] for line in lines(log)})


def driver(cluster: Autoscaled, file: Path, *more: str) -> Driver:
    run = file.parent / "run"
    command = ("run", file, "--output", run, "--address", cluster.address, *more)
    return Driver(*command, cwd=file.parent, **ENVIRONMENT)


def doctor(address: str, file: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "raynas.cli.main",
        "doctor",
        str(file),
        "--address",
        address,
        *more,
    ]
    return subprocess.run(
        command, cwd=file.parent, env={**os.environ, **ENVIRONMENT, "COLUMNS": "200"},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_it_must_be_said_whether_there_are_gpus_that_nobody_sees_yet(
    cluster: Autoscaled, tmp_path: Path
) -> None:
    file = experiment_file(tmp_path, seconds=0.1, **SEARCH)
    with driver(cluster, file) as asked:
        assert asked.wait(60) == 2
        told = asked.err.read_text()
    assert "no machine is up yet that would show whether there are GPUs" in told
    assert "--set resources.gpus=0.25" in told
    assert cluster.machines == 0


def test_the_doctor_has_a_machine_brought_to_try_the_experiment_on(
    cluster: Autoscaled, tmp_path: Path
) -> None:
    file = experiment_file(tmp_path, seconds=0.1, **SEARCH)
    told = doctor(cluster.address, file, "--set", "resources.gpus=0")
    assert told.returncode == 0
    assert "no machine is running yet; asking the autoscaler for one" in told.stdout
    assert "2 machines" in told.stdout
    assert "2 CPUs" in told.stdout
    assert "one step in" in told.stdout
    assert cluster.is_empty()


def test_the_doctor_sees_that_nothing_can_run_where_nobody_brings_machines(tmp_path: Path) -> None:
    file = experiment_file(tmp_path, seconds=0.1, **SEARCH)
    with Cluster(0) as cluster:
        told = doctor(cluster.address, file)
    assert told.returncode == 3
    assert "no machine has a CPU for trials" in told.stdout
    assert "ray start --address=" in told.stdout


def test_a_search_says_that_it_waits_for_a_machine(cluster: Autoscaled, tmp_path: Path) -> None:
    file = experiment_file(tmp_path, seconds=0.1, **SEARCH)
    with driver(cluster, file, "--set", "resources.gpus=4") as search:  # there is none such
        search.until(lambda: "1 running; waiting for a machine; 0:1" in search.out.read_text())
        search.process.send_signal(signal.SIGINT)
        assert search.wait(60) == 130, search.err.read_text()
    assert cluster.machines == 0


def test_a_search_brings_all_the_machines_there_may_be_and_lets_them_go(
    cluster: Autoscaled, tmp_path: Path
) -> None:
    file = experiment_file(tmp_path / "a", seconds=0.5, **SEARCH)
    with driver(cluster, file, "--set", "resources.gpus=0") as search:
        search.until(lambda: cluster.machines >= 3)
        assert search.wait(180) == 0, search.err.read_text()
    assert cluster.is_empty()  # nothing that is paid for is left
    assert content(rows_of(tmp_path / "a" / "run")) == undisturbed(tmp_path / "b", **SEARCH)
    steps = Counter(line.split()[2] for line in lines(tmp_path / "a" / "log"))
    assert len(steps) >= 6
    assert sum(steps.values()) == 160  # nothing was done twice


def test_a_search_with_gpus_brings_what_has_them(cluster: Autoscaled, tmp_path: Path) -> None:
    file = experiment_file(tmp_path, seconds=0.3, trials=8, steps=4)
    with driver(cluster, file, "--set", "resources.gpus=0.5") as search:
        search.until(lambda: cluster.machines == 1)
        most = 1
        while search.process.poll() is None:  # of that kind there is one only
            most = max(most, cluster.machines)
            time.sleep(0.1)
        assert search.wait(180) == 0, search.err.read_text()
        assert most == 1
    assert workers(tmp_path / "log") == 2
    assert cluster.is_empty()


def test_quick_evaluations_bring_machines_where_there_is_work_for_them(
    cluster: Autoscaled, tmp_path: Path
) -> None:
    file = experiment_file(tmp_path / "a", seconds=3.0, **QUICK)
    with driver(cluster, file, "--set", "resources.gpus=0") as search:
        search.until(lambda: cluster.machines >= 2, timeout=120)
        assert search.wait(240) == 0, search.err.read_text()
    assert content(rows_of(tmp_path / "a" / "run")) == undisturbed(tmp_path / "b", **QUICK)
    assert workers(tmp_path / "a" / "log") >= 4
