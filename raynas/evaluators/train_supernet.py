"""This module trains a supernet, which searches with inherited weights need once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from raynas.core import Architecture, Job, Measurement, Metric, RaynasError, UserError, seed_for
from raynas.core.errors import first_line
from raynas.core.fields import check_fields
from raynas.core.metrics import TRAIN_ACCURACY, TRAIN_LOSS
from raynas.data.base import DataView
from raynas.evaluators.base import Evaluator
from raynas.evaluators.networks import check_seconds
from raynas.spaces.base import SearchSpace
from raynas.supernet.rules import OpenOptions, Phase, Rule, SinglePath
from raynas.training.recipe import Recipe

if TYPE_CHECKING:
    from raynas.spaces.supernet import Supernet
    from raynas.supernet.parallel import ProcessGroup

SMALLEST = Metric("smallest_accuracy", "%", "max", "of the smallest subnet, inherited weights")
LARGEST = Metric("largest_accuracy", "%", "max", "of the largest subnet, inherited weights")
RANDOM = Metric("random_accuracy", "%", "max", "mean of some drawn subnets, inherited weights")


@dataclass
class TrainSupernet(Evaluator):
    """A training of the space's supernet by a recipe, with one measurement per epoch.

    The architecture that is passed in is a label only. After every epoch the smallest, the
    largest and some drawn subnets are measured on held-out images, with batch norm recalibrated.
    The weights are left in ``job.workdir / "weights"``.

    Attributes:
        recipe: How the supernet is trained.
        rule: Chooses the subnets of each step.
        phases: When which choices open; empty opens all from the start.
        average: Number of last epochs, or all if there are fewer, over which the weights are
            averaged.
        processes: Number of processes that share every batch (data-parallel). Each has a GPU of
            its own, counted from the job's device, if that is a GPU. Batch norm sees a share of
            the batch only. Reserve the devices by ``resources.gpus`` or ``resources.cpus``.
        look_random: Number of drawn subnets measured after every epoch.
        look_images: Number of held-out images they are measured on.
        look_calibration: Number of training images for batch norm statistics.
        checkpoint_seconds: Training time between two checkpoints, in seconds.

    Raises:
        UserError: A setting is outside its range.
    """

    name: ClassVar[str] = "train_supernet"

    recipe: Recipe = field(default_factory=lambda: Recipe(epochs=50, lr=0.05, grad_clip=5.0))
    rule: Rule = field(default_factory=SinglePath)
    phases: tuple[Phase, ...] = ()
    average: int = 1
    processes: int = 1
    look_random: int = 3
    look_images: int = 1000
    look_calibration: int = 512
    checkpoint_seconds: float = field(default=10.0, metadata={"fingerprint": False})
    _given: tuple[SearchSpace, DataView] | None = field(
        default=None, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        check_fields(self)
        check_seconds("TrainSupernet", self.checkpoint_seconds)
        least = {"average": 1, "processes": 1, "look_random": 1, "look_images": 1}
        for setting, value in (least | {"look_calibration": 2}).items():
            if getattr(self, setting) < value:
                raise UserError(
                    f"TrainSupernet has {setting}={getattr(self, setting)}",
                    expected=f"a whole number from {value} up",
                )

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics: training loss and accuracy, and accuracies of subnets in percent.

        Returns:
            The metrics in the order of the store's columns.
        """
        return (TRAIN_LOSS, TRAIN_ACCURACY, SMALLEST, LARGEST, RANDOM)

    @property
    def max_step(self) -> int:
        """The last step: the number of epochs of the recipe."""
        return self.recipe.epochs

    def setup(self, space: SearchSpace, view: DataView) -> None:
        """Take the space and the data.

        Args:
            space: The search space, which must have a supernet.
            view: Training and held-out images.
        """
        self._given = space, view

    def check(self, arch: Architecture) -> None:
        """Make the supernet, and check that it can be trained, cut and sorted on the data.

        Args:
            arch: An architecture of the space.

        Raises:
            UserError: The space has no supernet, phases open choices that it does not have, a layer
                fails (the message names it), or data, recipe and supernet do not fit together.
        """
        from raynas.supernet.checks import check_supernet
        from raynas.training.augment import check_augmentation, some_images

        space, view = self._ready()
        check_augmentation(self.recipe, view)
        try:
            supernet = new_supernet(space, view, seed=0)
        except RaynasError:
            raise
        except Exception as error:  # any kind: a user's supernet()
            raise UserError(
                f"the supernet of space {space.name!r} cannot be built: {first_line(error)}",
                hint="see the space's supernet(); a layer of your own is a raynas.layers.Elastic "
                "with forward(x, arch), plain(arch, width_in) and width_out(arch, width_in)",
            ) from error
        supernet.values(arch)
        check_supernet(supernet, some_images(view, 2), self.phases)
        OpenOptions.of(space).opened(self.phases, epoch=1)

    def evaluate(self, arch: Architecture, job: Job) -> Iterator[Measurement]:
        """Train the supernet.

        Args:
            arch: A label, not used.
            job: Seed, device, threads, last epoch and folder of the training.

        Yields:
            One measurement per epoch.
        """
        from raynas.supernet.parallel import device_of, together

        device = device_of(job.device, 0) if self.processes > 1 else job.device
        with together(self.processes, job.device, _beside, self, job) as ranks:
            yield from self.steps(job, device, ranks)

    def steps(self, job: Job, device: str, ranks: ProcessGroup) -> Iterator[Measurement]:
        """Train as one rank; only the first rank measures subnets and writes files.

        Args:
            job: Seed, threads, last epoch and folder of the training.
            device: Device of the rank.
            ranks: The processes that share every batch.

        Returns:
            Measurements, one per epoch.
        """
        from raynas.supernet.training import Look, train_supernet

        space, view = self._ready()
        return train_supernet(
            new_supernet(space, view, job.seed),
            view,
            self.recipe,
            self.rule,
            seed=job.seed,
            phases=self.phases,
            average=self.average,
            look=Look(self.look_random, self.look_images, self.look_calibration),
            device=device,
            workdir=job.workdir,
            max_epoch=job.max_step,
            threads=max(job.threads // ranks.size, 1),
            checkpoint_seconds=self.checkpoint_seconds,
            stored=job.stored,
            ranks=ranks,
        )

    def _ready(self) -> tuple[SearchSpace, DataView]:
        if self._given is None:
            raise RaynasError("TrainSupernet is used before setup(space, view)")
        return self._given


def new_supernet(space: SearchSpace, view: DataView, seed: int) -> Supernet:
    """Make the supernet with initial weights that depend on ``seed`` alone.

    Args:
        space: The search space.
        view: Gives the input shape and the number of classes.
        seed: Seed of the initial weights.

    Returns:
        The supernet on the CPU.

    Raises:
        UserError: The space has no supernet.
    """
    import torch

    from raynas.spaces.supernet import Supernet

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed_for(seed, "init"))
        supernet = space.supernet(view.input_shape, view.num_classes)
    if not isinstance(supernet, Supernet):
        raise UserError(
            f"supernet() of space {space.name!r} returned {type(supernet).__name__}",
            expected="a raynas.spaces.Supernet",
            hint="return Supernet(self, body, input_shape, num_classes)",
        )
    return supernet


def _beside(ranks: ProcessGroup, device: str, own: TrainSupernet, job: Job) -> None:
    """Run the same training in another process; its measurements are not used."""
    for _ in own.steps(job, device, ranks):
        pass
