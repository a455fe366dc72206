"""This module has the blocks of an elastic ResNet, and the settings that build networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from raynas.core import Choice, Option


@dataclass(frozen=True)
class ResNetBlock:
    """A bottleneck block: 1x1, ``kernel`` x ``kernel`` and 1x1 convolutions, and a shortcut.

    Attributes:
        width_in: The number of input channels.
        hidden: The number of channels between the convolutions.
        width_out: The number of output channels.
        kernel: The side of the middle kernel.
        stride: The stride of the middle convolution.
        project: True for a projection as the shortcut, as in the first block of a stage.
    """

    width_in: int
    hidden: int
    width_out: int
    kernel: int
    stride: int
    project: bool


class ResNetSettings(Protocol):
    """The protocol of the settings that the supernet is built from; the search space implements it.

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
        """The options of hidden channels divided by the stage's width."""

    @property
    def stem_width(self) -> int:
        """The number of channels of the stem."""

    @property
    def kernel_transforms(self) -> bool:
        """The use of transformation matrices for small kernels.

        Returns:
            True when small kernels pass through matrices of their own.
        """

    def hidden(self, width: int, expansion: float) -> int:
        """Return the hidden channels of a block.

        Args:
            width: The channels of the stage.
            expansion: The hidden channels divided by ``width``.

        Returns:
            The number of channels.
        """

    def resolution(self, arch: Mapping[str, Option]) -> int | None:
        """Return the side to which images are resized.

        Args:
            arch: An architecture of the space.

        Returns:
            Pixels; None where images are not resized.
        """

    def block_names(self, stage: int) -> list[str]:
        """Return the names of the blocks of a stage.

        Args:
            stage: The number of the stage, from 1.

        Returns:
            One name per block of the largest depth.
        """
