"""Images and their labels as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Images:
    """``pixels`` (n, height, width, channels) uint8 and ``labels`` (n,) int64."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


def frozen(images: Images) -> Images:
    """The same images through arrays that refuse to be written, as in a worker of a cluster."""
    pixels, labels = images.pixels.view(), images.labels.view()
    pixels.flags.writeable = labels.flags.writeable = False
    return Images(pixels, labels)
