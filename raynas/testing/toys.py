"""Small parts for tests: a space, a data set, evaluators and a sampler whose results are known.

They import neither pytest nor torch, so that experiment files and workers can use them.

Example:
    >>> from raynas.core import Job
    >>> space, evaluator = ToySpace(), Curves(max_step=2)
    >>> evaluator.setup(space, ToyData().search_view(0))
    >>> job = Job(trial=0, seed=0, max_step=2)
    >>> [m.step for m in evaluator.evaluate(space.architecture("x=3,y=4,op=c"), job)]
    [1, 2]
"""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from raynas.core import (
    Architecture,
    Choice,
    Costs,
    Job,
    Measurement,
    Metric,
    SearchProblem,
    SpaceExhausted,
    Trial,
)
from raynas.core.metrics import VAL_ACCURACY
from raynas.data.base import Dataset, DataView, Images
from raynas.evaluators.base import Evaluator
from raynas.samplers.base import Sampler
from raynas.spaces.base import SearchSpace

__all__ = [
    "TEST_ACCURACY", "Curves", "Quick", "Script", "Serial", "ToyData", "ToySpace", "noise",
    "quality",
]  # fmt: skip

TEST_ACCURACY = Metric("test_accuracy", "%", "max")


@dataclass(frozen=True)
class ToySpace(SearchSpace):
    """A space of depth * 6 * 3 architectures, with costs and a network for each.

    Attributes:
        merge: Whether the operations a and b are isomorphic.
        depth: The number of options of ``x``.
    """

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
    """Return a number in [0, 1) that depends on the text only."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big") / 2**32


def quality(arch: Mapping[str, Any]) -> float:
    """Return the final accuracy of a toy architecture in percent; x=3, y=4, op=c is the best."""
    x, y, op = float(arch["x"]), float(arch["y"]), str(arch["op"])
    return 90 - (x - 3) ** 2 - (y - 4) ** 2 + {"a": 0.0, "b": 1.0, "c": 3.0}[op]


@dataclass
class Curves(Evaluator):
    """An evaluator with a learning curve that depends on architecture, seed and step only.

    Attributes:
        max_step: The last step.
        seconds: Real seconds that a step takes; each measurement reports 1.0 whatever it is.
        fault: Architecture text -> what goes wrong at step 2: ``"nan"``, ``"crash"``, ``"memory"``,
            ``"tight"`` (too little memory in the first attempt), ``"kill"`` (the process, once),
            ``"short"`` (it ends by itself) or ``"disk"`` (the disk is full).
        log: A file that gets a line for each step that is really evaluated; empty for none.
        final: Not used.
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
    """Lightweight curves, evaluated in batches.

    A ``fault`` may also be ``"deadly"``: it kills the process in every attempt.
    """

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
    """Curves that are evaluated one at a time, as measured latencies are."""

    name: ClassVar[str] = "serial"
    exclusive: ClassVar[bool] = True


@dataclass(frozen=True)
class ToyData(Dataset):
    """A data set of eight black images of 4 x 4 pixels in each part, and two classes."""

    name: ClassVar[str] = "toy"

    def _images(self) -> Images:
        return Images(np.zeros((8, 4, 4, 1), np.uint8), np.arange(8, dtype=np.int64) % 2)

    def search_view(self, seed: int) -> DataView:
        return DataView(self._images(), self._images(), "val", 2, (0.0,), (255.0,))

    def final_view(self, seed: int) -> DataView:
        return DataView(self._images(), self._images(), "test", 2, (0.0,), (255.0,))


@dataclass
class Script(Sampler):
    """A sampler that proposes the given architectures and remembers its calls.

    Attributes:
        texts: The text forms of its proposals, in their order.
        calls: ("ask" or "tell", trial number) of each call.
        told: Trial number -> the trial that it was told of.
    """

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
