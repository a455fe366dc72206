"""This module trains every architecture, the expensive and exact evaluation."""

from __future__ import annotations

from abc import abstractmethod
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
from raynas.data.base import DataView
from raynas.evaluators.base import Evaluator
from raynas.evaluators.networks import build_network, check_network, check_seconds
from raynas.spaces.base import InputShape, SearchSpace
from raynas.training.recipe import Recipe

if TYPE_CHECKING:
    from torch import nn

_HELD_OUT = {"val": (VAL_ACCURACY, VAL_LOSS), "test": (TEST_ACCURACY, TEST_LOSS)}


@dataclass
class TrainingEvaluator(Evaluator):
    """The common part of evaluators that train a network by a recipe, one measurement per epoch.

    In a search the validation images are measured after every epoch. Test images, which only a
    finalist's training gets to see, are measured once, after the last epoch. A subclass makes the
    network that the training begins with.

    Attributes:
        recipe: How the network is trained.
        checkpoint_seconds: Training time between two checkpoints, in seconds; 0 writes one every
            epoch.

    Raises:
        UserError: A setting is outside its range.
    """

    recipe: Recipe = field(default_factory=Recipe)
    checkpoint_seconds: float = field(default=10.0, metadata={"fingerprint": False})
    _given: tuple[SearchSpace, DataView] | None = field(
        default=None, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        check_fields(self)
        check_seconds(type(self).__name__, self.checkpoint_seconds)

    @abstractmethod
    def initial_network(self, arch: Architecture, seed: int) -> nn.Module:
        """Return the network as it is before the first step.

        Args:
            arch: The architecture.
            seed: Seed of the training.

        Returns:
            The network in train mode on the CPU.
        """

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics of the view it was set up with.

        Returns:
            Accuracy and loss on held-out and training images; those of a search before ``setup``.
        """
        return self.metrics_for(self._given[1].held_out_name if self._given else "val")

    @staticmethod
    def metrics_for(held_out_name: str) -> tuple[Metric, ...]:
        """Return the metrics of a search or of a finalist's training.

        Args:
            held_out_name: "val" for a search, "test" for a finalist.

        Returns:
            Accuracy and loss on held-out images, then on training images.
        """
        return (*_HELD_OUT[held_out_name], TRAIN_ACCURACY, TRAIN_LOSS)

    @property
    def final_metrics(self) -> tuple[Metric, ...]:
        """The metrics of a finalist's training, on the test images.

        Returns:
            Accuracy and loss on test images, then on training images.
        """
        return self.metrics_for("test")

    def network(self, arch: Architecture, workdir: Path) -> nn.Module | None:
        """Load the network from the last checkpoint.

        Args:
            arch: The architecture.
            workdir: The folder of its trial.

        Returns:
            The network in eval mode on the CPU, or None where the folder does not exist.

        Raises:
            UserError: The folder holds no whole checkpoint, or another architecture's.
        """
        if not workdir.is_dir():
            return None
        space, view = self.given()
        return load_trained(space, arch, view.input_shape, view.num_classes, workdir)

    @property
    def max_step(self) -> int:
        """The last step: the number of epochs of the recipe."""
        return self.recipe.epochs

    def setup(self, space: SearchSpace, view: DataView) -> None:
        """Take the space and the data.

        Args:
            space: The search space.
            view: Training and held-out images.
        """
        self._given = space, view

    def evaluate(self, arch: Architecture, job: Job) -> Iterator[Measurement]:
        """Train one architecture.

        Args:
            arch: The architecture.
            job: Seed, device, threads, last epoch and folder of the training.

        Yields:
            One measurement per epoch.
        """
        from raynas.training.loop import train

        _, view = self.given()
        yield from train(
            self.initial_network(arch, job.seed),
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

    def memory(self, arch: Architecture, space: SearchSpace, view: DataView) -> int | None:
        """Estimate the memory of a training step in float32, and of the images.

        Args:
            arch: The architecture.
            space: The search space that builds it.
            view: Training and held-out images.

        Returns:
            Bytes.
        """
        from raynas.costs import training_memory

        build = partial(space.build, arch, view.input_shape, view.num_classes)
        images = view.train.pixels.nbytes + view.held_out.pixels.nbytes
        return images + training_memory(build, view.input_shape).at(self.recipe.batch_size)

    def expect_trainable(self, arch: Architecture) -> None:
        """Build the network of an architecture and run it on two images.

        Args:
            arch: The architecture to test with.

        Raises:
            UserError: The network fails, its output is not (2, classes) logits, or the recipe's
                augmentation does not fit the images.
        """
        from raynas.training.augment import check_augmentation

        space, view = self.given()
        check_augmentation(self.recipe, view)
        check_network(space, arch, view)

    def given(self) -> tuple[SearchSpace, DataView]:
        """Return the space and the data of ``setup``.

        Returns:
            The search space, and training and held-out images.

        Raises:
            RaynasError: ``setup`` was not called.
        """
        if self._given is None:
            raise RaynasError(f"{type(self).__name__} is used before setup(space, view)")
        return self._given


@dataclass
class Retrain(TrainingEvaluator):
    """A training from scratch by a recipe, with one measurement per epoch.

    In a search the validation images are measured after every epoch. Test images, which only a
    finalist's training gets to see, are measured once, after the last epoch.

    Attributes:
        recipe: How the network is trained.
        checkpoint_seconds: Training time between two checkpoints, in seconds; 0 writes one every
            epoch.

    Raises:
        UserError: A setting is outside its range.
    """

    name: ClassVar[str] = "retrain"

    def initial_network(self, arch: Architecture, seed: int) -> nn.Module:
        """Return the network with initial weights that are drawn by ``seed``."""
        space, view = self.given()
        return build_network(space, arch, view.input_shape, view.num_classes, seed)

    def check(self, arch: Architecture) -> None:
        """Build the network and run it on two images.

        Args:
            arch: The architecture to test with.

        Raises:
            UserError: The network fails, its output is not (2, classes) logits, or the recipe's
                augmentation does not fit the images.
        """
        self.expect_trainable(arch)


def load_trained(
    space: SearchSpace,
    arch: Architecture,
    input_shape: InputShape,
    num_classes: int,
    workdir: Path,
) -> nn.Module:
    """Load the network from the newest checkpoint that ``Retrain`` left.

    Args:
        space: The space of the architecture.
        arch: The architecture.
        input_shape: Shape of one image: (channels, height, width).
        num_classes: Number of classes.
        workdir: The folder of the trial.

    Returns:
        The network in eval mode on the CPU.

    Raises:
        UserError: ``workdir`` holds no whole checkpoint, or another architecture's.
    """
    from raynas.training.checkpoint import load_checkpoint

    network = build_network(space, arch, input_shape, num_classes, seed=0)
    if load_checkpoint(workdir, {"label": arch.text}, network) is None:
        raise UserError(f"no complete checkpoint in {workdir}", hint="train the architecture again")
    return network.eval()
