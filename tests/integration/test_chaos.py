"""A search that is struck by some random faults; `make chaos` has twenty of all kinds."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

pytest.importorskip("moto.server")

from chaos import chaos

pytestmark = [pytest.mark.ray, pytest.mark.long]


def test_a_search_survives_random_faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYNAS_CACHE", str(tmp_path))  # put back afterwards
    seed = random.SystemRandom().randrange(10**6)
    rng = random.Random(seed)
    kinds = ["driver", *rng.sample(("actor", "storage", "clock", "idle"), 2)]
    rng.shuffle(kinds)
    chaos(tmp_path, kinds, seed)
