"""The blocks of an elastic ResNet, and the settings of its space that networks are built from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from raynas.core import Choice, Option


@dataclass(frozen=True)
class Block:
    """One block as built: 1x1 to ``hidden``, ``kernel`` x ``kernel`` at ``stride``, 1x1 to
    ``width_out``. The first block of a stage has a ``project``-ed shortcut."""

    width_in: int
    hidden: int
    width_out: int
    kernel: int
    stride: int
    project: bool


class ResNetSettings(Protocol):
    """The settings that the supernet is built from; the search space has them.

    See :class:`~raynas.spaces.elastic_resnet.space.ElasticResNet` for each.
    """

    @property
    def choices(self) -> tuple[Choice, ...]:
        """The choices of the space."""

    @property
    def widths(self) -> tuple[tuple[int, ...], ...]:
        """The options of the channels, per stage."""

    @property
    def strides(self) -> tuple[int, ...]:
        """The stride of the first block, per stage."""

    @property
    def expansions(self) -> tuple[float, ...]:
        """The options of hidden channels over the stage's width."""

    @property
    def stem_width(self) -> int:
        """The channels of the stem."""

    @property
    def kernel_transforms(self) -> bool:
        """Small kernels pass through matrices of their own."""

    def hidden(self, width: int, expansion: float) -> int:
        """Return the hidden channels of a block."""

    def resolution(self, arch: Mapping[str, Option]) -> int | None:
        """Return the side to which images are resized; None where they stay as they are."""

    def block_names(self, stage: int) -> list[str]:
        """Return the names of the blocks of ``stage``, counted from 1."""
