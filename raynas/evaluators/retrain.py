"""Train every architecture from scratch: the dear and true way to evaluate one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from raynas.core import Architecture, Job, Measurement, Metric, RaynasError, UserError
from raynas.core.fields import check_fields
from raynas.core.metrics import (
    TEST_ACCURACY,
    TEST_LOSS,
    TRAIN_ACCURACY,
    TRAIN_LOSS,
    VAL_ACCURACY,
    VAL_LOSS,
)
from raynas.data.base import View
from raynas.evaluators.base import Evaluator
from raynas.evaluators.networks import build_network, check_network, check_seconds
from raynas.spaces.base import InputShape, SearchSpace
from raynas.training.recipe import Recipe

if TYPE_CHECKING:
    from torch import nn

_HELD_OUT = {"val": (VAL_ACCURACY, VAL_LOSS), "test": (TEST_ACCURACY, TEST_LOSS)}


@dataclass
class Retrain(Evaluator):
    """Trains the network of an architecture by ``recipe``; one measurement per epoch.

    In a search the validation images are measured after every epoch. Test images, which only a
    finalist's training gets to see, are measured once, after the last epoch.
    ``checkpoint_seconds``: training time between two checkpoints; 0 writes one every epoch.
    """

    name: ClassVar[str] = "retrain"

    recipe: Recipe = field(default_factory=Recipe)
    checkpoint_seconds: float = field(default=10.0, metadata={"fingerprint": False})
    _given: tuple[SearchSpace, View] | None = field(
        default=None, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        check_fields(self)
        check_seconds(type(self).__name__, self.checkpoint_seconds)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Those of the view it was set up with; of a search before that."""
        return self.metrics_for(self._given[1].held_out_name if self._given else "val")

    @staticmethod
    def metrics_for(held_out_name: str) -> tuple[Metric, ...]:
        """The metrics of a search ("val") or of a finalist's training ("test")."""
        return (*_HELD_OUT[held_out_name], TRAIN_ACCURACY, TRAIN_LOSS)

    @property
    def final_metrics(self) -> tuple[Metric, ...]:
        return self.metrics_for("test")

    def network(self, arch: Architecture, workdir: Path) -> nn.Module | None:
        """From the job's last checkpoint, in eval mode; None where there is none."""
        if not workdir.is_dir():
            return None
        space, view = self._ready()
        return load_trained(space, arch, view.input_shape, view.num_classes, workdir)

    @property
    def max_step(self) -> int:
        return self.recipe.epochs

    def setup(self, space: SearchSpace, view: View) -> None:
        self._given = space, view

    def evaluate(self, arch: Architecture, job: Job) -> Iterator[Measurement]:
        from raynas.training.loop import train

        _, view = self._ready()
        yield from train(
            self._start(arch, job.seed),
            view,
            self.recipe,
            seed=job.seed,
            device=job.device,
            workdir=job.workdir,
            max_epoch=job.max_step,
            threads=job.threads,
            checkpoint_seconds=self.checkpoint_seconds,
            measure_every=1 if view.held_out_name == "val" else 0,
            label=arch.text,
            pauses=job.pauses,
            stored=job.stored,
        )

    def _start(self, arch: Architecture, seed: int) -> nn.Module:
        """The network as it is before the first step."""
        space, view = self._ready()
        return build_network(space, arch, view.input_shape, view.num_classes, seed)

    def memory(self, arch: Architecture, space: SearchSpace, view: View) -> int | None:
        """Of a step of training in float32, and the images."""
        from raynas.costs import training_memory

        build = partial(space.build, arch, view.input_shape, view.num_classes)
        images = view.train.pixels.nbytes + view.held_out.pixels.nbytes
        return images + training_memory(build, view.input_shape).at(self.recipe.batch_size)

    def check(self, arch: Architecture) -> None:
        """Build the network and show it two images.

        Raises: UserError when that fails or gives anything but (2, classes) logits, and when the
        recipe's augmentation does not fit the images.
        """
        from raynas.training.augment import check_augmentation

        space, view = self._ready()
        check_augmentation(self.recipe, view)
        check_network(space, arch, view)

    def _ready(self) -> tuple[SearchSpace, View]:
        if self._given is None:
            raise RaynasError("Retrain is used before setup(space, view)")
        return self._given


def load_trained(
    space: SearchSpace,
    arch: Architecture,
    input_shape: InputShape,
    num_classes: int,
    workdir: Path,
) -> nn.Module:
    """The network in eval mode on the CPU, from the newest checkpoint that ``Retrain`` left.

    Raises: UserError when ``workdir`` holds no whole checkpoint, or another architecture's.
    """
    from raynas.training.checkpoint import load_checkpoint

    network = build_network(space, arch, input_shape, num_classes, seed=0)
    if load_checkpoint(workdir, {"label": arch.text}, network) is None:
        raise UserError(f"no whole checkpoint in {workdir}", cure="train the architecture again")
    return network.eval()
