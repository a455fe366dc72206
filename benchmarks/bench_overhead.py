"""What does a training trial cost beyond its training? raynas beside plain Ray Tune.

The trials train nothing: each reports three epochs at once, so all that is timed is overhead.
Every side has the same choices (six edges of five operations), TPE, ASHA (rung after epochs 1
and 3), one CPU a trial and two trials at a time:

* plain Tune: a function trainable, `OptunaSearch`, `ASHAScheduler`, as their documentation shows;
* plain Tune, tuned: a class trainable with `reuse_actors=True` and no checkpoint at the end (to
  which Tune forces classes, also those that save nothing), otherwise the same;
* raynas: Ray Tune runner, duplicates known, bounds checked, every epoch on the disk.

Overhead per trial = (time of the search - training time / trials at a time) / trials. The start
of Ray is timed apart. Each measurement has a process and a Ray of its own; sides take turns.
Workers have normal priority on every side: Ray's default (niceness 15), which raynas changes,
would slow plain Tune alone when the machine is busy.
Expected: raynas needs at most a quarter of plain Tune's.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

EPOCHS, CONCURRENT = 3, 2
OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
EDGES = tuple(f"edge{k}" for k in range(6))


@dataclass(frozen=True)
class Task:
    """``trials`` to evaluate; ``seconds``: of pretended training per epoch."""

    trials: int
    seconds: float
    seed: int


@dataclass(frozen=True)
class Timing:
    """``start``: of Ray; ``search``: of all trials (s); ``trials``, ``epochs`` carried out."""

    start: float
    search: float
    trials: int
    epochs: int

    def overhead(self, task: Task) -> float:
        """Seconds a trial."""
        ideal = self.epochs * task.seconds / CONCURRENT
        return (self.search - ideal) / self.trials


def accuracy(operations: tuple[str, ...], epoch: int) -> float:
    """A made-up learning curve, in percent, that tells architectures apart."""
    return 90 + sum(OPERATIONS.index(o) for o in operations) / 4 - 9 / epoch


# -- the three sides ---------------------------------------------------------------------------


def plain(task: Task, folder: Path, *, reuse: bool = False) -> Timing:
    import ray
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    def train(config: dict[str, str]) -> None:
        for epoch in range(1, EPOCHS + 1):
            time.sleep(task.seconds)
            tune.report({"val_accuracy": accuracy(tuple(config[e] for e in EDGES), epoch)})

    class Train(tune.Trainable):
        def setup(self, config: dict[str, str]) -> None:
            self.operations, self.epoch = tuple(config[e] for e in EDGES), 0

        def reset_config(self, new_config: dict[str, str]) -> bool:
            self.setup(new_config)
            return True

        def step(self) -> dict[str, float]:
            time.sleep(task.seconds)
            self.epoch += 1
            return {"val_accuracy": accuracy(self.operations, self.epoch)}

    began = time.monotonic()
    ray.init("local", num_cpus=CONCURRENT)  # never a cluster that is there already
    started = time.monotonic()
    results = tune.Tuner(
        tune.with_resources(Train if reuse else train, {"cpu": 1}),
        param_space={edge: tune.choice(OPERATIONS) for edge in EDGES},
        tune_config=tune.TuneConfig(
            metric="val_accuracy",
            mode="max",
            search_alg=OptunaSearch(seed=task.seed),
            scheduler=ASHAScheduler(max_t=EPOCHS, grace_period=1, reduction_factor=3),
            num_samples=task.trials,
            max_concurrent_trials=CONCURRENT,
            reuse_actors=reuse,
        ),
        run_config=tune.RunConfig(
            storage_path=str(folder),
            name="plain",
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False if reuse else None),
        ),
    ).fit()
    ended = time.monotonic()
    if results.num_errors:
        raise SystemExit(f"{results.num_errors} trials failed: {results.errors[0]}")
    epochs = int(results.get_dataframe()["training_iteration"].sum())
    return Timing(started - began, ended - started, len(results), epochs)


def reused(task: Task, folder: Path) -> Timing:
    return plain(task, folder, reuse=True)


def raynas(task: Task, folder: Path) -> Timing:
    from raynas.core import Architecture, Objective
    from raynas.data import Digits
    from raynas.evaluators import FunctionEvaluator
    from raynas.runners.base import Resources
    from raynas.runners.ray.tune import TuneRunner  # before Ray: it sets Ray's variables
    from raynas.samplers import TPE, Random
    from raynas.schedulers import ASHA
    from raynas.search.builder import SearchSetup, build_search
    from raynas.search.checkpoints import CheckpointFolders
    from raynas.search.context import EvaluationContext, SearchLimits
    from raynas.spaces import NASBench201
    from raynas.store import Provenance, RunFolder, RunInfo, Writer

    def train(arch: Architecture) -> Iterator[float]:
        for epoch in range(1, EPOCHS + 1):
            time.sleep(task.seconds)
            yield accuracy(tuple(map(str, arch.options)), epoch)

    import ray  # isort: skip

    evaluator = FunctionEvaluator(train, max_step=EPOCHS)
    info = RunInfo("bench", "bench", "none", {}, __file__, {}, evaluator.metrics)
    run = RunFolder.create(folder / "run", info, "")
    payload = EvaluationContext(NASBench201(), evaluator, Digits().search_view(0))
    began = time.monotonic()
    ray.init(
        "local", num_cpus=CONCURRENT, log_to_driver=False, logging_level=logging.ERROR,
        include_dashboard=False,
    )  # fmt: skip
    started = time.monotonic()
    with Writer(run, 1, Provenance.collect()) as rows:
        setup = SearchSetup(
            payload, rows, stage="search", arm="tpe", objectives=(Objective(),), seed=task.seed,
            folders=CheckpointFolders(run.checkpoints),
        )  # fmt: skip
        search = build_search(
            setup, sampler=TPE(), fallback=Random(), scheduler=ASHA(),
            limits=SearchLimits(trials=task.trials), run="bench",
        )  # fmt: skip
        TuneRunner(Resources(cpus=1), scratch=folder / "tune").run(search)
    ended = time.monotonic()
    ray.shutdown()
    epochs = sum(len(trial.measurements) for trial in search.trials.values())
    failed = [t.message for t in search.trials.values() if t.state == "FAILED"]
    if failed:
        raise SystemExit(f"{len(failed)} trials failed: {failed[0]}")
    return Timing(started - began, ended - started, len(search.trials), epochs)


SIDES: dict[str, tuple[str, Callable[[Task, Path], Timing]]] = {
    "plain": ("plain Tune: function trainable", plain),
    "reused": ("plain Tune, tuned: class trainable, reused actors", reused),
    "raynas": ("raynas", raynas),
}


# -- taking turns ------------------------------------------------------------------------------


def measure(side: str, task: Task) -> Timing:
    """One side in a process of its own, with folders of its own."""
    with tempfile.TemporaryDirectory(prefix="raynas-bench-") as folder:
        answer = Path(folder) / "timing.json"
        command = [sys.executable, __file__, "--side", side, "--folder", folder]
        for name, value in asdict(task).items():
            command += [f"--{name}", str(value)]
        done = subprocess.run(
            command, capture_output=True, text=True, env=os.environ | {"RAY_worker_niceness": "0"}
        )
        if done.returncode or not answer.exists():
            raise SystemExit(f"{side} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
        return Timing(**json.loads(answer.read_text()))


def table(found: dict[str, list[Timing]], task: Task) -> str:
    """Medians over the repeats, and the range of the overheads."""
    reference = statistics.median(t.overhead(task) for t in found["plain"])
    lines = [
        "| side | overhead, s a trial (range) | of plain Tune | search, s | epochs | start, s |",
        "|---|---|---|---|---|---|",
    ]
    for side, (title, _) in SIDES.items():
        over = [t.overhead(task) for t in found[side]]
        middle = statistics.median(over)

        def median(name: str, timings: list[Timing] = found[side]) -> float:
            return statistics.median(float(getattr(t, name)) for t in timings)

        lines.append(
            f"| {title} | {middle:.3f} ({min(over):.3f}-{max(over):.3f}) "
            f"| {middle / reference:.3f} | {median('search'):.1f} | {median('epochs'):.0f} "
            f"| {median('start'):.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=40, help="per measurement")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.0, help="of sleep per epoch")
    parser.add_argument("--smoke", action="store_true", help="4 trials, once: does it run?")
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given: Any = parser.parse_args()
    trials, repeats = (4, 1) if given.smoke else (given.trials, given.repeats)
    task = Task(trials, given.seconds, given.seed)
    if given.side:
        timing = SIDES[given.side][1](task, given.folder)
        (given.folder / "timing.json").write_text(json.dumps(asdict(timing)))
        return
    print(
        f"{trials} trials of {EPOCHS} epochs, {CONCURRENT} at a time, {given.seconds:g} s an "
        f"epoch, median of {repeats}; Python {platform.python_version()}, {platform.machine()}\n"
    )
    found: dict[str, list[Timing]] = {side: [] for side in SIDES}
    for repeat in range(repeats):
        for side in SIDES:
            timing = measure(side, Task(trials, given.seconds, repeat))
            found[side].append(timing)
            print(f"{side} {repeat + 1}/{repeats}: {timing.search:.1f} s", file=sys.stderr)
    print(table(found, task))


if __name__ == "__main__":
    main()
