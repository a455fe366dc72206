"""This module evaluates architectures with the weights that they inherit from a supernet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from numpy.typing import NDArray

from raynas.core import Architecture, Job, Measurement, Metric, RaynasError, UserError
from raynas.core.fields import check_fields
from raynas.core.metrics import TEST_ACCURACY, TEST_LOSS, VAL_ACCURACY, VAL_LOSS
from raynas.core.renamed import renamed_settings
from raynas.data.base import DataView
from raynas.evaluators.base import Evaluator
from raynas.evaluators.inheritance import remarks_on, supernet_with_weights, weights_as_assets
from raynas.evaluators.train_supernet import TrainSupernet
from raynas.spaces.base import SearchSpace
from raynas.supernet.evaluation.race import Race

if TYPE_CHECKING:
    from torch import nn

    from raynas.supernet.evaluation.measurements import SubnetMeasurement
    from raynas.supernet.evaluation.racer import SubnetRacer
    from raynas.supernet.evaluation.subnets import SubnetEvaluator

_HELD_OUT = {"val": (VAL_ACCURACY, VAL_LOSS), "test": (TEST_ACCURACY, TEST_LOSS)}
IMAGES = Metric("images", "images", "max", "held-out images that the accuracy comes from")


@renamed_settings(crowd="preferred_batch")
@dataclass
class Inherited(Evaluator):
    """The accuracy of subnets with inherited weights on held-out images, without training.

    There is one measurement. Each subnet gets batch norm statistics of its own, from the same
    training images for all. The result does not depend on the job's seed.

    Attributes:
        training: Makes the weights, unless ``weights`` are given.
        calibration: Number of training images for batch norm statistics.
        images: Number of held-out images; None takes all.
        calibration_seed: Seed that draws the training images for the statistics.
        preferred_batch: Number of architectures measured together, which saves what they share.
        race: Of the architectures measured together, only the best are measured exactly. The
            values of the others carry a note; they come from fewer images and depend on which
            architectures they were compared with. None measures all exactly.
        weights: The file of the weights, or its folder. They must be of the search's own training
            images, so that no held-out image was trained on.

    Raises:
        UserError: A setting is outside its range.
    """

    name: ClassVar[str] = "inherited"
    lightweight: ClassVar[bool] = True

    training: TrainSupernet = field(default_factory=TrainSupernet)
    calibration: int = 2000
    images: int | None = None
    calibration_seed: int = 0
    preferred_batch: int = field(default=16, metadata={"fingerprint": False})
    race: Race | None = None
    weights: Path | None = field(default=None, metadata={"fingerprint": False})
    _given: tuple[SearchSpace, DataView] | None = field(
        default=None, init=False, repr=False, compare=False
    )
    _subnets: dict[str, SubnetEvaluator] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _races: dict[str, SubnetRacer] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _assets: Mapping[str, NDArray[Any]] | None = field(
        default=None, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if self.calibration < 2:
            raise UserError(f"Inherited has calibration={self.calibration}", expected=">= 2")
        if self.images is not None and self.images < 1:
            raise UserError(f"Inherited has images={self.images}", expected=">= 1, or None for all")
        if self.preferred_batch < 1:
            raise UserError(
                f"Inherited has preferred_batch={self.preferred_batch}", expected=">= 1"
            )

    def __getstate__(self) -> dict[str, Any]:
        """Return the settings alone; what ``setup`` and ``load_assets`` took is made anew."""
        return self.__dict__ | {"_given": None, "_subnets": {}, "_races": {}, "_assets": None}

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics on the held-out images: accuracy, loss and number of images.

        Returns:
            Those of the view it was set up with; those of a search before ``setup``.
        """
        name = self._given[1].held_out_name if self._given else "val"
        return (*_HELD_OUT[name], IMAGES)

    @property
    def max_step(self) -> int:
        """The last step: 1, since there is one measurement."""
        return 1

    def requires(self) -> Evaluator | None:
        """Return the training of the supernet, while there are no weights.

        Returns:
            The training, or None when weights were given.
        """
        return self.training if self.weights is None else None

    def bind_weights(self, folder: Path) -> Inherited:
        """Return a copy with the weights of a folder.

        Args:
            folder: The folder with the weights.

        Returns:
            The copy.

        Raises:
            UserError: ``folder`` holds no whole weights.
        """
        ready = replace(self, weights=folder)
        ready.weights_version()
        return ready

    def weights_version(self) -> str | None:
        """Return the version of the weights.

        Returns:
            The version, or None while there is no file of weights.

        Raises:
            UserError: The weights are missing or damaged; the message names the file.
        """
        if self.weights is None:
            return None
        from raynas.supernet.weights import read_version

        return read_version(self.weights)

    def assets(self) -> Mapping[str, NDArray[Any]]:
        """Return the weights, to be sent to workers.

        Returns:
            Arrays by name; empty while there is no file of weights.

        Raises:
            UserError: The weights cannot be used; the message names the file.
        """
        return weights_as_assets(self.weights)

    def load_assets(self, assets: Mapping[str, NDArray[Any]]) -> None:
        """Take the weights that were sent.

        Args:
            assets: Arrays by name, in shared memory.
        """
        self._assets = assets

    def remarks(self) -> tuple[str, ...]:
        """Name what is unknown about the weights, and settings that are not used.

        Returns:
            One sentence for each remark.

        Raises:
            UserError: The weights are damaged.
        """
        found = list(remarks_on(self.weights))
        if self.race is not None and self.race.block != Race().block:
            found.append(f"race.block={self.race.block}: not used any more")
        return tuple(found)

    def setup(self, space: SearchSpace, view: DataView) -> None:
        """Take the space and the data, and forget networks of earlier data.

        Args:
            space: The search space, which must have a supernet.
            view: Training and held-out images.
        """
        self._given, self._subnets, self._races = (space, view), {}, {}

    def passes(self, view: DataView) -> float:
        """Return the images that statistics are taken from and accuracy is measured on.

        Args:
            view: Training and held-out images.

        Returns:
            Number of forward passes of single images.
        """
        held_out = len(view.held_out.labels)
        measured = held_out if self.images is None else min(self.images, held_out)
        return float(min(self.calibration, len(view.train.labels)) + measured)

    def check(self, arch: Architecture) -> None:
        """Check that weights and images fit together, on one architecture.

        Args:
            arch: The architecture to test with.

        Raises:
            UserError: The weights are of another supernet or of other images, or there are fewer
                training images than ``calibration``.
        """
        have = len(self._ready()[1].train)
        if self.calibration > have:
            raise UserError(
                f"Inherited has calibration={self.calibration}",
                expected=f"up to the number of training images, {have}",
            )
        if self.weights is None:
            self.training.setup(*self._ready())
            self.training.check(arch)
        else:
            self._on("cpu").supernet.values(arch)

    def evaluate(self, arch: Architecture, job: Job) -> Iterator[Measurement]:
        """Measure one subnet.

        Args:
            arch: The architecture.
            job: Device and threads of the evaluation.

        Yields:
            One measurement: accuracy (%), loss and number of images.

        Raises:
            UserError: The architecture is of another space.
        """
        (found,) = self._on(job.device).measure([arch], job.threads)
        yield self._row(found)

    def network(self, arch: Architecture, workdir: Path) -> nn.Module | None:
        """Cut the subnet out as a network of its own, with batch norm recalibrated.

        Args:
            arch: The architecture.
            workdir: The folder of its trial, not used.

        Returns:
            The network, or None without weights.

        Raises:
            RaynasError: The network computes something else than the supernet does.
        """
        return None if self.weights is None else self._on("cpu").extract(arch)

    def evaluate_many(
        self, archs: Sequence[Architecture], jobs: Sequence[Job]
    ) -> Iterator[tuple[int, Measurement | Exception | None]]:
        """Measure several subnets together; see ``race``.

        An architecture that fails does not affect the others.

        Args:
            archs: The n architectures.
            jobs: Their n jobs; device and threads are those of the first.

        Yields:
            Pairs of an index from 0 to n - 1 and its measurement or exception, then None.
        """
        from raynas.supernet.evaluation.racer import SubnetRacer

        subnets, known = self._on(jobs[0].device), []
        for place, arch in enumerate(archs):
            try:
                subnets.supernet.values(arch)
                known.append(place)
            except UserError as error:
                yield place, error
        some = [archs[place] for place in known]
        if self.race is None:
            found = subnets.measure(some, jobs[0].threads)
        else:
            races = self._races.setdefault(jobs[0].device, SubnetRacer(subnets))
            found = races.run(some, self.race, jobs[0].threads)
        for place, one in zip(known, found, strict=True):
            yield place, self._row(one)
            yield place, None

    def _row(self, found: SubnetMeasurement) -> Measurement:
        names = [metric.name for metric in self.metrics]
        values = (found.accuracy, found.loss, float(found.images))
        return Measurement(1, dict(zip(names, values, strict=True)), found.seconds, note=found.note)

    def _on(self, device: str) -> SubnetEvaluator:
        if device not in self._subnets:
            from raynas.supernet.evaluation.measurements import Looks
            from raynas.supernet.evaluation.subnets import SubnetEvaluator

            space, view = self._ready()
            if self._assets is None and self.weights is None:
                raise RaynasError("Inherited is used before there are weights")
            supernet = supernet_with_weights(space, view, self.weights, self._assets)
            looks = Looks(self.calibration, self.images, self.calibration_seed)
            self._subnets[device] = SubnetEvaluator(supernet, looks.of(view), device)
        return self._subnets[device]

    def _ready(self) -> tuple[SearchSpace, DataView]:
        if self._given is None:
            raise RaynasError("Inherited is used before setup(space, view)")
        return self._given
