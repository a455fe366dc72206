"""Callbacks hear of what is stored, and never hold up a run."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from integration.drivers import experiment_file, quiet, rows_of

from raynas.callbacks import CALLBACKS, CallbackDispatcher, Prometheus, RunCallback, TensorBoard
from raynas.callbacks.base import metrics_of
from raynas.core import UserError
from raynas.experiment import load
from raynas.pipeline import launch
from raynas.runners.local import LocalRunner

pytestmark = pytest.mark.usefixtures("undrawn")


class Listed(RunCallback):
    """Keeps what it hears; waits before the first row or breaks if asked."""

    name = "listed"

    def __init__(self, gate: threading.Event | None = None, breaks_at: int = -1) -> None:
        self.gate, self.breaks_at = gate, breaks_at
        self.rows: list[Mapping[str, Any]] = []
        self.opened = self.closed = False

    def open(self, run: str, folder: Path, description: Mapping[str, Any]) -> None:
        self.opened = True

    def show(self, row: Mapping[str, Any]) -> None:
        if self.gate:
            self.gate.wait()
        if len(self.rows) == self.breaks_at:
            raise ConnectionError("the server is gone")
        self.rows.append(row)

    def close(self) -> None:
        self.closed = True


def row(trial: int = 0, **changes: Any) -> dict[str, Any]:
    return {
        "stage": "search", "arm": "tpe", "trial": trial, "attempt": 0, "arch": "x", "seed": 1,
        "step": 1, "state": "COMPLETE", "seconds": 2.0, "params": 5, "val_accuracy": 90.0,
        **changes,
    }  # fmt: skip


def board(*callbacks: RunCallback, room: int = 100) -> CallbackDispatcher:
    made = CallbackDispatcher(callbacks, room)
    made.open("run", Path(), {})
    return made


def test_all_hear_all_in_order_and_are_closed() -> None:
    one, two = Listed(), Listed()
    shown = board(one, two)
    shown.show([row(i) for i in range(50)])
    shown.close()
    assert [r["trial"] for r in one.rows] == list(range(50)) == [r["trial"] for r in two.rows]
    assert one.closed
    assert shown.remarks == []


def test_a_slow_one_costs_the_run_nothing_but_its_own_rows() -> None:
    gate = threading.Event()
    slow = Listed(gate)
    shown = board(slow, room=10)
    try:
        shown.show([row(i) for i in range(500)])  # whoever waited for it would wait for ever
        shown.close(patience=0.05)
        (remark,) = shown.remarks
    finally:
        gate.set()
    missed = int(remark.split()[2])
    assert missed in (499, 500)  # one is being shown, if the thread has had a turn
    assert remark.endswith("rows; the store has them")
    (thread,) = [desk.thread for desk in shown._desks]
    shown.close(patience=60)
    assert not thread.is_alive()
    assert 10 <= len(slow.rows) <= 11
    assert slow.closed


def test_what_a_slow_one_catches_up_with_is_not_missed() -> None:
    gate = threading.Event()
    slow = Listed(gate)
    shown = board(slow, room=10)
    shown.show([row(i) for i in range(10)])
    gate.set()
    shown.close(patience=60)
    assert len(slow.rows) == 10
    assert shown.remarks == []


def test_one_that_is_slow_to_end_has_missed_nothing() -> None:
    gate = threading.Event()

    class Lingering(Listed):
        def close(self) -> None:
            gate.wait()

    slow = Lingering()
    shown = board(slow)
    shown.show([row(i) for i in range(5)])
    shown.close(patience=0.3)
    try:
        deadline = time.monotonic() + 60
        while len(slow.rows) < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        (thread,) = [desk.thread for desk in shown._desks]
        assert thread.is_alive()
        assert shown.remarks == []
    finally:
        gate.set()
    thread.join(60)


def test_a_broken_one_is_left_alone_and_named() -> None:
    broken, sound = Listed(breaks_at=3), Listed()
    shown = board(broken, sound)
    shown.show([row(i) for i in range(10)])
    shown.close()
    assert len(sound.rows) == 10
    assert shown.remarks == [
        "listed missed 7 rows (ConnectionError: the server is gone); the store has them"
    ]
    assert threading.active_count() < 50


def test_one_that_cannot_begin_ends_the_run_before_it_starts() -> None:
    class Away(Listed):
        def open(self, run: str, folder: Path, description: Mapping[str, Any]) -> None:
            raise ConnectionError("nobody answers at\nlocalhost:5000")

    with pytest.raises(UserError, match=r"listed cannot be used: ConnectionError: nobody.*leave"):
        board(Away())


def test_a_run_shows_what_it_stores(tmp_path: Path) -> None:
    file = experiment_file(tmp_path, trials=3)
    listed = Listed()
    folder = launch.start(
        load(file), tmp_path / "run", lambda *_: LocalRunner(), overrides={}, smoke=False,
        console=quiet(), callbacks=[listed],
    )  # fmt: skip
    assert listed.opened
    assert listed.closed
    stored = [(r["trial"], r["step"], r["val_accuracy"]) for r in rows_of(folder)]
    assert [(r["trial"], r["step"], r["val_accuracy"]) for r in listed.rows] == stored


def test_metrics_are_what_was_measured() -> None:
    assert metrics_of(row(state="RUNNING")) == {"seconds": 2.0, "val_accuracy": 90.0}


def test_tensorboard_has_a_curve_per_trial(tmp_path: Path) -> None:
    shown = CallbackDispatcher([TensorBoard(most=2)])
    shown.open("run", tmp_path, {})
    shown.show([row(t, step=s) for t in range(3) for s in (1, 2)])
    shown.close()
    assert shown.remarks == []
    folders = sorted(p.name for p in (tmp_path / "tensorboard").iterdir())
    assert folders == ["search-tpe-000000", "search-tpe-000001"]
    (events,) = (tmp_path / "tensorboard" / folders[0]).iterdir()
    assert b"val_accuracy" in events.read_bytes()


class Meter:
    def __init__(self) -> None:
        self.seen: dict[tuple[str, ...], float] = {}

    def inc(self, value: float, tags: dict[str, str]) -> None:
        key = tuple(tags.values())
        self.seen[key] = self.seen.get(key, 0.0) + value

    def set(self, value: float, tags: dict[str, str]) -> None:
        self.seen[tuple(tags.values())] = value


def test_prometheus_counts_ends_and_keeps_the_highest() -> None:
    meters: dict[str, Meter] = {}

    def make(_kind: str, name: str, _text: str, _labels: tuple[str, ...]) -> Meter:
        meters[name] = Meter()
        return meters[name]

    callback = Prometheus(make)
    callback.open("r", Path(), {})
    for state, value in (("RUNNING", 70.0), ("COMPLETE", 80.0), ("COMPLETE", 75.0)):
        callback.show(row(state=state, val_accuracy=value))
    key = ("r", "search", "tpe")
    assert meters["raynas_trials_ended"].seen == {(*key, "COMPLETE"): 2}
    assert meters["raynas_worker_seconds"].seen == {key: 6.0}
    assert meters["raynas_last"].seen[(*key, "val_accuracy")] == 75.0
    assert meters["raynas_most"].seen[(*key, "val_accuracy")] == 80.0
    assert meters["raynas_least"].seen[(*key, "val_accuracy")] == 70.0
    callback.close()
    with pytest.raises(UserError, match="need Ray"):
        Prometheus().open("r", Path(), {})


def test_gauges_are_told_again_until_the_run_ends() -> None:
    meter = Meter()
    callback = Prometheus(lambda *_: meter, every=0.02)
    callback.open("r", Path(), {})
    callback.show(row(state="RUNNING", val_accuracy=70.0))
    for _ in range(2):
        meter.seen.clear()  # as Ray does with what is not set for a while
        deadline = time.monotonic() + 60
        while not meter.seen and time.monotonic() < deadline:
            time.sleep(0.01)
        assert meter.seen[("r", "search", "tpe", "val_accuracy")] == 70.0
    (teller,) = [t for t in threading.enumerate() if t.name == "prometheus-gauges"]
    callback.close()
    teller.join(60)
    assert not teller.is_alive()


def test_a_gauge_that_is_told_again_is_not_put_back() -> None:
    repeats, told = threading.Event(), threading.Event()

    class Slow(Meter):
        def set(self, value: float, tags: dict[str, str]) -> None:
            if threading.current_thread().name == "prometheus-gauges" and not repeats.is_set():
                repeats.set()
                told.wait(0.3)  # a new value comes meanwhile
            super().set(value, tags)

    meters: dict[str, Slow] = {}
    callback = Prometheus(lambda _kind, name, *_: meters.setdefault(name, Slow()), every=0.5)
    callback.open("r", Path(), {})
    callback.show(row(state="RUNNING", val_accuracy=70.0))
    assert repeats.wait(5)
    callback.show(row(state="RUNNING", val_accuracy=90.0))
    told.set()
    time.sleep(0.1)  # less than until the next time
    callback.close()
    seen = {name: list(meter.seen.values()) for name, meter in meters.items()}
    assert seen["raynas_last"] == seen["raynas_most"] == [90.0]


@pytest.mark.parametrize("name", CALLBACKS)
def test_every_observer_says_what_it_is_and_names_a_missing_package(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import builtins

    assert CALLBACKS[name].name == name
    real = builtins.__import__

    def without(module: str, *more: Any) -> Any:
        if module in ("mlflow", "wandb", "tensorboardX"):
            raise ImportError(module)
        return real(module, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError):
        CALLBACKS[name]().open("run", tmp_path, {})
