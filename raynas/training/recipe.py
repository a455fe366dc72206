"""The settings of a training as one frozen value, and the recipes that others have published."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from raynas.core import UserError, unknown_option
from raynas.core.fields import check_fields


@dataclass(frozen=True)
class Recipe:
    """SGD with momentum, a cosine schedule, and the augmentations of small-image training.

    The learning rate rises linearly during ``warmup_epochs``, then falls to 0 along half a cosine,
    step by step (Loshchilov & Hutter 2017).

    Attributes:
        epochs: Length of the schedule; a training may stop earlier on the same schedule.
        batch_size: Images per optimisation step.
        lr: The largest learning rate.
        momentum: Of SGD, at least 0 and below 1.
        nesterov: Whether the momentum is Nesterov's.
        weight_decay: Factor of the L2 penalty.
        decay_norms: Whether ``weight_decay`` also shrinks one-dimensional weights (norms, biases).
        warmup_epochs: Epochs in which the learning rate rises.
        label_smoothing: Share of the target that is spread over all classes, at least 0 and below
            1.
        flip: Whether images are mirrored at random.
        crop_pad: Random crops are taken from images padded by this many black pixels on each side.
        cutout: Side of the erased square in pixels (DeVries & Taylor 2017); 0 erases none.
        grad_clip: Largest norm of the whole gradient; None sets no limit.
        amp: "auto" computes in bfloat16 where a GPU can, "off" never does.
        channels_last: Whether images and weights are in the channels-last memory format.

    Raises:
        UserError: When a field has a value that is not allowed; it names the field, its value and
            the allowed values.

    Example:
        >>> recipe = Recipe(epochs=2, lr=0.1, warmup_epochs=1)
        >>> [round(recipe.lr_at(step, steps_per_epoch=2), 3) for step in range(4)]
        [0.05, 0.1, 0.1, 0.05]
    """

    epochs: int = 12
    batch_size: int = 256
    lr: float = 0.1
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    decay_norms: bool = True
    warmup_epochs: int = 0
    label_smoothing: float = 0.0
    flip: bool = True
    crop_pad: int = 4
    cutout: int = 0
    grad_clip: float | None = None
    amp: Literal["auto", "off"] = "auto"
    channels_last: bool = True

    def __post_init__(self) -> None:
        check_fields(self)
        self._whole("epochs", 1)
        self._whole("batch_size", 2)
        self._whole("warmup_epochs", 0)
        self._whole("crop_pad", 0)
        self._whole("cutout", 0)
        self._number("lr", self.lr > 0, "a number above 0")
        self._number("momentum", 0 <= self.momentum < 1, "0 <= momentum < 1")
        self._number("weight_decay", self.weight_decay >= 0, "a number from 0 up")
        self._number("label_smoothing", 0 <= self.label_smoothing < 1, "0 <= smoothing < 1")
        if self.grad_clip is not None:
            self._number("grad_clip", self.grad_clip > 0, "a number above 0, or None for no limit")
        if self.warmup_epochs >= self.epochs:
            self._refuse("warmup_epochs", f"fewer than the {self.epochs} epochs")
        if self.nesterov and self.momentum == 0:
            self._refuse("nesterov", "True only with momentum above 0")
        if self.amp not in ("auto", "off"):
            raise unknown_option("amp in the recipe", self.amp, ("auto", "off"))

    def lr_at(self, step: int, steps_per_epoch: int) -> float:
        """Return the learning rate of one optimisation step.

        Args:
            step: Number of the step in the whole schedule, from 0.
            steps_per_epoch: Number of optimisation steps in an epoch.

        Returns:
            The learning rate, from 0 to ``lr``.
        """
        warmup, total = self.warmup_epochs * steps_per_epoch, self.epochs * steps_per_epoch
        if step < warmup:
            return self.lr * (step + 1) / warmup
        return self.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))

    def _whole(self, field: str, least: int) -> None:
        value = getattr(self, field)
        if type(value) is not int or value < least:
            self._refuse(field, f"a whole number from {least} up")

    def _number(self, field: str, holds: bool, allowed: str) -> None:
        if not (holds and math.isfinite(getattr(self, field))):
            self._refuse(field, allowed)

    def _refuse(self, field: str, allowed: str) -> None:
        raise UserError(f"recipe has {field}={getattr(self, field)!r}", expected=allowed)


NASBENCH201 = Recipe(epochs=200)
"""The 200-epoch recipe of NAS-Bench-201 (Dong & Yang 2020) for 32x32 images.

Images of 16x16 are cropped with ``crop_pad=2`` there.
"""

NASBENCH201_12 = Recipe(epochs=12)
"""The short recipe of NAS-Bench-201: 12 epochs with a cosine of their own."""
