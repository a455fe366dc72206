"""Two processes on one run that lives on shared storage: never both."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from integration.drivers import Driver, experiment_file, lines, rows_of, undisturbed
from integration.toy_runs import content
from two_drivers import play_rounds

from raynas.store.working_copies import fetch

LEASE = 3.0  # seconds


def environment(cache: Path) -> dict[str, str]:
    return {"RAYNAS_CACHE": str(cache), "RAYNAS_LEASE_SECONDS": str(LEASE)}


@pytest.mark.long
def test_the_second_driver_is_refused_until_the_first_ones_lease_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"trials": 12, "steps": 4, "scheduler": "ASHA(1, 2)", "deterministic_workers": 2}
    file = experiment_file(tmp_path / "a", seconds=0.5, **settings)
    uri, log = f"file://{tmp_path}/storage/run", tmp_path / "a" / "log"
    one, two = environment(tmp_path / "one"), environment(tmp_path / "two")
    with Driver("run", file, "--local", "--output", uri, cwd=file.parent, **one) as first:
        first.until(lambda: len(lines(log)) >= 3)
        with Driver("resume", uri, "--local", cwd=tmp_path, **two) as refused:
            assert refused.wait(60) == 2
            told = refused.err.read_text()
        assert f"is being written by process {first.process.pid} on " in told
        assert "wait for it or stop it" in told
        first.process.send_signal(signal.SIGSTOP)  # its machine sleeps
        held, asleep = len(lines(log)), time.monotonic()
        time.sleep(LEASE + 1)
        with Driver("resume", uri, "--local", cwd=tmp_path, **two) as second:
            second.until(lambda: len(lines(log)) > held)
            assert time.monotonic() - asleep > LEASE
            first.process.send_signal(signal.SIGCONT)
            assert first.wait(60) == 2
            told = first.err.read_text()
            assert f"was taken over by process {second.process.pid} on " in told
            assert second.wait(120) == 0, second.err.read_text()
    monkeypatch.setenv("RAYNAS_CACHE", str(tmp_path / "three"))
    rows = rows_of(fetch(uri))
    assert content(rows) == undisturbed(tmp_path / "b", **settings)
    assert {row["session"] for row in rows} == {1, 2}


@pytest.mark.long
def test_two_drivers_on_s3_lose_no_acknowledged_row() -> None:
    """`python tests/two_drivers.py --rounds 200` plays more."""
    pytest.importorskip("moto.server")
    found = play_rounds(5, seed=3)
    assert found["requests"] > 100
