"""Deterministic, disjoint, stratified splits. All functions give sorted indices."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raynas.core import UserError

Indices = NDArray[np.intp]


def stratified(labels: NDArray[np.int64], count: int, rng: np.random.Generator) -> Indices:
    """``count`` of ``len(labels)`` indices, sorted; every class in its share (within one image).

    Whole images are handed out by largest remainder, ties by lot, so that ``count`` is exact.
    Raises: ValueError when ``count`` is not within 0..len(labels).
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
    """(kept, held out): disjoint, together all; ``share`` of the images is held out.

    Raises: UserError when ``share`` of so few images leaves one of the two empty.
    """
    count = round(share * len(labels))
    if not 0 < count < len(labels):
        raise UserError(
            f"a share of {share:g} of {len(labels)} {what} leaves an empty split",
            cure="give more images (subset) or another share",
        )
    held_out = stratified(labels, count, rng)
    kept = np.setdiff1d(np.arange(len(labels)), held_out, assume_unique=True)
    return kept, held_out
