"""A part of the worlds; `python tests/simulation/store_world.py --seeds 100000` plays more."""

from __future__ import annotations

import pytest
from repetition import more
from simulation.store_world import LONG, replay, violations

WORLDS, LONG_WORLDS = 600, 60


@pytest.mark.parametrize("part", [0, 1, *more(2, 3)])
def test_no_world_loses_a_row_or_ends_in_disorder(part: int) -> None:
    seeds = range(part * WORLDS // 4, (part + 1) * WORLDS // 4)
    found = [f"seed {seed}: {error!r}" for seed, error in violations(seeds)]
    assert not found, "python tests/simulation/store_world.py --seed SEED shows how"


def test_no_world_of_long_runs_loses_a_row() -> None:
    found = [f"seed {s}: {error!r}" for s, error in violations(range(LONG_WORLDS), kind=LONG)]
    assert not found, "python tests/simulate.py long_store --seed SEED shows how"


def test_a_version_that_was_removed_is_not_taken_for_a_new_one() -> None:
    """Found by the 50,796th of 100,000 worlds."""
    assert not list(violations([150_795]))


@pytest.mark.parametrize("seed", [12, 41])
def test_a_world_replays(seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    replay(seed)
    first = capsys.readouterr().out
    replay(seed)
    assert first.count("\n") > 20
    assert capsys.readouterr().out == first
