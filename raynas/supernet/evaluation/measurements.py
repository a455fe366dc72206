"""This module has the images on which subnets are measured, and the results."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from raynas.core import UserError, rng_for
from raynas.data.base import DataView
from raynas.data.imageset import take
from raynas.data.splits import stratified


@dataclass(frozen=True)
class Looks:
    """The images on which subnets are measured, the same ones for all.

    Attributes:
        calibration: Number of training images for batch norm's statistics, drawn by ``seed``.
        images: Number of held-out images, drawn by class; None takes all.
        seed: Of the calibration images.

    Raises:
        UserError: When ``calibration`` is below 2 or ``images`` below 1.
    """

    calibration: int = 2000
    images: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.calibration < 2:
            raise UserError(f"{self.calibration} images for calibration", expected=">= 2")
        if self.images is not None and self.images < 1:
            raise UserError(f"images={self.images}", expected=">= 1, or None for all")

    def of(self, view: DataView) -> DataView:
        """Return the view with these images only.

        Args:
            view: The view to take images from.

        Raises:
            UserError: When it has fewer training images than ``calibration``.
        """
        have = len(view.train)
        if self.calibration > have:
            raise UserError(
                f"{self.calibration} images for calibration",
                expected=f"at most {have}, the number of training images",
            )
        drawn = rng_for(self.seed, "calibration").permutation(have)[: self.calibration]
        count = min(self.images or len(view.held_out), len(view.held_out))
        rng = rng_for("held-out images")
        # in random order, so that the first few are a random sample
        shown = rng.permutation(stratified(view.held_out.labels, count, rng))
        return replace(view, train=take(view.train, drawn), held_out=take(view.held_out, shown))


@dataclass(frozen=True)
class SubnetMeasurement:
    """The measurement of one subnet.

    Attributes:
        accuracy: On held-out images, in percent.
        loss: Cross entropy in nats.
        images: Number of held-out images.
        seconds: Time spent on it.
        note: The reason why the accuracy is an estimate, or why the network was measured by itself.
    """

    accuracy: float
    loss: float
    images: int
    seconds: float = 0.0
    note: str = ""


@dataclass(frozen=True)
class SubnetPredictions:
    """The answers of one network or of several to the same images.

    Attributes:
        right: (images,) or (architectures, images) bool.
        losses: (images,) or (architectures, images) float32, in nats.
    """

    right: NDArray[np.bool_]
    losses: NDArray[np.float32]
