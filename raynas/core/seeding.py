"""Seeds that depend on names, not on the order in which things happen."""

from __future__ import annotations

import hashlib

import numpy as np


def seed_for(*parts: object) -> int:
    """A seed in [0, 2**31) from ``parts`` (numbers, strings): equal on every machine and run.

    Streams that must not depend on each other get different parts, for instance
    ``seed_for(run_seed, "split")`` and ``seed_for(run_seed, arch.id, "train")``.
    """
    # a numpy scalar is the number that it holds
    plain = [part.item() if isinstance(part, np.generic) else part for part in parts]
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in plain)
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % 2**31


def rng_for(*parts: object) -> np.random.Generator:
    """A numpy generator seeded by :func:`seed_for`."""
    return np.random.default_rng(seed_for(*parts))
