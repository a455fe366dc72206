"""Searches and experiment files on toys, and faults that only a worker process can have."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
from searches import SAME as SAME
from searches import Recorded as Recorded
from searches import Table as Table
from searches import content as content
from searches import search as search
from toys import Curves
from toys import Script as Script

from raynas.core import (
    Architecture,
    Job,
    Measurement,
)
from raynas.data.base import DataView, Images
from raynas.evaluators.retrain import Retrain
from raynas.spaces.base import SearchSpace


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
