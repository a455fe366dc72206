"""This module counts and compares the patterns of ReLUs that images switch on."""

from __future__ import annotations

from collections import deque

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def rows(x: Tensor) -> Tensor:
    """Flatten everything but the first dimension, without a copy where the memory layout allows it.

    Args:
        x: (n, ...).

    Returns:
        (n, units).
    """
    if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
        x = x.permute(0, 2, 3, 1)
    return x.reshape(len(x), -1)


class ReLUAgreement:
    """The number of units at which images are on the same side of zero, summed over ReLUs.

    With c the 0/1 pattern of an image and r = c.c, images i and j agree at
    units - r_i - r_j + 2 c_i.c_j of them: one matrix product. An input that several ReLUs share is
    counted for each of them, but multiplied once.

    Args:
        images: Number of images n.

    Attributes:
        units: Number of ReLU units per image so far.
    """

    def __init__(self, images: int) -> None:
        self.units = 0
        self._products: Tensor | None = None
        self._images = images
        self._recent: deque[tuple[Tensor, int, Tensor]] = deque(maxlen=8)

    def add(self, x: Tensor, times: int = 1) -> None:
        """Add the input of one ReLU.

        Args:
            x: (n, ...).
            times: How often it counts.
        """
        known = next((p for t, v, p in self._recent if same_memory(t, v, x)), None)
        if known is None:
            known = both_on(rows(x))
            self._recent.append((x, x._version, known))
        if self._products is None:
            self._products = torch.zeros_like(known)
        self._products.add_(known, alpha=times)
        self.units += times * x[0].numel()

    def matrix(self) -> NDArray[np.float64]:
        """Return the agreement of all pairs of images.

        Returns:
            (n, n) float64, symmetric, ``units`` on the diagonal.
        """
        if self._products is None:
            return np.zeros((self._images, self._images))
        products = self._products.cpu().numpy().astype(np.float64)
        on = np.diag(products)
        return self.units - on[:, None] - on[None, :] + 2 * products


def both_on(x: Tensor) -> Tensor:
    """Count at how many units two rows are both above zero, exactly.

    On a CPU it is computed in bytes, four times as fast as in float32; the comparison is done by
    numpy, which is several times faster than torch there. In float32 it is exact up to 2^24 units.
    torch's product of bytes is wrong for one unit, so float32 is used then.

    Args:
        x: (n, units).

    Returns:
        (n, n) int64.
    """
    if x.device.type != "cpu" or x.dtype != torch.float32 or x.shape[1] < 2 or not _BYTES:
        on = (x > 0).to(torch.float32)
        return (on @ on.T).to(torch.int64)
    above = torch.empty(x.shape, dtype=torch.bool)
    np.greater(x.numpy(), 0, out=above.numpy())
    signs = above.view(torch.int8)
    return torch._int_mm(signs, signs.T).to(torch.int64)


_BYTES = (
    torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
)


def same_memory(known: Tensor, version: int, x: Tensor) -> bool:
    """Return whether two tensors are the same part of the same memory, which was not overwritten.

    Args:
        known: The first tensor.
        version: Its version when it was seen.
        x: The second tensor.

    Returns:
        True if they hold the same values.
    """
    return (
        known.data_ptr() == x.data_ptr()
        and version == x._version
        and known.shape == x.shape
        and known.stride() == x.stride()
    )


class ReLUCodes:
    """A pair of numbers per image that is equal for equal ReLU patterns, by random projections.

    Args:
        images: Number of images n.

    Attributes:
        codes: (n, 2) float64.
    """

    def __init__(self, images: int) -> None:
        self.codes = torch.zeros(images, 2, dtype=torch.float64)
        self._generator = torch.Generator().manual_seed(0)

    def add(self, x: Tensor) -> None:
        """Add the input of one ReLU.

        Args:
            x: (n, ...).
        """
        signs = (rows(x) > 0).to(torch.float64).cpu()
        directions = torch.randn(signs.shape[1], 2, dtype=torch.float64, generator=self._generator)
        self.codes += signs @ directions
