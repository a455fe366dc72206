"""What a scraper reads of a run, where Ray serves metrics: with the packages of ray[default]."""

from __future__ import annotations

import socket
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path

import pytest
from integration.drivers import Driver, experiment_file, rows_of
from integration.machines import ENVIRONMENT, Cluster

parser = pytest.importorskip("prometheus_client.parser")
pytest.importorskip("opentelemetry.exporter.prometheus")

pytestmark = [pytest.mark.ray, pytest.mark.long]
#: Ray forgets a gauge that was not set for two intervals: less than a step of these trials
OFTEN = {"RAY_metrics_report_interval_ms": "4000"}
Samples = dict[tuple[str, ...], float]


def scrape(port: int) -> dict[str, Samples]:
    """Family of ours -> (stage, arm, what) -> value, with HELP checked on the way."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
            text = page.read().decode()
    except (urllib.error.URLError, OSError):
        return {}
    found: dict[str, Samples] = {}
    for family in parser.text_string_to_metric_families(text):
        if not family.name.startswith("ray_raynas_"):
            continue
        assert family.documentation
        assert family.type == (
            "gauge" if family.name[-4:] in ("last", "most", "east") else "counter"
        )
        for sample in family.samples:
            labels = sample.labels
            assert labels["run"].startswith("toy-")
            what = labels.get("state") or labels.get("metric") or ""
            found.setdefault(family.name, {})[labels["stage"], labels["arm"], what] = sample.value
    return found


def test_what_is_scraped_is_what_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name, value in OFTEN.items():
        monkeypatch.setenv(name, value)
    file = experiment_file(tmp_path, trials=4, steps=2, seconds=12.0, scheduler="ASHA(1, 2)")
    run, looks = tmp_path / "run", list[dict[str, Samples]]()
    with Cluster(1, f"--metrics-export-port={port}") as cluster:
        command = ("run", file, "--output", run, "--address", cluster.address)
        with Driver(*command, "--callbacks", "prometheus", cwd=tmp_path, **ENVIRONMENT) as driver:
            while driver.process.poll() is None:
                looks.append(scrape(port))
                time.sleep(1)
            assert driver.wait(1) == 0, driver.err.read_text()
        rows = rows_of(run)
        ended = Counter(row["state"] for row in rows if row["state"] != "RUNNING")
        deadline, last = time.monotonic() + 30, scrape(port)
        while sum(last.get("ray_raynas_trials_ended", {}).values()) < 4:
            assert time.monotonic() < deadline, last
            time.sleep(1)
            last = scrape(port)
    arm = ("search", "random")
    assert last["ray_raynas_trials_ended"] == {(*arm, s): n for s, n in ended.items()}
    seconds = sum(row["seconds"] or 0.0 for row in rows)
    assert last["ray_raynas_worker_seconds"][*arm, ""] == pytest.approx(seconds)
    values = [row["val_accuracy"] for row in rows if row["val_accuracy"] is not None]
    metric = (*arm, "val_accuracy")
    seen = [look["ray_raynas_most"][metric] for look in (*looks, last) if "ray_raynas_most" in look]
    first = next(n for n, look in enumerate(looks) if "ray_raynas_most" in look)
    assert all("ray_raynas_most" in look for look in looks[first:])  # it never goes away
    assert seen[-1] == pytest.approx(max(values))
    assert last["ray_raynas_least"][metric] == pytest.approx(min(values))
    assert last["ray_raynas_last"][metric] in values
