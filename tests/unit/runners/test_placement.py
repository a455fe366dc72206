"""Shares hold what they are for, and what shares a device fits on it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import Curves, ToyData, ToySpace

from raynas.core import UserError
from raynas.data import Digits
from raynas.evaluators import Retrain
from raynas.evaluators.abilities import memory_of
from raynas.runners import base
from raynas.runners.base import Resources, steps
from raynas.runners.placement import (
    CONTEXT,
    SMALLEST,
    SMALLEST_MEMORY,
    DeviceKind,
    MemoryFit,
    MemoryModel,
    ResourceAllocator,
    ResourceRequest,
    gpu_share,
    largest_and_all,
    memory_share,
)
from raynas.spaces import NASBench201
from raynas.training import Recipe

GB = 10**9
SIZES = st.integers(0, 200 * GB)
CARDS = st.integers(GB, 200 * GB)


@given(SIZES, CARDS)
def test_a_share_of_a_gpu_holds_what_is_needed_and_is_the_smallest(needed: int, card: int) -> None:
    share = gpu_share(needed, card)
    assert SMALLEST <= share <= 1
    assert math.log2(share).is_integer()
    assert share == 1 or needed <= share * card
    assert share == SMALLEST or needed > share / 2 * card


@given(SIZES, CARDS)
def test_a_share_of_memory_holds_what_is_needed(needed: int, most: int) -> None:
    share = memory_share(needed, most)
    assert share <= most
    assert share == most or share >= max(needed, SMALLEST_MEMORY)
    assert share in (most, SMALLEST_MEMORY) or share < 2 * needed


@given(SIZES, SIZES, CARDS)
def test_larger_networks_never_get_less(one: int, other: int, card: int) -> None:
    low, high = sorted((one, other))
    assert gpu_share(low, card) <= gpu_share(high, card)
    assert memory_share(low, card) <= memory_share(high, card)


@given(st.lists(st.integers(0, 40 * GB), min_size=1, max_size=40), CARDS)
def test_what_is_packed_on_a_device_is_never_more_than_it_has(needs: list[int], card: int) -> None:
    """In the order in which they come, each where there is room, as Ray packs shares."""
    placer = ResourceAllocator(ResourceRequest(1.0), (0, 0), (DeviceKind(card),))
    sizes = MemoryFit(CONTEXT)
    devices: list[list[tuple[float, int]]] = []
    for number, predicted in enumerate(needs):
        share = placer.place(number, predicted).gpus
        fits = (d for d in devices if sum(s for s, _ in d) + share <= 1)
        device = next(fits, None)
        if device is None:
            devices.append(device := [])
        device.append((share, sizes(predicted)))
    for device in devices:
        assert sum(size for _, size in device) <= card or len(device) == 1


@given(
    st.lists(st.tuples(st.integers(0, 40 * GB), st.integers(1, 80 * GB)), max_size=30),
    st.integers(0, 40 * GB),
    st.integers(0, 40 * GB),
)
def test_expected_sizes_lie_above_all_that_was_seen_and_never_fall(
    seen: list[tuple[int, int]], one: int, other: int
) -> None:
    sizes = MemoryFit(CONTEXT)
    assert sizes(0) == CONTEXT
    for predicted, peak in seen:
        sizes.saw(predicted, peak)
    assert all(sizes(predicted) >= peak * 0.999999 for predicted, peak in seen)
    low, high = sorted((one, other))
    assert sizes(low) <= sizes(high)


def test_what_is_seen_replaces_the_assumptions() -> None:
    sizes = MemoryFit(CONTEXT)
    assert sizes(10 * GB) == 1.5 * 10 * GB + CONTEXT
    for predicted in (1, 2, 4):
        sizes.saw(predicted * GB, 2 * predicted * GB + GB // 2)
    assert sizes(10 * GB) == pytest.approx(1.1 * 20.5 * GB)
    assert sizes(0) == pytest.approx(1.1 * GB / 2)


def test_a_placer_learns_each_peak_once_and_from_the_right_device() -> None:
    learned = MemoryModel()
    placer = ResourceAllocator(
        ResourceRequest(1.0), (0, 0), (DeviceKind(80 * GB),), learned=learned
    )
    assert placer.place(0, 10 * GB).gpus == 0.25
    for peak in (30 * GB, 30 * GB, 0, 20 * GB):
        placer.saw(0, peak, on_gpu=True)
    placer.saw(7, 99 * GB, on_gpu=True)  # nothing was predicted
    assert placer.place(1, 10 * GB).gpus == 0.5
    assert len(learned.gpu._seen) == 1
    assert learned.memory(0) == MemoryModel().memory(0)


def test_small_networks_go_to_small_devices_while_these_have_room() -> None:
    small, large = DeviceKind(16 * GB, 1, "T4"), DeviceKind(80 * GB, 1, "A100")
    placer = ResourceAllocator(ResourceRequest(1.0), (0, 0), (large, small))
    shares = [placer.place(n, 4 * GB) for n in range(3)]
    assert [(s.kind, s.gpus) for s in shares] == [("T4", 0.5), ("T4", 0.5), ("A100", 0.125)]
    assert placer.place(3, 40 * GB) == ResourceRequest(1.0, 0, "A100", limit=True)
    assert placer.place(4, 400 * GB).kind == "A100"  # fits nowhere: the largest is tried
    assert placer.place(5, None) == ResourceRequest(1.0, 0, "A100", limit=True)
    assert not placer.has_room(range(6))
    assert placer.has_room([0, 2])


def test_what_waits_for_room_waits_before_others_are_asked_for() -> None:
    placer = ResourceAllocator(ResourceRequest(1.0), (0, 0), (DeviceKind(16 * GB),))
    assert placer.place(0, 4 * GB).gpus == 0.5
    assert placer.has_room([0])
    assert placer.place(1, 10 * GB).gpus == 1.0
    assert not placer.has_room([0, 1])
    assert not placer.has_room([1])
    assert placer.has_room([])


def test_the_second_try_has_twice_as_much_up_to_all() -> None:
    placer = ResourceAllocator(ResourceRequest(1.0), (0, 0), (DeviceKind(16 * GB),))
    for predicted, shares in [(GB, (0.25, 0.5)), (4 * GB, (0.5, 1.0)), (12 * GB, (1.0, 1.0))]:
        first, second = (placer.place(0, predicted, more).gpus for more in (False, True))
        assert (first, second) == shares
    two = ResourceAllocator(
        ResourceRequest(1.0), (0, 0), (DeviceKind(16 * GB, 1, "T4"), DeviceKind(40 * GB, 1, "A100"))
    )
    assert two.place(0, 10 * GB).kind == "T4"
    assert two.place(0, 10 * GB, more=True) == ResourceRequest(1.0, 0, "A100", limit=True)
    after_a_resume = ResourceAllocator(ResourceRequest(1.0), (0, 0), (DeviceKind(16 * GB),))
    assert after_a_resume.place(0, 4 * GB, more=True).gpus == 1.0


@pytest.mark.parametrize(
    ("fixed", "second"),
    [
        (ResourceRequest(0.25), ResourceRequest(0.5)),
        (ResourceRequest(0.75), ResourceRequest(1.0)),
        (ResourceRequest(2.0), ResourceRequest(2.0)),
        (ResourceRequest(), ResourceRequest()),
        (ResourceRequest(0.0, 3 * GB), ResourceRequest(0.0, 6 * GB)),
        (ResourceRequest(0.0, 6 * GB), ResourceRequest(0.0, 8 * GB)),
    ],
)
def test_a_fixed_share_is_doubled_too(fixed: ResourceRequest, second: ResourceRequest) -> None:
    placer = ResourceAllocator(fixed, (8 * GB, 16 * GB))
    assert placer.place(0, None) == fixed
    assert placer.place(0, None, more=True) == second
    assert not placer.asks
    assert placer.has_room(range(100))


def test_main_memory_is_booked_where_there_is_no_gpu() -> None:
    nodes = [{"memory": 4.0 * 2**30, "CPU": 2.0}, {"memory": 2.0 * 2**30}, {}]
    memory = largest_and_all(nodes)
    assert memory == (4 * 2**30, 6 * 2**30)
    placer = ResourceAllocator(ResourceRequest(), memory, fits_memory=True)
    assert placer.asks
    assert placer.place(0, GB) == ResourceRequest(0.0, 4 * 2**30)
    assert placer.place(1, 10**6) == ResourceRequest(0.0, 2**30)
    assert placer.has_room([0, 1])
    assert placer.place(2, None) == ResourceRequest()
    placer.place(3, 10**6)
    assert not placer.has_room([0, 1, 2, 3])


def test_shares_as_ray_takes_them() -> None:
    assert ResourceRequest(0.5, 2**30, "T4").bundle(2.0) == {
        "CPU": 2.0, "GPU": 0.5, "memory": 2**30, "accelerator_type:T4": 0.001
    }  # fmt: skip
    assert ResourceRequest().bundle(0.5) == {"CPU": 0.5, "GPU": 0.0}


def test_a_training_predicts_its_network_and_its_images() -> None:
    view, space = Digits(subset=64).search_view(0), NASBench201(channels=4, cells=1)
    arch = next(iter(space.enumerate()))
    small, large = (
        Retrain(Recipe(epochs=1, batch_size=size)).memory(arch, space, view) for size in (8, 64)
    )
    assert small is not None
    assert large is not None
    assert view.train.pixels.nbytes < small < large
    assert memory_of(Curves(), ToySpace().architecture("x=0,y=0,op=a"), ToySpace(), view) is None


def test_what_failed_says_how_much_room_there_was() -> None:
    from raynas.core import Job

    arch, evaluator = (
        ToySpace().architecture("x=0,y=0,op=a"),
        Curves(fault={"x=0,y=0,op=a": "memory"}),
    )
    evaluator.setup(ToySpace(), ToyData().search_view(0))
    outcome = list(steps(evaluator, arch, Job(0, 0, 4), ResourceRequest(memory=3 * GB)))[-1]
    assert (outcome.out_of_memory, outcome.room) == (True, "3 GB of memory")


@pytest.mark.parametrize(
    "wrong",
    [{"gpus": -1.0}, {"gpus": "all"}, {"memory": 0.0}, {"memory": "much"}, {"patience": 0.0}],
)
def test_resources_that_make_no_sense(wrong: dict[str, object]) -> None:
    named = rf"(resources\.|Resources has ){next(iter(wrong))}=.*expected"
    with pytest.raises(UserError, match=named):
        Resources(**wrong)  # type: ignore[arg-type]
    assert base.pick_device(Resources(gpus="fit").gpus) in ("cpu", "cuda")
