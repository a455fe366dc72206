"""Searches and experiment files on toys, and faults that only a worker process can have."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from searches import Recorded, make_search
from toys import Curves, ToyData, ToySpace

from raynas.core import (
    Architecture,
    Job,
    Measurement,
    Objective,
    SearchProblem,
    SpaceExhausted,
    Trial,
)
from raynas.data.base import DataView, Images
from raynas.evaluators.base import Evaluator
from raynas.evaluators.retrain import Retrain
from raynas.samplers.base import Sampler
from raynas.samplers.random import Random
from raynas.schedulers.none import NoStopping
from raynas.search.context import EvaluationContext, SearchLimits
from raynas.spaces.base import SearchSpace

#: what two runs of one search must have in common, and what they may differ in (time, host, ...)
SAME = ("arch", "seed", "step", "state", "message")


class Table(list[dict[str, Any]]):
    """Rows in memory."""

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:  # type: ignore[override]
        self.extend(dict(row) for row in rows)

    def of(self, arch: str) -> list[dict[str, Any]]:
        return [row for row in self if row["arch"] == arch]


def content(rows: Iterable[Mapping[str, Any]], metric: str = "val_accuracy") -> list[Any]:
    """The rows without time, place and the order in which they came."""
    found = [tuple(row[c] for c in (*SAME, metric)) for row in rows]
    return sorted(found, key=repr)


@dataclass
class Script(Sampler):
    """Proposes what it was given, then nothing; remembers its calls."""

    name: ClassVar[str] = "script"
    texts: Sequence[str] = ()
    calls: list[tuple[str, int]] = field(default_factory=list)
    told: dict[int, Trial] = field(default_factory=dict)

    def setup(self, space: SearchSpace, problem: SearchProblem) -> None:
        self._space, self._left = space, list(self.texts)

    def ask(self, number: int) -> Architecture:
        if not self._left:
            raise SpaceExhausted("the script is over")
        self.calls.append(("ask", number))
        return self._space.architecture(self._left.pop(0))

    def tell(self, trial: Trial) -> None:
        assert trial.number not in self.told, "told twice"
        self.calls.append(("tell", trial.number))
        self.told[trial.number] = trial

    def replay(self, trials: Iterable[Trial]) -> None: ...


def search(
    sampler: Sampler,
    evaluator: Evaluator,
    rows: Table,
    *,
    trials: int | None = None,
    view: DataView | None = None,
    **more: Any,
) -> Recorded:
    payload = EvaluationContext(
        more.pop("space", None) or ToySpace(), evaluator, view or ToyData().search_view(0)
    )
    settings: dict[str, Any] = {
        "sampler": sampler,
        "fallback": Random(),
        "scheduler": NoStopping(),
        "limits": SearchLimits(trials=trials),
        "run": "test",
        "stage": "search",
        "arm": sampler.name,
        "objectives": (Objective(),),
        "seed": 0,
        **more,
    }
    return Recorded(make_search(payload, rows, **settings))


def large_view() -> DataView:
    """Large enough (0.5 MB a split) not to travel inside a message."""
    images = Images(np.full((2000, 16, 16, 1), 7, np.uint8), np.arange(2000, dtype=np.int64) % 2)
    return DataView(images, images, "val", 2, (0.0,), (255.0,))


@dataclass
class Faulty(Curves):
    """Also dies before step 2 whenever it is tried (``deadly``), and notes what a worker sees."""

    name: ClassVar[str] = "faulty"
    deadly: tuple[str, ...] = ()

    def evaluate(self, arch: Architecture, job: Job) -> Iterator[Measurement]:
        assert self._view is not None
        pixels = self._view.train.pixels
        shared = not pixels.flags.writeable and not pixels.flags.owndata
        with Path(f"{self.log}.seen").open("a") as file:
            file.write(f"{Path.cwd()}|{Path('toy.txt').exists()}|{shared}|{pixels.sum()}\n")
        return super().evaluate(arch, job)

    def _kill_once(self, arch: Architecture) -> None:
        if arch.text in self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        super()._kill_once(arch)


@dataclass
class Meeting(Curves):
    """No trial goes on before ``guests`` processes are at work at once."""

    name: ClassVar[str] = "meeting"
    guests: int = 4

    def evaluate(self, arch: Architecture, job: Job) -> Iterator[Measurement]:
        folder = Path(f"{self.log}.guests")
        folder.mkdir(exist_ok=True)
        (folder / str(os.getpid())).touch()
        deadline = time.monotonic() + 90
        while len(list(folder.iterdir())) < self.guests:
            if time.monotonic() > deadline:
                raise RuntimeError("the others did not come")
            time.sleep(0.05)
        yield from super().evaluate(arch, job)


@dataclass
class Several(Curves):
    """Says that its evaluations are by several processes."""

    name: ClassVar[str] = "several"
    processes: int = 2


@dataclass
class NoWorker(Curves):
    """Cannot be set up but in the process ``home``."""

    name: ClassVar[str] = "no_worker"
    home: int = field(default_factory=os.getpid)

    def setup(self, space: SearchSpace, view: DataView) -> None:
        if os.getpid() != self.home:
            raise FileNotFoundError("toy.bin is not on this machine")
        super().setup(space, view)


@dataclass
class Mortal(Retrain):
    """Trains for real; its process is killed after epoch 2, once, if ``mark`` is a new file."""

    name: ClassVar[str] = "mortal"
    mark: str = ""

    def evaluate(self, arch: Architecture, job: Job) -> Iterator[Measurement]:
        for measurement in super().evaluate(arch, job):
            yield measurement
            if self.mark and measurement.step == 2 and not Path(self.mark).exists():
                Path(self.mark).touch()
                os.kill(os.getpid(), signal.SIGKILL)
