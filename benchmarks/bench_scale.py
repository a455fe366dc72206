"""What do 100,000 quick evaluations and 10,000 short trials cost the driver?

Nothing is trained: an evaluation is a formula, so all that is measured is the machinery, driven
through the real runners into the real store, random search in a space of 10^11 networks:

* quick: chunks through persistent actors, as proxies and tables go;
* trials: Ray Tune trials of three epochs with ASHA, as trainings go;
* plain: plain Ray Tune with a function trainable, random choices and ASHA, as its documentation
  shows; tuned: a class trainable with reused actors and without loggers. Both with fewer trials:
  what they cost a trial is told, not multiplied.
* busy: trials of ``--step`` seconds on eight workers with a quarter of a CPU each.

Growth of the driver's memory is the slope (least squares) of its resident set over trials from a
fifth of the search on: what is there before is Ray, Python and caches that fill once. Overhead is
the time between two trials' ends, from a fifth on, too, so that no start of workers is in it. Each
side has a process and a Ray of its own.

Expected: a few KB a trial against plain Tune's some hundred, and workers that are busy for 95 % of
their time or more.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

EPOCHS, CONCURRENT, BUSY_WORKERS = 3, 2, 8
WARM = 0.2
"""The share of the trials that is not counted."""


@dataclass(frozen=True)
class Sizes:
    """Trials of each side; ``step``: seconds of a trial of the busy side."""

    quick: int = 100_000
    trials: int = 10_000
    plain: int = 100
    tuned: int = 400
    busy: int = 80
    step: float = 10.0


@dataclass
class Progress:
    """After how many trials, how many bytes the driver had, and when (s)."""

    ended: list[int] = field(default_factory=list)
    resident: list[int] = field(default_factory=list)
    clock: list[float] = field(default_factory=list)

    def note(self, ended: int) -> None:
        gc.collect()
        self.ended.append(ended)
        self.resident.append(resident())
        self.clock.append(time.monotonic())

    def slope(self, values: Sequence[float]) -> float:
        """Per trial, from the ``WARM`` share on."""
        import numpy as np

        first = next(i for i, n in enumerate(self.ended) if n >= WARM * self.ended[-1])
        return float(np.polyfit(self.ended[first:], values[first:], 1)[0])


class Counted:
    """Rows on their way to the store; notes the driver's state every ``every`` trials."""

    def __init__(self, rows: Any, every: int) -> None:
        self._rows, self._every = rows, every
        self._ended = 0
        self.progress = Progress()

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._rows.append(rows)
        before = self._ended // self._every
        self._ended += sum(row["state"] != "RUNNING" for row in rows)
        if self._ended // self._every > before:
            self.progress.note(self._ended)


def resident() -> int:
    """Bytes of main memory that this process has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


# -- the sides ---------------------------------------------------------------------------------


def raynas(count: int, folder: Path, *, quick: bool) -> dict[str, float]:
    from raynas.core import Architecture, Objective
    from raynas.data import Digits
    from raynas.evaluators import FunctionEvaluator
    from raynas.reports import write_report
    from raynas.runners.base import Resources
    from raynas.runners.ray.runner import RayRunner  # before Ray: it sets Ray's variables
    from raynas.samplers import Random
    from raynas.schedulers import ASHA, NoStopping
    from raynas.search.builder import SearchSetup, build_search
    from raynas.search.checkpoints import CheckpointFolders
    from raynas.search.context import EvaluationContext, SearchLimits
    from raynas.spaces import ElasticResNet
    from raynas.store import Provenance, RunFolder, RunInfo, Writer, read, trials

    def score(arch: Architecture) -> float:
        return float(sum(map(hash, map(str, arch.options))) % 1000)

    def train(arch: Architecture) -> Iterator[float]:
        for epoch in range(1, EPOCHS + 1):
            yield accuracy(len(arch.text), epoch)

    class Quick(FunctionEvaluator):
        lightweight = True

    import ray  # isort: skip

    evaluator = Quick(score) if quick else FunctionEvaluator(train, max_step=EPOCHS)
    space, limits = ElasticResNet(), SearchLimits(trials=count)
    info = RunInfo("bench", "bench", "none", _description(), __file__, {}, evaluator.metrics)
    run = RunFolder.create(folder / "run", info, "")
    ray.init(
        "local", num_cpus=CONCURRENT, log_to_driver=False, logging_level=logging.ERROR,
        include_dashboard=False,
    )  # fmt: skip
    with Writer(run, 1, Provenance.collect()) as writer:
        rows = Counted(writer, max(count // 50, 1))
        setup = SearchSetup(
            EvaluationContext(space, evaluator, Digits().search_view(0)),
            rows,
            stage="search",
            arm="random",
            objectives=(Objective(),),
            seed=0,
            folders=CheckpointFolders(run.checkpoints),
        )
        search = build_search(
            setup, sampler=Random(), fallback=Random(), limits=limits, run="bench",
            scheduler=NoStopping() if quick else ASHA(),
        )  # fmt: skip
        began, processor = time.monotonic(), time.process_time()
        RayRunner(Resources(cpus=1), scratch=folder / "tune").run(search)
        took, processor = time.monotonic() - began, time.process_time() - processor
        closing = time.monotonic()
    closed = time.monotonic()
    ray.shutdown()
    failed = [t.message for t in search.trials.values() if t.state == "FAILED"]
    if failed:
        raise SystemExit(f"{len(failed)} trials failed: {failed[0]}")
    table = read(run)
    whole = time.monotonic()
    found = trials(table)
    parsed = time.monotonic()
    if len(found) != count:
        raise SystemExit(f"{len(found)} trials in the store, not {count}")
    write_report(run, space)
    written = time.monotonic()
    return {
        **_told(rows.progress, count, took, processor),
        "closing": closed - closing,
        "read": whole - closed,
        "as_trials": parsed - whole,
        "report": written - parsed,
        "store_mb": sum(p.stat().st_size for p in run.results.iterdir()) / 1e6,
    }


def _description() -> dict[str, Any]:
    """What a report asks for."""
    return {"objectives": [{"metric": "val_accuracy", "direction": "max"}]}


def plain(count: int, folder: Path, *, reuse: bool = False) -> dict[str, float]:
    import ray
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler

    progress = Progress()

    class Watch(tune.Callback):
        def on_trial_complete(
            self, iteration: int, trials: list[Any], trial: Any, **info: Any
        ) -> None:
            ended = sum(t.is_finished() for t in trials)
            if ended % max(count // 50, 1) == 0:
                progress.note(ended)

    def train(config: dict[str, int]) -> None:
        for epoch in range(1, EPOCHS + 1):
            tune.report({"val_accuracy": accuracy(sum(config.values()), epoch)})

    class Train(tune.Trainable):
        def setup(self, config: dict[str, int]) -> None:
            self.size, self.epoch = sum(config.values()), 0

        def reset_config(self, new_config: dict[str, int]) -> bool:
            self.setup(new_config)
            return True

        def step(self) -> dict[str, float]:
            self.epoch += 1
            return {"val_accuracy": accuracy(self.size, self.epoch)}

    if reuse:
        os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    ray.init("local", num_cpus=CONCURRENT, log_to_driver=False, logging_level=logging.ERROR)
    began, processor = time.monotonic(), time.process_time()
    results = tune.Tuner(
        tune.with_resources(Train if reuse else train, {"cpu": 1}),
        param_space={f"choice{k}": tune.choice(range(9)) for k in range(12)},
        tune_config=tune.TuneConfig(
            metric="val_accuracy",
            mode="max",
            scheduler=ASHAScheduler(max_t=EPOCHS, grace_period=1, reduction_factor=3),
            num_samples=count,
            max_concurrent_trials=CONCURRENT,
            reuse_actors=reuse,
        ),
        run_config=tune.RunConfig(
            storage_path=str(folder),
            name="plain",
            verbose=0,
            callbacks=[Watch()],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False if reuse else None),
        ),
    ).fit()
    took, processor = time.monotonic() - began, time.process_time() - processor
    if results.num_errors:
        raise SystemExit(f"{results.num_errors} trials failed: {results.errors[0]}")
    ray.shutdown()
    return _told(progress, count, took, processor)


def busy(count: int, folder: Path, step: float) -> dict[str, float]:
    """The share of their time that workers train, while there is a trial for each of them."""
    from raynas.core import Architecture, Objective
    from raynas.data import Digits
    from raynas.evaluators import FunctionEvaluator
    from raynas.runners.base import Resources
    from raynas.runners.ray.runner import RayRunner
    from raynas.samplers import TPE, Random
    from raynas.schedulers import NoStopping
    from raynas.search.builder import SearchSetup, build_search
    from raynas.search.checkpoints import CheckpointFolders
    from raynas.search.context import EvaluationContext, SearchLimits
    from raynas.spaces import ElasticResNet
    from raynas.store import Provenance, RunFolder, RunInfo, Writer

    log = folder / "log"
    log.mkdir()

    def train(arch: Architecture) -> float:
        began = time.time()
        time.sleep(step)
        (log / arch.id).write_text(f"{began} {time.time()} {os.getpid()}")
        return float(len(arch.text))

    import ray  # isort: skip

    evaluator = FunctionEvaluator(train)
    info = RunInfo("bench", "bench", "none", {}, __file__, {}, evaluator.metrics)
    run = RunFolder.create(folder / "run", info, "")
    ray.init(
        "local", num_cpus=2, log_to_driver=False, logging_level=logging.ERROR,
        include_dashboard=False,
    )  # fmt: skip
    began = time.time()
    with Writer(run, 1, Provenance.collect()) as rows:
        payload = EvaluationContext(ElasticResNet(), evaluator, Digits().search_view(0))
        setup = SearchSetup(
            payload, rows, stage="search", arm="tpe", objectives=(Objective(),), seed=0,
            folders=CheckpointFolders(run.checkpoints),
        )  # fmt: skip
        search = build_search(
            setup, sampler=TPE(), fallback=Random(), scheduler=NoStopping(),
            limits=SearchLimits(trials=count), run="bench",
        )  # fmt: skip
        resources = Resources(cpus=2 / BUSY_WORKERS)
        RayRunner(resources, scratch=folder / "tune").run(search)
    ended = time.time()
    ray.shutdown()
    spans = [file.read_text().split() for file in log.iterdir()]
    first = {worker: min(float(b) for b, _, w in spans if w == worker) for *_, worker in spans}
    stop = max(float(b) for b, _, _ in spans)
    worked = sum(max(0.0, min(float(e), stop) - float(b)) for b, e, _ in spans)
    ready = sum(stop - begin for begin in first.values())
    total = sum(float(e) - float(b) for b, e, _ in spans)
    return {
        "workers": float(len(first)),
        "trials": float(len(spans)),
        "busy": worked / ready,
        "busy_all": total / (len(first) * (ended - began)),
        "ready": ready,
        "start": max(first.values()) - began,
    }


def accuracy(size: float, epoch: int) -> float:
    """A made-up learning curve, in percent."""
    return 50 + size % 40 - 9 / epoch


def _told(progress: Progress, count: int, took: float, processor: float) -> dict[str, float]:
    return {
        "trials": float(count),
        "growth": progress.slope([float(b) for b in progress.resident]),
        "seconds": progress.slope(progress.clock),
        "search": took,
        "processor": processor / count,
        "resident": float(progress.resident[-1]),
    }


SIDES: dict[str, Callable[[Sizes, Path], dict[str, float]]] = {
    "quick": lambda sizes, folder: raynas(sizes.quick, folder, quick=True),
    "trials": lambda sizes, folder: raynas(sizes.trials, folder, quick=False),
    "plain": lambda sizes, folder: plain(sizes.plain, folder),
    "tuned": lambda sizes, folder: plain(sizes.tuned, folder, reuse=True),
    "busy": lambda sizes, folder: busy(sizes.busy, folder, sizes.step),
}


# -- one after the other -----------------------------------------------------------------------


def measure(side: str, sizes: Sizes) -> dict[str, float]:
    """In a process of its own, with folders of its own."""
    with tempfile.TemporaryDirectory(prefix="raynas-scale-") as folder:
        answer = Path(folder) / "found.json"
        command = [sys.executable, __file__, "--side", side, "--folder", folder]
        for name, value in asdict(sizes).items():
            command += [f"--{name}", str(value)]
        done = subprocess.run(
            command, capture_output=True, text=True, env=os.environ | {"RAY_worker_niceness": "0"}
        )
        if done.returncode or not answer.exists():
            raise SystemExit(f"{side} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
        found: dict[str, float] = json.loads(answer.read_text())
        return found


def table(found: Mapping[str, Mapping[str, float]]) -> str:
    lines = [
        "| side | trials | driver memory, KB a trial | s a trial | driver's processor, ms a trial "
        "| search, s | driver at the end, MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for side, f in found.items():
        if side != "busy":
            lines.append(
                f"| {side} | {f['trials']:.0f} | {f['growth'] / 1e3:.1f} | {f['seconds']:.4f} "
                f"| {1e3 * f['processor']:.2f} | {f['search']:.1f} | {f['resident'] / 1e6:.0f} |"
            )
    stored = {side: f for side, f in found.items() if "report" in f}
    if stored:
        lines += ["", "| side | trials | store, MB | last merge, s | read, s | as trials, s "
                  "| report, s |", "|---|---|---|---|---|---|---|"]  # fmt: skip
    for side, f in stored.items():
        lines.append(
            f"| {side} | {f['trials']:.0f} | {f['store_mb']:.1f} | {f['closing']:.2f} "
            f"| {f['read']:.2f} | {f['as_trials']:.2f} | {f['report']:.2f} |"
        )
    if f := found.get("busy", {}):
        lines.append(
            f"\n{f['workers']:.0f} workers, {f['trials']:.0f} trials: busy {f['busy']:.1%} of the "
            f"{f['ready']:.0f} s between the first trial of each and the last trial's start; "
            f"{f['busy_all']:.1%} of all, the {f['start']:.1f} s until the last worker was ready "
            "and the end, when some have nothing left, included"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, value in asdict(Sizes()).items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    parser.add_argument("--sides", default=",".join(SIDES), help="comma-separated; default all")
    parser.add_argument("--smoke", action="store_true", help="small: does it run?")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given: Any = parser.parse_args()
    sizes = Sizes(**{name: getattr(given, name) for name in asdict(Sizes())})
    if given.smoke:
        sizes = Sizes(quick=200, trials=10, plain=3, tuned=5, busy=16, step=0.1)
    if given.side:
        found = SIDES[given.side](sizes, given.folder)
        (given.folder / "found.json").write_text(json.dumps(found))
        return
    print(f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} CPUs\n")
    results = {}
    for side in given.sides.split(","):
        began = time.monotonic()
        results[side] = measure(side, sizes)
        print(f"{side}: {time.monotonic() - began:.1f} s {results[side]}", file=sys.stderr)
    print(table(results))


if __name__ == "__main__":
    main()
