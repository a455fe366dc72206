"""The made-up landscape: the optimum is where it says, curves are as it says."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import ToySpace

from raynas.benchmarks import Synthetic
from raynas.core import RaynasError, UserError, rng_for
from raynas.spaces import ElasticResNet, NASBench201, NASBench201Cells


def final(landscape: Synthetic, arch: object) -> float:
    found = landscape.query(arch, "synthetic", landscape.max_step, 0)  # type: ignore[arg-type]
    return found.values["val_accuracy"]


@settings(max_examples=15)
@given(seed=st.integers(0, 50), interaction=st.floats(0, 0.9))
def test_the_optimum_is_the_best_of_all_and_alone(seed: int, interaction: float) -> None:
    space = ToySpace(merge=True)
    landscape = Synthetic(seed=seed, interaction=interaction)
    landscape.setup(space)
    finals = {space.canonical(arch): final(landscape, arch) for arch in space.enumerate()}
    best = max(finals, key=lambda arch: finals[arch])
    assert best == landscape.optimum
    assert sorted(finals.values())[-2] < finals[best]
    assert finals[landscape.optimum] == pytest.approx(landscape.best)
    assert min(finals.values()) >= landscape.best - landscape.spread - 1e-9


@pytest.mark.parametrize("space", [NASBench201(), NASBench201Cells(), ElasticResNet()])
def test_any_space_has_a_landscape(space: object) -> None:
    landscape, rng = Synthetic(seed=3), rng_for(0)
    landscape.setup(space)  # type: ignore[arg-type]
    found = [final(landscape, space.sample(rng)) for _ in range(50)]  # type: ignore[attr-defined]
    assert len(set(found)) > 40
    assert max(found) < final(landscape, landscape.optimum) == pytest.approx(95.0)
    latencies = {landscape.cost(space.sample(rng), "synthetic", "latency_ms") for _ in range(50)}  # type: ignore[attr-defined]
    assert all(1 <= latency <= 10 for latency in latencies if latency is not None)
    assert len(latencies) > 5


def test_curves_rise_to_the_final_value_and_cross() -> None:
    space, landscape = ToySpace(), Synthetic(max_step=9)
    landscape.setup(space)
    curves = [
        [landscape.query(a, "synthetic", s, 0).values["val_accuracy"] for s in range(1, 10)]
        for a in space.enumerate()
    ]
    assert all(a < b for curve in curves for a, b in itertools.pairwise(curve))
    pairs = [(a, b) for a in curves for b in curves if a[0] < b[0] and a[-1] > b[-1]]
    assert pairs, "no early leader is overtaken"
    assert all(curve[0] > landscape.chance for curve in curves)


def test_isomorphic_architectures_are_one() -> None:
    space, landscape = ToySpace(merge=True), Synthetic(noise=2.0)
    landscape.setup(space)
    a, b = (space.architecture(f"x=1,y=2,op={op}") for op in "ab")
    for step in (1, 27):
        assert landscape.query(a, "synthetic", step, 5) == landscape.query(b, "synthetic", step, 5)


def test_noise_is_by_the_seed_and_as_large_as_said() -> None:
    space, landscape = ToySpace(), Synthetic(noise=1.5)
    landscape.setup(space)
    arch = space.architecture("x=1,y=2,op=a")
    values = [landscape.query(arch, "synthetic", 27, seed).values for seed in range(400)]
    assert values[7] == landscape.query(arch, "synthetic", 27, 7).values
    found = [v["val_accuracy"] for v in values]
    mean = sum(found) / 400
    deviation = (sum((v - mean) ** 2 for v in found) / 399) ** 0.5
    assert deviation == pytest.approx(1.5, abs=0.25)
    assert values[7]["val_accuracy"] != values[7]["test_accuracy"]


def test_settings_and_steps_are_checked() -> None:
    for wrong in (
        {"max_step": 0}, {"interaction": 1.5}, {"chance": 90.0}, {"noise": -1.0},
        {"seconds": float("inf")}, {"best": 101.0},
    ):  # fmt: skip
        with pytest.raises(UserError, match=next(iter(wrong))):
            Synthetic(**wrong)  # type: ignore[arg-type]
    landscape = Synthetic()
    with pytest.raises(RaynasError, match="before setup"):
        _ = landscape.optimum
    space = ToySpace()
    landscape.setup(space)
    with pytest.raises(UserError, match=r"1\.\.27"):
        landscape.query(landscape.optimum, "synthetic", 28, 0)
    with pytest.raises(UserError, match="latency_ms"):
        landscape.cost(landscape.optimum, "synthetic", "latency")
