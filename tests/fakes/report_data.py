"""Synthetic runs: tables as the store gives them, made in whole columns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from raynas.core import Metric
from raynas.core import metrics as known
from raynas.spaces.nasbench201.space import NASBench201
from raynas.store import RunInfo, schema_for

METRICS: tuple[Metric, ...] = (
    known.VAL_ACCURACY, known.VAL_LOSS, known.TRAIN_ACCURACY, known.TRAIN_LOSS,
    known.TEST_ACCURACY,
)  # fmt: skip
SCORES: tuple[Metric, ...] = tuple(
    Metric(name, known.SCORE_UNIT, "max", "a score") for name in ("naswot", "zen_score", "grasp")
)
START = 1_790_000_000_000_000


@dataclass
class Rows:
    """Rows given as short dicts; what they leave out gets a plain value."""

    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, trial: int, step: int | None, state: str, **values: Any) -> Rows:
        row: dict[str, Any] = {
            "run": "r1", "experiment": "f00d", "session": 1, "stage": "search", "arm": "tpe",
            "trial": trial, "attempt": 0, "arch_id": f"id{trial}", "arch": f"arch-{trial}",
            "proposal": f"arch-{trial}", "seed": trial, "step": step, "state": state,
            "message": None, "params": 1000 + trial, "macs": 10_000 + trial, "seconds": 1.0,
            "time": START + 1_000_000 * len(self.rows), "host": "h", "device": "cpu",
            "git": "abc", "versions": "python 3", "weights": None,
        }  # fmt: skip
        self.rows.append({**row, **values})
        return self

    def table(self) -> pa.Table:
        return pa.Table.from_pylist(self.rows, schema=schema_for((*METRICS, *SCORES)))


def describe_run(**changes: Any) -> dict[str, Any]:
    return {
        "class": "Experiment",
        "name": "cells",
        "objectives": [{"class": "Objective", "metric": "val_accuracy", "direction": "max"}],
        "bounds": [{"class": "Bound", "metric": "params", "max": 900_000.0, "min": float("-inf")}],
        "budget": {"class": "Budget", "trials": 40},
        "sampler": {"class": "TPE", "n_startup": 10},
        "scheduler": {"class": "ASHA", "min_step": 1, "factor": 3, "max_step": None},
        "space": {"class": "NASBench201", "channels": 8, "cells": 1},
        "data": {"class": "Digits"},
        "evaluator": {"class": "Retrain", "recipe": {"class": "Recipe", "epochs": 9, "lr": 0.1}},
        "finalists": {"class": "Finalists", "top": 3, "seeds": [0, 1, 2]},
        "seed": 0,
        **changes,
    }


def info_of(description: Any = None, **changes: Any) -> RunInfo:
    described = describe_run() if description is None else description
    given: dict[str, Any] = {
        "run": "cells-20261123T101500-1f2e3d", "name": "cells", "fingerprint": "0123456789ab",
        "description": described, "source_file": "experiments/cells.py",
        "overrides": {"space.channels": 8}, "metrics": METRICS,
        "created": "2026-11-23T10:15:00+00:00",
    }  # fmt: skip
    return RunInfo(**{**given, **changes})


def synthetic(
    trials: int = 40, max_step: int = 9, seed: int = 0, finals: bool = True, lead: float = 1.2
) -> pa.Table:
    """Two arms under ASHA with factor 3, then finals; ``lead``: points that TPE is better by."""
    rng = np.random.default_rng(seed)
    parts = [
        _arm(rng, trials, max_step, "tpe", 0, lead),
        _arm(rng, trials, max_step, "random", trials, 0),
    ]
    search = {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}
    if finals:
        last = _finals(rng, search, 2 * trials, max_step)
        search = {k: np.concatenate([search[k], last[k]]) for k in search}
    return _as_table(search)


def _arm(
    rng: np.random.Generator, n: int, max_step: int, arm: str, first: int, lead: float
) -> dict[str, Any]:
    space = NASBench201()
    archs = [space.sample(rng) for _ in range(min(n, 400))]
    pick = np.arange(n) % len(archs)
    text = np.array([a.text for a in archs], dtype=object)[pick]
    ids = np.array([a.id for a in archs], dtype=object)[pick]
    weight = np.array([sum("conv" in str(o) for o in a.options) for a in archs])[pick]
    quality = 84 + 1.4 * weight + rng.normal(0, 1.6, n) + lead * np.linspace(0, 2, n)
    quality = np.minimum(quality, 98 - rng.random(n))
    params = 20_000 + 61_000 * weight + rng.integers(0, 9000, n)
    step = np.arange(1, max_step + 1)
    curve = quality[:, None] - 55 * np.exp(-0.55 * step) + rng.normal(0, 1.1, (n, max_step)) / step
    state = np.full(n, "COMPLETE", dtype=object)
    last = np.full(n, max_step)
    alive = np.arange(n)
    rung = 1
    while rung < max_step:
        keep = int(np.ceil(len(alive) / 3 * 1.25))
        order = alive[np.argsort(-curve[alive, rung - 1])]
        last[order[keep:]], state[order[keep:]] = rung, "STOPPED"
        alive, rung = np.sort(order[:keep]), rung * 3
    message = np.full(n, None, dtype=object)
    for k in range(7, n, 19):
        state[k], last[k] = "FAILED", 2
        message[k] = "TrainingDiverged: the loss of epoch 3 is not finite"
    for k in range(13, n, 23):
        state[k], last[k], params[k] = "INFEASIBLE", 0, 950_000
        message[k] = "params <= 900000 is broken: 950000"
    lengths = np.maximum(last, 1)
    owner = np.repeat(np.arange(n), lengths)
    steps = np.arange(len(owner)) - np.repeat(np.cumsum(lengths) - lengths, lengths) + 1
    ends = steps == lengths[owner]
    none = last[owner] == 0
    value = np.where(none, np.nan, curve[owner, np.minimum(steps, max_step) - 1])
    seconds = np.where(
        none, 0.0, (0.15 + params[owner] / 2.2e6) * rng.uniform(0.9, 1.1, len(owner))
    )
    begin = np.arange(n) * 0.35 + (60 if arm == "random" else 0)
    return {
        "stage": np.full(len(owner), "search", dtype=object),
        "arm": np.full(len(owner), arm, dtype=object),
        "trial": first + owner, "arch": text[owner], "arch_id": ids[owner],
        "seed": 1000 + owner, "step": np.where(none, 0, steps),
        "state": np.where(ends, state[owner], "RUNNING"),
        "message": np.where(ends, message[owner], None), "params": params[owner],
        "seconds": seconds, "time": begin[owner] + 0.4 * steps,
        "val_accuracy": value, "test_accuracy": np.full(len(owner), np.nan),
    }  # fmt: skip


def _finals(
    rng: np.random.Generator, search: dict[str, Any], first: int, max_step: int
) -> dict[str, Any]:
    done = np.flatnonzero((search["state"] == "COMPLETE") & (search["arm"] == "tpe"))
    order = done[np.argsort(-search["val_accuracy"][done])]
    _, unique = np.unique(search["arch_id"][order].astype(str), return_index=True)
    rows = np.repeat(order[np.sort(unique)][:3], 3)
    last = {k: v[rows] for k, v in search.items()}
    last["stage"] = np.full(len(rows), "final", dtype=object)
    last["trial"], last["seed"] = first + np.arange(len(rows)), np.tile([0, 1, 2], 3)[: len(rows)]
    last["test_accuracy"] = last["val_accuracy"] - 0.6 + rng.normal(0, 0.3, len(rows))
    last["val_accuracy"] = np.full(len(rows), np.nan)
    last["time"] = search["time"].max() + 4.0 * np.arange(1, len(rows) + 1)
    last["seconds"] = last["seconds"] * max_step
    return last


@dataclass
class Cells:
    """Random cells, the quality that training them shows, and scores that know some of it."""

    n: int
    rng: np.random.Generator

    def __post_init__(self) -> None:
        space = NASBench201()
        archs = [space.sample(self.rng) for _ in range(self.n)]
        self.text, self.ids = [a.text for a in archs], [a.id for a in archs]
        weight = np.array([sum("conv" in str(o) for o in a.options) for a in archs])
        self.params = 20_000 + 61_000 * weight
        self.quality = np.minimum(80 + 1.6 * weight + self.rng.normal(0, 2, self.n), 97.0)
        noise = self.rng.normal(size=(3, self.n))
        self.scores = {
            "naswot": 1600 + 4 * (self.quality - 85) + 5 * noise[0],
            "zen_score": 30 + 2 * weight + 6 * noise[1],
            "grasp": np.where(self.rng.random(self.n) < 0.1, np.nan, noise[2]),
        }

    def row(self, k: int) -> dict[str, Any]:
        """What all rows of cell ``k`` have in common."""
        return {
            "arch": self.text[k], "arch_id": self.ids[k], "params": int(self.params[k]),
            "macs": int(self.params[k]) * 57,
        }  # fmt: skip

    def scored(self, k: int) -> dict[str, Any]:
        values = {name: float(v[k]) for name, v in self.scores.items()}
        return {n: v if np.isfinite(v) else None for n, v in values.items()}


def screened(candidates: int = 240, keep: int = 3, seed: int = 0) -> pa.Table:
    """One arm that trains the best third of its candidates by naswot for three steps, and random
    search that trains all; a quarter of what is trained is stopped after the first step."""
    rng = np.random.default_rng(seed)
    rows, cells = Rows(), Cells(candidates, rng)
    kept = cells.scores["naswot"] >= np.quantile(cells.scores["naswot"], 1 - 1 / keep)
    for k in range(candidates):
        state = "RUNNING" if kept[k] else "STOPPED"
        why = None if kept[k] else "screened: naswot 1590 is below 1604"
        rows.add(k, 0, state, seconds=0.2, message=why, **cells.row(k), **cells.scored(k))
        if kept[k]:
            _train(rows, k, cells, k, "tpe")
    others = Cells(candidates // keep, rng)
    for k in range(others.n):
        _train(rows, candidates + k, others, k, "random", others.scored(k))
    return rows.table()


def _train(
    rows: Rows, number: int, cells: Cells, k: int, arm: str, more: dict[str, Any] | None = None
) -> None:
    for step in (1, 2, 3):
        stop = step == 1 and number % 4 == 0
        state = "STOPPED" if stop else "COMPLETE" if step == 3 else "RUNNING"
        value = float(cells.quality[k]) - 30 / step
        rows.add(
            number, step, state, arm=arm, seconds=2.0, val_accuracy=value, **cells.row(k),
            **(more or {}),
        )  # fmt: skip
        if stop:
            return


def zero_shot(trials: int = 120, finals: int = 3, seed: int = 0) -> pa.Table:
    """Cells scored and not trained, then the best by naswot trained over two seeds."""
    rows, cells = Rows(), Cells(trials, np.random.default_rng(seed))
    for k in range(trials):
        rows.add(k, 1, "COMPLETE", seconds=0.3, **cells.row(k), **cells.scored(k))
    for place, k in enumerate(np.argsort(-cells.scores["naswot"])[:finals]):
        for s in range(2):
            number, test = trials + 2 * place + s, float(cells.quality[k]) + 0.3 * s
            rows.add(
                number, 9, "COMPLETE", stage="final", seed=s, seconds=9.0, test_accuracy=test,
                **cells.row(int(k)),
            )  # fmt: skip
    return rows.table()


def _as_table(c: dict[str, Any]) -> pa.Table:
    n = len(c["trial"])
    schema = schema_for(METRICS)
    plain = {
        "run": "cells-20261123T101500-1f2e3d", "experiment": "0123456789ab", "device": "cpu",
        "git": "abf1e1c", "versions": "python 3.11.2, raynas 0.1.0, torch 2.13.0",
    }  # fmt: skip
    columns: dict[str, Any] = {k: pa.array([v] * n) for k, v in plain.items()}
    val = c["val_accuracy"]
    derived = {"val_loss": 2.3 - val / 45, "train_accuracy": val + 2, "train_loss": 2.2 - val / 45}
    metrics = {**derived, "val_accuracy": val, "test_accuracy": c["test_accuracy"]}
    for name, values in metrics.items():
        columns[name] = pa.array(values, mask=~np.isfinite(values))
    columns |= {k: pa.array(c[k], type=pa.string()) for k in ("stage", "arm", "state", "message")}
    columns |= {k: pa.array(c[k], type=pa.string()) for k in ("arch", "arch_id")}
    columns["proposal"] = columns["arch"]
    columns["step"] = pa.array(c["step"], mask=c["step"] == 0)
    columns["layers"] = pa.nulls(n, pa.int64())
    columns["macs"] = pa.array(c["params"] * 57 + 12_000)
    columns["time"] = pa.array((START + c["time"] * 1e6).astype(np.int64))
    columns["host"] = pa.array(np.where(c["trial"] % 2 == 0, "node-a", "node-b").astype(object))
    columns["weights"] = pa.nulls(n, pa.string())
    for name, values in (("session", np.ones(n)), ("attempt", np.zeros(n))):
        columns[name] = pa.array(values)
    for name in ("trial", "seed", "params", "seconds"):
        columns[name] = pa.array(c[name])
    return pa.table([columns[f.name].cast(f.type) for f in schema], schema=schema)
