"""Small parts for tests: a space, a data set, and evaluators whose truth is known."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from raynas.core import Architecture, Choice, Costs, Job, Measurement, Metric
from raynas.core.metrics import VAL_ACCURACY
from raynas.data.base import Dataset, DataView, Images
from raynas.evaluators.base import Evaluator
from raynas.spaces.base import SearchSpace

TEST_ACCURACY = Metric("test_accuracy", "%", "max")


@dataclass(frozen=True)
class ToySpace(SearchSpace):
    """6 * 6 * 3 architectures; ``op`` a and b are isomorphic when ``merge``."""

    name: ClassVar[str] = "toy"
    merge: bool = False
    depth: int = 6

    @property
    def choices(self) -> tuple[Choice, ...]:
        return (
            Choice("x", tuple(range(self.depth)), ordered=True),
            Choice("y", tuple(range(6)), ordered=True),
            Choice("op", ("a", "b", "c")),
        )

    def canonical(self, arch: Architecture) -> Architecture:
        if self.merge and arch["op"] == "b":
            return self.architecture({**arch, "op": "a"})
        return arch

    def costs(
        self,
        arch: Architecture,
        input_shape: tuple[int, int, int] = (3, 32, 32),
        num_classes: int = 10,
    ) -> Costs:
        size = 10 * (int(arch["x"]) + 1) * (int(arch["y"]) + 1)
        return Costs(size, 7 * size)

    def build(
        self,
        arch: Architecture,
        input_shape: tuple[int, int, int] = (3, 32, 32),
        num_classes: int = 10,
    ) -> Any:
        from torch import nn

        return nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(input_shape)), num_classes))


def noise(text: str) -> float:
    """In [0, 1), from the text alone."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big") / 2**32


def quality(arch: Mapping[str, Any]) -> float:
    """The final accuracy of a toy architecture, percent; (3, 4, c) is best."""
    x, y, op = float(arch["x"]), float(arch["y"]), str(arch["op"])
    return 90 - (x - 3) ** 2 - (y - 4) ** 2 + {"a": 0.0, "b": 1.0, "c": 3.0}[op]


@dataclass
class Curves(Evaluator):
    """A learning curve per architecture; a pure function of architecture, seed and step.

    ``fault``: architecture text -> ``"nan"``, ``"crash"``, ``"memory"``, ``"tight"`` (too
    little memory in the first try), ``"kill"`` (its process, before step 2, once), ``"short"``,
    ``"disk"`` (full). ``log``: a file that gets a line per step
    really evaluated.
    """

    name: ClassVar[str] = "curves"
    max_step: int = 4
    seconds: float = 0.0
    fault: Mapping[str, str] = field(default_factory=dict)
    log: str = field(default="", metadata={"fingerprint": False})
    final: bool = False
    _view: DataView | None = field(default=None, init=False, repr=False)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (VAL_ACCURACY,)

    @property
    def final_metrics(self) -> tuple[Metric, ...]:
        return (TEST_ACCURACY,)

    def setup(self, space: SearchSpace, view: DataView) -> None:
        self._view = view

    def evaluate(self, arch: Architecture, job: Job) -> Iterator[Measurement]:
        assert self._view is not None
        metric = f"{self._view.held_out_name}_accuracy"
        fault = self.fault.get(arch.text, "")
        kept = self._kept(job)
        untold = range(kept + 1 if job.stored is None else job.stored + 1, kept + 1)
        # what was kept before it was handed over may be known to nobody, either
        for step in untold or ([kept] if kept in job.pauses else []):
            yield Measurement(step, {metric: self._value(arch, job, step)}, seconds=1.0)
        for step in range(kept + 1, job.max_step + 1):
            if self.seconds:
                time.sleep(self.seconds)
            if fault == "crash" and step == 2:
                raise RuntimeError("a toy\ncrash")
            if step == 2 and (fault == "memory" or (fault == "tight" and not job.more_memory)):
                raise MemoryError("toy")
            if fault == "kill" and step == 2:
                self._kill_once(arch)
            if fault == "disk" and step == 2:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if fault == "short" and step == 2:
                return
            value = self._value(arch, job, step)
            if fault == "nan" and step == 2:
                value = float("nan")
            self._note(f"{arch.text} {step} {os.getpid()}")
            if step in job.pauses:
                self._keep(job, step)
            yield Measurement(step, {metric: value}, seconds=1.0)
            self._keep(job, step)

    @staticmethod
    def _value(arch: Architecture, job: Job, step: int) -> float:
        return quality(arch) * (1 - 0.5**step) + noise(f"{arch.text}{job.seed}{step}")

    def _kept(self, job: Job) -> int:
        """The step of the checkpoint, or 0."""
        file = job.workdir / "step" if job.workdir else None
        return int(file.read_text()) if file is not None and file.exists() else 0

    def _keep(self, job: Job, step: int) -> None:
        if job.workdir is not None:
            job.workdir.mkdir(parents=True, exist_ok=True)
            new = job.workdir / "step.new"
            new.write_text(str(step))
            new.replace(job.workdir / "step")  # killed at any moment, it leaves a whole one

    def _note(self, line: str) -> None:
        if self.log:
            with Path(self.log).open("a") as file:
                file.write(line + "\n")

    def _kill_once(self, arch: Architecture) -> None:
        mark = Path(f"{self.log}.killed-{arch.id}")
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass
class Quick(Curves):
    """In batches; ``fault`` may also be ``"deadly"``: it kills its process whenever it is tried."""

    name: ClassVar[str] = "quick"
    lightweight: ClassVar[bool] = True

    def evaluate(self, arch: Architecture, job: Job) -> Iterator[Measurement]:
        if self.fault.get(arch.text) == "deadly":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fault.get(arch.text) == "kill":
            self._kill_once(arch)
        return super().evaluate(arch, job)


@dataclass
class Serial(Quick):
    """Pretends to take times."""

    name: ClassVar[str] = "serial"
    exclusive: ClassVar[bool] = True


@dataclass(frozen=True)
class ToyData(Dataset):
    """Eight gray images of 4 x 4 pixels a split, two classes."""

    name: ClassVar[str] = "toy"

    def _images(self) -> Images:
        return Images(np.zeros((8, 4, 4, 1), np.uint8), np.arange(8, dtype=np.int64) % 2)

    def search_view(self, seed: int) -> DataView:
        return DataView(self._images(), self._images(), "val", 2, (0.0,), (255.0,))

    def final_view(self, seed: int) -> DataView:
        return DataView(self._images(), self._images(), "test", 2, (0.0,), (255.0,))
