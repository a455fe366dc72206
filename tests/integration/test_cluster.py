"""A search over a cluster that loses its machines and gets another."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from integration.drivers import Driver, experiment_file, lines, rows_of, undisturbed
from integration.machines import ENVIRONMENT, Cluster, Machine, Network, no_networks
from integration.toy_runs import content

pytestmark = [pytest.mark.ray, pytest.mark.long]
SEARCH: dict[str, Any] = {
    "trials": 24,
    "steps": 8,
    "scheduler": "ASHA(1, 2)",
    "sampler": "TPE(n_startup=4)",
}

#: nothing is stopped, so whoever is struck has a trial under way
LONG = {"trials": 16, "steps": 8, "sampler": "TPE(n_startup=4)", "deterministic_workers": 4}


def works(log: Path, machine: Machine) -> bool:
    """Whether something was measured on it by a worker that is still there."""
    return bool({int(line.split()[2]) for line in lines(log)} & set(machine.processes()))


def past_the_last_rung(log: Path, machine: Machine) -> bool:
    """Whether a worker of it has three steps of a trial before it, which nothing stops any more."""
    last = {int(line.split()[2]): int(line.split()[1]) for line in lines(log)}
    return any(last.get(worker) == 5 for worker in machine.processes())


def idle_and_busy(driver: Driver, log: Path, cluster: Cluster) -> list[Machine]:
    """Its two machines once one has a trial, that one last: short trials may all be on it."""
    machines = cluster.machines
    driver.until(lambda: any(works(log, machine) for machine in machines))
    return sorted(machines, key=lambda machine: works(log, machine))


def test_machines_die_another_joins_and_the_table_is_that_of_a_calm_run(tmp_path: Path) -> None:
    file = experiment_file(tmp_path / "a", seconds=1.0, deterministic_workers=4, **SEARCH)
    run, log = tmp_path / "a" / "run", tmp_path / "a" / "log"
    with Cluster(2) as cluster:
        command = ("run", file, "--output", run, "--address", cluster.address)
        with Driver(*command, cwd=tmp_path, **ENVIRONMENT) as driver:
            first, second = idle_and_busy(driver, log, cluster)
            driver.until(lambda: past_the_last_rung(log, second))
            cluster.kill(second)
            third = cluster.join()
            third.until_ready()
            cluster.kill(first)
            driver.until(lambda: works(log, third))
            assert driver.wait(180) == 0, driver.err.read_text()
            assert driver.all_gone(30), driver.commands()
            out, err = driver.out.read_text(), driver.err.read_text()
    told = err.splitlines()
    for machine in (first, second):
        (line,) = [line for line in told if line.startswith(f"machine {machine.ip} is lost: ")]
        assert line.endswith(("elsewhere", "no trial was known to be there")), line
    assert "go on elsewhere" in err or "goes on elsewhere" in err
    assert len(told) == 2, err  # nothing of Ray's, here or among the progress
    ours = ("search ", "in order: ", "report: ")
    assert all(line.startswith(ours) for line in out.splitlines()), out
    assert "raylet" in (run / "logs" / "ray.log").read_text()
    assert not (run / "tune").exists()
    rows = rows_of(run)
    assert content(rows) == undisturbed(tmp_path / "b", deterministic_workers=4, **SEARCH)
    assert {row["state"] for row in rows} >= {"COMPLETE", "STOPPED"}
    assert max(row["attempt"] for row in rows) > 0  # what the dead machine had


def test_a_machine_that_ray_still_takes_for_alive_does_not_answer() -> None:
    """Before it is given up, Ray says of its workers what it says of those that crashed."""
    with Cluster(2) as cluster:
        look = "from raynas.runners.ray import nodes as machines\nknown = machines.known()\n"
        ask = f"{look}found = [len(known), sorted(machines.answering())]"
        _, before = cluster.ask(ask)
        assert len(before) == 3
        silent = cluster.machines[0]
        (number,) = cluster.ask(
            "found = [n['NodeID'] for n in ray.nodes() if "
            f"n['NodeManagerAddress'] == {silent.ip!r}]"
        )
        for process in silent.processes():
            os.kill(process, signal.SIGSTOP)
        known, after = cluster.ask(ask)
        assert known == 3
        assert set(before) - set(after) == {number}


def test_a_machine_that_joins_late_gets_trials_that_are_shorter_than_a_workers_start(
    tmp_path: Path,
) -> None:
    file = experiment_file(tmp_path / "a", trials=2000, steps=2, seconds=0.4)
    run, log = tmp_path / "a" / "run", tmp_path / "a" / "log"
    with Cluster(1) as cluster:
        (first,) = cluster.machines
        command = ("run", file, "--output", run, "--address", cluster.address)
        with Driver(*command, cwd=tmp_path, **ENVIRONMENT) as driver:
            driver.until(lambda: works(log, first))
            late = cluster.join()
            driver.until(lambda: works(log, late) and works(log, first))


def test_a_machine_whose_wire_is_cut_works_for_nobody_and_does_no_harm(tmp_path: Path) -> None:
    """It goes on with its trials, which others are given; when it comes back, nobody wants them."""
    if refused := no_networks():
        pytest.skip(refused)
    file = experiment_file(tmp_path / "a", seconds=0.5, **LONG)
    run, log = tmp_path / "a" / "run", tmp_path / "a" / "log"
    with Network() as network, Cluster(2, network=network) as cluster:
        command = ("run", file, "--output", run, "--address", cluster.address)
        with Driver(*command, cwd=tmp_path, **ENVIRONMENT) as driver:
            first, second = idle_and_busy(driver, log, cluster)
            cluster.cut(second)
            driver.until(lambda: cluster.given_up(second))
            before = len(lines(log))
            driver.until(lambda: works(log, first) and len(lines(log)) > before + 3)
            cluster.cut(second, mend=True)
            assert driver.wait(180) == 0, driver.err.read_text()
            assert driver.all_gone(30), driver.commands()
    rows = rows_of(run)
    assert content(rows) == undisturbed(tmp_path / "b", **LONG)
    assert max(row["attempt"] for row in rows) > 0  # what was on its way there


def test_a_machine_that_is_to_be_taken_back_hands_its_trials_on_before_it_goes(
    tmp_path: Path,
) -> None:
    file = experiment_file(tmp_path / "a", seconds=0.5, **LONG)
    run, log = tmp_path / "a" / "run", tmp_path / "a" / "log"
    with Cluster(2) as cluster:
        first, second = cluster.machines
        command = ("run", file, "--output", run, "--address", cluster.address)
        with Driver(*command, cwd=tmp_path, **ENVIRONMENT) as driver:
            driver.until(lambda: works(log, first) and works(log, second))
            there = set(second.processes())
            cluster.notice(second, 600)
            driver.until(lambda: not {int(n.split()[2]) for n in lines(log)[-6:]} & there)
            handed_on = len(lines(log))
            assert driver.wait(180) == 0, driver.err.read_text()
            after = lines(log)[handed_on:]
            assert len(after) > 20
            assert not {int(line.split()[2]) for line in after} & set(second.processes())
    rows = rows_of(run)
    assert content(rows) == undisturbed(tmp_path / "b", **LONG)
    worked: dict[str, set[int]] = {}
    for line in lines(log):
        worked.setdefault(line.split()[0], set()).add(int(line.split()[2]))
    if any(pids & there and pids - there for pids in worked.values()):  # else all ended just then
        assert max(row["attempt"] for row in rows) > 0
