"""A supernet's training and what inherits from it, as toys whose truth is known."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from toys import Curves, noise, quality

from raynas.core import Architecture, Job, Measurement, Metric, UserError
from raynas.core.metrics import VAL_ACCURACY
from raynas.data.base import DataView
from raynas.evaluators.base import Evaluator
from raynas.spaces.base import SearchSpace

LOSS = Metric("train_loss", "nats", "min")
RANDOM = Metric("random_accuracy", "%", "max")


def _note(log: str, arch: Architecture, step: int) -> None:
    if log:
        with Path(log).open("a") as file:
            file.write(f"{arch.text} {step} {os.getpid()}\n")


@dataclass
class Trained(Evaluator):
    """Takes ``max_step`` steps of ``seconds`` and leaves ``weights/toy.json``, a function of the
    seed and of how many steps were made; a step that is made again, or left out, shows.

    ``fail``: at this step the loss is not a number, as long as the file ``log + ".fails"`` exists.
    """

    name: ClassVar[str] = "trained"
    max_step: int = 4
    seconds: float = 0.0
    fail: int = 0
    log: str = field(default="", metadata={"fingerprint": False})

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (LOSS, RANDOM)

    def setup(self, space: SearchSpace, view: DataView) -> None: ...

    def evaluate(self, arch: Architecture, job: Job) -> Iterator[Measurement]:
        assert job.workdir is not None
        job.workdir.mkdir(parents=True, exist_ok=True)
        state = job.workdir / "state.json"
        begun = json.loads(state.read_text()) if state.exists() else {"step": 0, "weights": ""}
        for step in range(1, begun["step"] + 1):  # the store may have missed the last one
            yield self._measured(step)
        for step in range(begun["step"] + 1, job.max_step + 1):
            time.sleep(self.seconds)
            made = hashlib.blake2b(f"{begun['weights']}{job.seed}".encode(), digest_size=6)
            begun = {"step": step, "weights": made.hexdigest()}
            if step == job.max_step:
                self._leave(job.workdir / "weights", begun["weights"])
            state.with_suffix(".new").write_text(json.dumps(begun))
            state.with_suffix(".new").replace(state)
            _note(self.log, arch, step)
            yield self._measured(step)

    def _measured(self, step: int) -> Measurement:
        bad = step == self.fail and Path(f"{self.log}.fails").exists()
        loss = float("nan") if bad else 2.0 / step
        return Measurement(step, {LOSS.name: loss, RANDOM.name: 40.0 + step}, seconds=5.0)

    def _leave(self, folder: Path, version: str) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "toy.json").write_text(json.dumps({"version": version}))


@dataclass
class Inheriting(Evaluator):
    """The truth of a toy architecture and some noise, from the weights that are there.

    ``log``: a file that gets a line per evaluation.
    """

    name: ClassVar[str] = "inheriting"
    lightweight: ClassVar[bool] = True
    max_step: int = 1
    training: Evaluator = field(default_factory=Trained)
    seconds: float = 0.0
    log: str = field(default="", metadata={"fingerprint": False})
    weights: Path | None = field(default=None, metadata={"fingerprint": False})

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (VAL_ACCURACY,)

    def requires(self) -> Evaluator | None:
        return self.training if self.weights is None else None

    def bind_weights(self, folder: Path) -> Evaluator:
        if not (folder / "toy.json").is_file():
            raise UserError(f"no toy weights in {folder}")
        return replace(self, weights=folder)

    def weights_version(self) -> str | None:
        if self.weights is None:
            return None
        return str(json.loads((self.weights / "toy.json").read_text())["version"])

    def setup(self, space: SearchSpace, view: DataView) -> None: ...

    def evaluate(self, arch: Architecture, job: Job) -> Iterator[Measurement]:
        version = self.weights_version()
        assert version is not None, "evaluated before the weights were there"
        time.sleep(self.seconds)
        _note(self.log, arch, 1)
        value = quality(arch) - 20 + noise(arch.text + version)
        yield Measurement(1, {VAL_ACCURACY.name: value}, seconds=0.25)


@dataclass
class Tuned(Curves):
    """Trains like ``Curves``, but begins with inherited weights."""

    name: ClassVar[str] = "tuned_curves"
    weights: Path | None = field(default=None, metadata={"fingerprint": False})

    def bind_weights(self, folder: Path) -> Evaluator:
        return replace(self, weights=folder)

    def weights_version(self) -> str | None:
        return Inheriting(weights=self.weights).weights_version()

    def evaluate(self, arch: Architecture, job: Job) -> Iterator[Measurement]:
        assert self.weights is not None
        yield from super().evaluate(arch, job)
