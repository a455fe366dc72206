"""This module has deterministic, disjoint, stratified splits, as sorted indices."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raynas.core import UserError

Indices = NDArray[np.intp]


def stratified(labels: NDArray[np.int64], count: int, rng: np.random.Generator) -> Indices:
    """Draw ``count`` indices so that every class keeps its share, to within one image.

    Whole images are distributed by largest remainder, with ties broken at random, so that ``count``
    is exact.

    Args:
        labels: (n,) the class of each image.
        count: The number of indices to draw.
        rng: The generator that draws.

    Returns:
        (count,) sorted, distinct indices into ``labels``.

    Raises:
        ValueError: ``count`` is not within 0..n.

    Example:
        >>> import numpy as np
        >>> labels = np.array([0, 0, 0, 0, 1, 1])
        >>> labels[stratified(labels, 3, np.random.default_rng(0))].tolist()
        [0, 0, 1]
    """
    if not 0 <= count <= len(labels):
        raise ValueError(f"cannot take {count} of {len(labels)} images")
    _, codes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    exact = sizes * (count / max(len(labels), 1))
    quota = np.floor(exact + 1e-9).astype(np.intp)
    by_remainder = np.lexsort((rng.random(len(sizes)), quota - exact))
    quota[by_remainder[: count - quota.sum()]] += 1
    shuffled = rng.permutation(len(labels))
    grouped = shuffled[np.argsort(codes[shuffled], kind="stable")]
    starts = np.repeat(np.cumsum(sizes) - sizes, sizes)
    rank = np.arange(len(labels)) - starts
    return np.sort(grouped[rank < np.repeat(quota, sizes)])


def partition(
    labels: NDArray[np.int64], share: float, rng: np.random.Generator, what: str = "images"
) -> tuple[Indices, Indices]:
    """Split images by class into a kept part and a held-out part.

    Args:
        labels: (n,) the class of each image.
        share: Share of the images that is held out, between 0 and 1.
        rng: The generator that draws.
        what: The name of the images, for the error message.

    Returns:
        Two arrays of sorted indices, (kept, held out): disjoint, and together all images.

    Raises:
        UserError: ``share`` of so few images leaves one of the two empty.

    Example:
        >>> import numpy as np
        >>> kept, held_out = partition(np.arange(10) % 2, 0.2, np.random.default_rng(0))
        >>> len(kept), len(held_out)
        (8, 2)
    """
    count = round(share * len(labels))
    if not 0 < count < len(labels):
        raise UserError(
            f"a share of {share:g} of {len(labels)} {what} leaves an empty split",
            hint="give more images (subset) or another share",
        )
    held_out = stratified(labels, count, rng)
    kept = np.setdiff1d(np.arange(len(labels)), held_out, assume_unique=True)
    return kept, held_out
