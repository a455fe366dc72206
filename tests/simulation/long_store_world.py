"""The store's worlds with long runs, in which writers sleep and nothing else happens.

    python tests/simulate.py long_store --seeds 10000

A writer that sleeps in the middle of a merge is succeeded by one that merges less or more than it.
"""

from __future__ import annotations

from simulation import store_world


def run_seed(seed: int) -> str:
    """What goes wrong with a seed; empty when nothing does."""
    return store_world.run_seed(seed, store_world.LONG)


def replay(seed: int) -> list[str]:
    """Play one world, and print what happens in it."""
    return store_world.replay(seed, kind=store_world.LONG)
