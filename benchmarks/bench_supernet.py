"""How many subnets of a supernet are evaluated a second? Beside the loop that anyone would write.

The loop takes one architecture after the other: extract the plain network, recalibrate batch norm
on 2,000 training images, look at all held-out images; once in a process, once as a Ray Tune trial
each. Against it: the same numbers for a crowd at once (what architectures share is computed once,
batch norms are folded), a race among all of them, races of 32 as a search sees them, and a server
with one and two replicas. Real images (Fashion-MNIST), a supernet trained on them for minutes or
given by ``--weights``; random architectures. Times are CPU time, so that a neighbour's work counts
little, except where Ray is in them. Bars: a race gives ten times as many a second as the loop, with
the best ten of 200 found; two replicas nearly twice as many as one.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from scipy.stats import kendalltau

from raynas.core import Architecture, Job, Measurement, Metric, rng_for
from raynas.core.metrics import VAL_ACCURACY
from raynas.data import Dataset, FashionMNIST, available
from raynas.data.base import DataView
from raynas.data.imageset import take
from raynas.evaluators import Evaluator, Inherited, TrainSupernet
from raynas.evaluators.train_supernet import new_supernet
from raynas.spaces import ElasticResNet
from raynas.spaces.base import SearchSpace
from raynas.supernet.calibration import recalibrate
from raynas.supernet.evaluation.measurements import Looks, SubnetMeasurement
from raynas.supernet.evaluation.race import Race
from raynas.supernet.evaluation.racer import SubnetRacer
from raynas.supernet.evaluation.subnets import SubnetBatch, SubnetEvaluator
from raynas.supernet.rules import Sandwich
from raynas.supernet.weights import load_weights
from raynas.training import Recipe
from raynas.training.augment import on_device
from raynas.training.loop import measure

T = TypeVar("T")
SPACE = ElasticResNet(
    widths=((8, 12, 16), (16, 24, 32), (32, 48, 64)), strides=(2, 2, 2), stem_width=8
)
TRAINING = TrainSupernet(
    Recipe(epochs=6, batch_size=128, lr=0.1, crop_pad=2, grad_clip=5.0, warmup_epochs=1),
    rule=Sandwich(random=2, distil=True),
    look_images=500,
    look_calibration=256,
)
#: the loop's own way with memory: what torch does when nobody says anything
PLAIN = Recipe(channels_last=False)


def seconds(work: Callable[[], T]) -> tuple[T, float]:
    """What ``work`` gives, and the CPU time of this process."""
    began = time.process_time()
    found = work()
    return found, time.process_time() - began


# -- the loop ----------------------------------------------------------------------------------


@dataclass
class Loop(Evaluator):
    """One architecture: extract, recalibrate, look at all images. Not ``quick``: a trial each."""

    name: ClassVar[str] = "loop"
    weights: Path
    looks: Looks = field(default_factory=Looks)
    _set: Any = field(default=None, init=False, repr=False, compare=False)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (VAL_ACCURACY,)

    @property
    def max_step(self) -> int:
        return 1

    def setup(self, space: SearchSpace, view: DataView) -> None:
        supernet = new_supernet(space, view, seed=0)
        load_weights(self.weights, supernet)
        data = on_device(self.looks.of(view), torch.device("cpu"))
        self._set = supernet.eval(), data

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_set": None}

    def evaluate(self, arch: Architecture, job: Job) -> Iterator[Measurement]:
        began = time.process_time()
        torch.set_num_threads(1)
        supernet, data = self._set
        network = supernet.extract(arch)
        pixels = torch.split(data.train.pixels, 128)
        recalibrate(network, (data.normalise(p).permute(0, 3, 1, 2).contiguous() for p in pixels))
        found = measure(network, data.held_out, data, PLAIN)
        yield Measurement(1, {"val_accuracy": found["accuracy"]}, time.process_time() - began)

    def accuracies(self, archs: Sequence[Architecture]) -> list[float]:
        rows = [next(iter(self.evaluate(arch, Job(0, 0, 1)))) for arch in archs]
        return [row.values["val_accuracy"] for row in rows]


# -- measuring ---------------------------------------------------------------------------------


def trained(folder: Path, view: DataView, smoke: bool) -> Path:
    """A supernet that ranks: trained for a while on a part of the images."""
    training = replace(TRAINING, recipe=replace(TRAINING.recipe, epochs=2)) if smoke else TRAINING
    count = 512 if smoke else 12_000
    training.setup(SPACE, replace(view, train=take(view.train, np.arange(count))))
    job = Job(0, seed=0, max_step=training.max_step, workdir=folder)
    for row in training.evaluate(SPACE.extremes()[1], job):
        print(f"epoch {row.step}: " + ", ".join(f"{k} {v:.1f}" for k, v in row.values.items()))
    return folder / "weights"


def random_archs(count: int) -> list[Architecture]:
    rng, found = rng_for(0, "bench_supernet"), {}
    while len(found) < count:
        arch = SPACE.sample_canonical(rng)
        found[arch.id] = arch
    return list(found.values())


@dataclass
class Bench:
    weights: Path
    view: DataView
    looks: Looks
    archs: list[Architecture]
    loops: list[Architecture]  # those that the loop measures, too
    keep: int

    def subnets(self) -> SubnetEvaluator:
        supernet = new_supernet(SPACE, self.view, seed=0)
        load_weights(self.weights, supernet)
        return SubnetEvaluator(supernet, self.looks.of(self.view))

    def loop(self) -> float:
        """CPU seconds an architecture."""
        loop = Loop(self.weights, self.looks)
        loop.setup(SPACE, self.view)
        loop.accuracies(self.loops[:1])
        found, took = seconds(lambda: loop.accuracies(self.loops))
        exact, took_exact = seconds(lambda: self.subnets().measure(self.loops))
        apart = max(abs(a - b.accuracy) for a, b in zip(found, exact, strict=True))
        print(f"\nThe loop and a crowd on {len(self.loops)} architectures: accuracies differ by at "
              f"most {apart:.3f} %; {took / took_exact:.1f} times as fast\n")  # fmt: skip
        return took / len(self.loops)

    def table(self, loop: float) -> None:
        """Every way through all architectures, against the loop's time and the exact ranking."""
        exact, took = seconds(lambda: self.subnets().measure(self.archs))
        race = Race(keep=self.keep)
        ways: list[tuple[str, Callable[[], list[SubnetMeasurement]]]] = [
            ("race of all", lambda: SubnetRacer(self.subnets()).run(self.archs, race)),
            ("races of 32", lambda: self.races(replace(race, keep=min(self.keep, 10)), 32)),
        ]
        print("| way | CPU s an architecture | a second | subnets an hour | times the loop | best "
              "10 found | tau | exact |\n|---|---|---|---|---|---|---|---|")  # fmt: skip
        self.row("the loop", loop, loop, exact, exact)
        self.row("exactly, 64 together", took / len(exact), loop, exact, exact)
        for name, way in ways:
            found, took = seconds(way)
            self.row(name, took / len(exact), loop, exact, found)

    def races(self, race: Race, size: int) -> list[SubnetMeasurement]:
        """Crowd after crowd, as a search evaluates them."""
        races, found = SubnetRacer(self.subnets()), []
        for start in range(0, len(self.archs), size):
            found += races.run(self.archs[start : start + size], race)
        return found

    def row(
        self,
        name: str,
        each: float,
        loop: float,
        exact: list[SubnetMeasurement],
        found: list[SubnetMeasurement],
    ) -> None:
        truth, values = ([f.accuracy for f in some] for some in (exact, found))
        best, chosen = (set(np.argsort(-np.array(v), kind="stable")[:10]) for v in (truth, values))
        tau = float(kendalltau(truth, values).statistic)
        whole = sum(not f.note for f in found)
        print(f"| {name} | {each:.3f} | {1 / each:.2f} | {3600 / each:.0f} | {loop / each:.1f} "
              f"| {len(best & chosen)} | {tau:.3f} | {whole} |", flush=True)  # fmt: skip

    def parts(self) -> None:
        """What each idea gives: exactly the same images, one thing after the other."""
        some = self.archs[: 8 * len(self.archs) // 10][:64]
        subnets = self.subnets()
        programs, recording = seconds(lambda: [subnets.program(arch) for arch in some])
        count = min(512, subnets.counts[1])

        def crowds(size: int, dtype: torch.dtype) -> None:
            for start in range(0, len(some), size):
                crowd = SubnetBatch(subnets, programs[start : start + size], dtype)  # type: ignore[arg-type]
                crowd.calibrate(count)
                crowd.answers(slice(count))

        print(f"\n{count} images for calibration, {count} to look at, {len(some)} architectures\n")
        print("| way | CPU ms an architecture |\n|---|---|")
        one = 1000 / len(some)
        loop = Loop(self.weights, replace(self.looks, calibration=count, images=count))
        loop.setup(SPACE, self.view)
        print(f"| the loop | {one * seconds(lambda: loop.accuracies(some))[1]:.0f} |")
        print(f"| recording what a network computes | {one * recording:.0f} |")
        for name, size, dtype in (
            ("folded, channels last, one by one", 1, torch.float32),
            ("16 together", 16, torch.float32),
            ("64 together", 64, torch.float32),
            ("64 together, bfloat16", 64, torch.bfloat16),
        ):
            print(f"| {name} | {one * seconds(lambda s=size, d=dtype: crowds(s, d))[1]:.0f} |")  # type: ignore[misc]

    def served(self, replicas: int) -> float:
        """Architectures a second by the clock, exact, on so many cores."""
        from raynas.runners.base import Resources
        from raynas.runners.ray.server import SupernetServer
        from raynas.search.context import EvaluationContext

        evaluator = Inherited(
            weights=self.weights, calibration=self.looks.calibration, images=self.looks.images
        )
        resources = Resources(cpus=1.0, concurrent=replicas)
        with SupernetServer(EvaluationContext(SPACE, evaluator, self.view), resources) as server:
            while len(server.health().processes) < replicas:
                time.sleep(0.1)
            began = time.monotonic()
            server.evaluate(self.loops)
            return len(self.loops) / (time.monotonic() - began)

    def tuned(self) -> float:
        """Architectures a second by the clock: the loop, one Ray Tune trial each, on one core."""
        from raynas.core import Objective
        from raynas.runners.base import Resources
        from raynas.runners.ray.tune import TuneRunner
        from raynas.search.builder import SearchSetup, build_retraining
        from raynas.search.context import EvaluationContext

        class Rows(list[Any]):
            def append(self, rows: Any) -> None:
                self.extend(rows)

        rows = Rows()
        with tempfile.TemporaryDirectory() as folder:
            runner = TuneRunner(Resources(cpus=1.0, concurrent=1), scratch=Path(folder))
            setup = SearchSetup(
                EvaluationContext(SPACE, Loop(self.weights, self.looks), self.view),
                rows,
                stage="bench",
                arm="loop",
                objectives=(Objective("val_accuracy", "max"),),
                seed=0,
            )
            work = build_retraining(setup, self.loops, seeds=1)
            began = time.monotonic()
            runner.run(work)
            took = time.monotonic() - began
            runner.close()
        assert len(rows) == len(self.loops)
        return len(rows) / took


def with_ray(bench: Bench) -> None:
    import ray

    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    ray.init(address="local", num_cpus=2, include_dashboard=False, **quiet)
    print("\nBy the clock, with Ray; load of the machine "
          f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n")  # fmt: skip
    print("| way | architectures a second |\n|---|---|")
    print(f"| the loop, a Ray Tune trial each, one core | {bench.tuned():.2f} |", flush=True)
    rates: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(2):
        for replicas, found in rates.items():
            found.append(bench.served(replicas))
    for replicas, found in rates.items():
        print(f"| server, {replicas} replica(s) | {', '.join(f'{r:.2f}' for r in found)} |")
    print(f"| two replicas against one | {sum(rates[2]) / sum(rates[1]):.2f} |", flush=True)
    ray.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--weights", type=Path, help="of this space's supernet; else it is trained")
    parser.add_argument("--archs", type=int, default=200)
    parser.add_argument("--loops", type=int, default=40, help="architectures that the loop takes")
    parser.add_argument("--images", type=int, default=10_000, help="held-out images")
    parser.add_argument("--keep", type=int, default=14, help="measured exactly after a race")
    parser.add_argument("--parts", choices=("loop", "parts", "ray"), nargs="*",
                        default=["loop", "parts", "ray"])  # fmt: skip
    parser.add_argument("--smoke", action="store_true", help="few and small: does it run?")
    given = parser.parse_args()
    looks = Looks(2000, given.images)
    if given.smoke:
        given.archs, given.loops, given.keep, looks = 24, 4, 10, Looks(256, 600)
    torch.set_num_threads(1)
    data: Dataset = FashionMNIST(valid_share=1 / 6)
    if given.smoke:
        data = available(data)
        print(*data.remarks(), sep="\n")
    view = data.search_view(0)
    archs = random_archs(given.archs)
    print(
        f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, one thread; "
        f"{looks.calibration} calibration and {looks.images} held-out images",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        weights = given.weights or trained(Path(folder), view, given.smoke)
        loops = archs[:: max(1, len(archs) // given.loops)][: given.loops]
        bench = Bench(weights, view, looks, archs, loops, given.keep)
        if "loop" in given.parts:
            bench.table(bench.loop())
        if "parts" in given.parts:
            bench.parts()
        if "ray" in given.parts:
            with_ray(bench)


if __name__ == "__main__":
    main()
