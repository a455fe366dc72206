"""Train a whole supernet: what searches over inherited weights need once, before they begin."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from raynas.core import Architecture, Job, Measurement, Metric, RaynasError, UserError, seed_for
from raynas.core.errors import first_line
from raynas.core.fields import check_fields
from raynas.core.metrics import TRAIN_ACCURACY, TRAIN_LOSS
from raynas.data.base import View
from raynas.evaluators.base import Evaluator
from raynas.evaluators.networks import check_seconds
from raynas.spaces.base import SearchSpace
from raynas.supernet.rules import Phase, Reach, Rule, SinglePath
from raynas.training.recipe import Recipe

if TYPE_CHECKING:
    from raynas.spaces.supernet import Supernet
    from raynas.supernet.parallel import Ranks

SMALLEST = Metric("smallest_accuracy", "%", "max", "of the smallest subnet, inherited weights")
LARGEST = Metric("largest_accuracy", "%", "max", "of the largest subnet, inherited weights")
RANDOM = Metric("random_accuracy", "%", "max", "mean of some drawn subnets, inherited weights")


@dataclass
class TrainSupernet(Evaluator):
    """Trains the supernet of the space by ``recipe``; one measurement per epoch.

    The architecture that it is asked for is a label only. ``rule``: the subnets of each step;
    ``phases``: when which choices open (none: all from the start); ``average``: over so many last
    epochs, or all, the weights are averaged. After every epoch the smallest, the largest and
    ``look_random`` drawn subnets are measured on ``look_images`` held-out images, with batch norm
    recalibrated on ``look_calibration`` training images. ``processes``: so many share every batch
    (data-parallel), each with a GPU of its own from the job's device on, if that is one; batch
    norm sees a share only. Reserve them: ``resources.gpus``, or ``resources.cpus``.
    The weights are left in ``job.workdir / "weights"``.
    Raises: UserError for values that make no sense.
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
    _given: tuple[SearchSpace, View] | None = field(
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
                    allowed=f"a whole number from {value} up",
                )

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (TRAIN_LOSS, TRAIN_ACCURACY, SMALLEST, LARGEST, RANDOM)

    @property
    def max_step(self) -> int:
        return self.recipe.epochs

    def setup(self, space: SearchSpace, view: View) -> None:
        self._given = space, view

    def check(self, arch: Architecture) -> None:
        """Make the supernet, and see that it can be trained, cut and sorted on the data.

        Raises: UserError when the space has no supernet, phases open what it does not have, a
        layer fails, which is named then, or data, recipe and supernet do not fit together.
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
                f"the supernet of space {space.name!r} cannot be made: {first_line(error)}",
                cure="see the space's supernet(); a layer of your own is a raynas.layers.Elastic "
                "with forward(x, arch), plain(arch, width_in) and width_out(arch, width_in)",
            ) from error
        supernet.values(arch)
        check_supernet(supernet, some_images(view, 2), self.phases)
        Reach.of(space).opened(self.phases, epoch=1)

    def evaluate(self, arch: Architecture, job: Job) -> Iterator[Measurement]:
        from raynas.supernet.parallel import device_of, together

        device = device_of(job.device, 0) if self.processes > 1 else job.device
        with together(self.processes, job.device, _beside, self, job) as ranks:
            yield from self.steps(job, device, ranks)

    def steps(self, job: Job, device: str, ranks: Ranks) -> Iterator[Measurement]:
        """The training as one rank sees it; only the first measures subnets and writes files."""
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

    def _ready(self) -> tuple[SearchSpace, View]:
        if self._given is None:
            raise RaynasError("TrainSupernet is used before setup(space, view)")
        return self._given


def new_supernet(space: SearchSpace, view: View, seed: int) -> Supernet:
    """The supernet with initial weights that depend on ``seed`` alone.

    Raises: UserError when the space has none.
    """
    import torch

    from raynas.spaces.supernet import Supernet

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed_for(seed, "init"))
        supernet = space.supernet(view.input_shape, view.num_classes)
    if not isinstance(supernet, Supernet):
        raise UserError(
            f"supernet() of space {space.name!r} returned {type(supernet).__name__}",
            allowed="a raynas.spaces.Supernet",
            cure="return Supernet(self, body, input_shape, num_classes)",
        )
    return supernet


def _beside(ranks: Ranks, device: str, own: TrainSupernet, job: Job) -> None:
    """What the other processes do: the same training, whose measurements nobody reads."""
    for _ in own.steps(job, device, ranks):
        pass
