"""This module has the container for images and labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Images:
    """A set of images with one label each.

    Attributes:
        pixels: (n, height, width, channels) uint8.
        labels: (n,) int64.

    Example:
        >>> import numpy as np
        >>> len(Images(np.zeros((5, 8, 8, 1), dtype=np.uint8), np.zeros(5, dtype=np.int64)))
        5
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


def frozen(images: Images) -> Images:
    """Return the same images through read-only arrays, as in a worker of a cluster.

    Args:
        images: The images. Their arrays are neither copied nor changed.

    Returns:
        Images whose arrays are read-only views of the given arrays.
    """
    pixels, labels = images.pixels.view(), images.labels.view()
    pixels.flags.writeable = labels.flags.writeable = False
    return Images(pixels, labels)
