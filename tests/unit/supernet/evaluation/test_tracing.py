"""Programs of networks: recorded once, shared where they agree, exact."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_supernet import Tiny
from torch import Tensor, nn
from torch.nn import functional as F

from raynas.core import Architecture
from raynas.spaces import ElasticResNet, NASBench201
from raynas.spaces.base import SearchSpace
from raynas.spaces.supernet import Supernet
from raynas.supernet.calibration import recalibrate
from raynas.supernet.evaluation.batched import BatchedExecutor
from raynas.supernet.evaluation.execution_plan import ExecutionPlan, ExecutionStep, steps
from raynas.supernet.evaluation.tracing import NotRecordableError, ValueTable, record

SHAPE = (3, 12, 12)
SPACES: dict[str, SearchSpace] = {
    "elastic": ElasticResNet(widths=((8, 12), (8, 16)), strides=(1, 2), stem_width=8),
    "resolutions": ElasticResNet(
        widths=((8, 12),), strides=(2,), stem_width=8, depths=(1, 2), resolutions=(8, 12)
    ),
    "transforms": ElasticResNet(
        widths=((8,),), strides=(2,), stem_width=8, depths=(1,), kernel_transforms=True
    ),
    "nasbench201": NASBench201(channels=4, cells=1),
    "affine": NASBench201(channels=4, cells=1, supernet_affine=True),
    "tiny": Tiny(),
    "tiny without norms": Tiny(norms=False, dropout=0.5),
}


def supernet_of(space: SearchSpace) -> Supernet:
    """With batch norms that are not the identity."""
    torch.manual_seed(0)
    supernet = space.supernet(SHAPE, 5).eval()
    for tensor in supernet.parameters():
        if tensor.ndim == 1:
            nn.init.uniform_(tensor, 0.5, 1.5)
    return supernet


def book_of(supernet: Supernet) -> ValueTable:
    return ValueTable([*supernet.parameters(), *supernet.buffers()])


def program(supernet: Supernet, arch: Architecture, book: ValueTable) -> list[ExecutionStep]:
    return steps(record(lambda x: supernet(x, arch), torch.zeros(SHAPE), book))


def planned(programs: list[list[ExecutionStep]], *, stacked: bool = False) -> ExecutionPlan:
    return ExecutionPlan(programs, [p[-1].number for p in programs], stacked)


@pytest.mark.parametrize("kind", SPACES)
@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 6), stacked=st.booleans())
def test_together_they_compute_what_each_does_alone(
    kind: str, seed: int, count: int, stacked: bool
) -> None:
    space = SPACES[kind]
    supernet, rng = supernet_of(space), np.random.default_rng(seed)
    archs = [space.sample_canonical(rng) for _ in range(count)]
    book = book_of(supernet)
    plan = planned([program(supernet, arch, book) for arch in archs], stacked=stacked)
    generator = torch.Generator().manual_seed(seed)
    calibration = [torch.randn(n, *SHAPE, generator=generator) for n in (9, 9, 4)]
    images = torch.randn(7, *SHAPE, generator=generator)
    together = BatchedExecutor(book.number("images"))
    together.calibrate(plan, calibration)
    for arch, logits in zip(archs, together.logits(plan, images), strict=True):
        network = supernet.extract(arch)
        recalibrate(network, calibration)
        with torch.inference_mode():
            wanted = network(images)
        assert (logits - wanted).abs().max() <= 1e-4 * max(1.0, float(wanted.abs().max()))


def test_equal_prefixes_are_computed_once_and_depth_is_one() -> None:
    space = SPACES["elastic"]
    supernet = supernet_of(space)
    book = book_of(supernet)
    deep = space.architecture("w8d3-k3e0.5-k3e0.5-k5e1.0_w8d1-k3e0.5")
    flat = space.architecture("w8d2-k3e0.5-k3e0.5_w16d1-k3e0.5")
    programs = [program(supernet, arch, book) for arch in (deep, flat)]
    shared = {s.number for s in programs[0]} & {s.number for s in programs[1]}
    convolutions = [s for s in programs[0] if s.number in shared and s.conv is not None]
    assert len(convolutions) == 1 + 3 + 1 + 3  # stem, two blocks, the first one's projection
    plan = planned(programs)
    assert len(plan.steps) == len(programs[0]) + len(programs[1]) - len(shared)
    assert len({s.number for s in plan.steps}) == len(plan.steps)


def test_convolution_norm_sum_and_relu_are_one_step() -> None:
    supernet = supernet_of(SPACES["elastic"])
    found = program(supernet, SPACES["elastic"].extremes()[0], book_of(supernet))
    assert not any(s.operation.function is F.conv2d for s in found)
    assert sum(s.norm is not None for s in found) == 1 + 2 * 4
    assert sum(s.rectified for s in found) == 1 + 2 * 3
    assert sum(s.added for s in found) == 2


def test_sums_of_tensors_of_other_shapes_are_left_alone() -> None:
    torch.manual_seed(0)
    first, second = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 1, 1)
    norm = nn.BatchNorm2d(4).eval()

    def forward(x: Tensor) -> Tensor:
        y = norm(first(x)) + second(x)
        return torch.add(norm(first(x)), y, alpha=2) + (y + y)

    found = steps(record(forward, torch.zeros(SHAPE), ValueTable()))
    assert not any(s.added for s in found)
    book = ValueTable()
    together, images = BatchedExecutor(book.number("images")), torch.randn(3, *SHAPE)
    plan = planned([found])
    together.calibrate(plan, [images])
    logits = together.logits(plan, images)[0]
    recalibrate(norm, [first(images).detach()])
    assert (logits - forward(images)).abs().max() < 1e-4


def test_results_are_let_go_after_their_last_use() -> None:
    supernet = supernet_of(SPACES["nasbench201"])
    rng, book = np.random.default_rng(1), book_of(supernet)
    archs = [SPACES["nasbench201"].sample_canonical(rng) for _ in range(5)]
    plan = planned([program(supernet, arch, book) for arch in archs])
    alive, most = {book.number("images")}, 0
    for (step,), ends in zip(plan.waves, plan.ends, strict=True):
        assert set(step.inputs) <= alive
        alive.add(step.number)
        most = max(most, len(alive))
        alive -= set(ends)
    assert alive == set(plan.results)
    assert most < len(plan.steps)


def test_equal_operations_on_other_inputs_share_a_launch() -> None:
    supernet = supernet_of(SPACES["nasbench201"])
    rng, book = np.random.default_rng(1), book_of(supernet)
    archs = [SPACES["nasbench201"].sample_canonical(rng) for _ in range(12)]
    programs = [program(supernet, arch, book) for arch in archs]
    alone, stacked = planned(programs), planned(programs, stacked=True)
    assert {s.number for s in stacked.steps} == {s.number for s in alone.steps}
    assert len(stacked.waves) < len(alone.waves) / 2 < sum(map(len, programs)) / 2
    done = {book.number("images")}
    for wave in stacked.waves:
        assert {n for s in wave for n in s.inputs} <= done
        assert len({s.kind for s in wave}) == 1
        done |= {s.number for s in wave}


def test_weights_are_known_by_place_and_other_constants_by_content() -> None:
    weight = nn.Parameter(torch.randn(4, 3, 1, 1))
    book = ValueTable([weight])

    def number(forward: Callable[[Tensor], Tensor]) -> int:
        return record(forward, torch.zeros(SHAPE), book).result

    half = number(lambda x: F.conv2d(x, weight[:2]))
    assert number(lambda x: F.conv2d(x, weight[:2])) == half
    assert number(lambda x: F.conv2d(x, weight[2:])) != half
    added = number(lambda x: x + torch.ones(1))
    assert number(lambda x: x + torch.ones(1)) == added
    assert number(lambda x: x + torch.full((1,), 2.0)) != added


def test_what_is_overwritten_belongs_to_its_owner_alone() -> None:
    def twice(x: Tensor) -> Tensor:
        y = x.mean(dim=(2, 3))
        kept = y * 1.0
        y.add_(1.0)
        return torch.cat([kept, y, F.relu(kept - 10, inplace=True)], dim=1)

    found = steps(record(twice, torch.zeros(SHAPE), ValueTable()))
    images = torch.randn(4, *SHAPE)
    together = BatchedExecutor(ValueTable().number("images"))
    plan = planned([found])
    for _ in range(2):
        assert torch.equal(together.logits(plan, images.clone())[0], twice(images.clone()))


@pytest.mark.parametrize(
    "forward",
    [
        lambda x: x * float(x.sum()),
        lambda x: x if x.mean() > 0 else -x,
        lambda x: x.reshape(x.shape[0], -1),
        lambda x: x.split(1, dim=1)[0],
        lambda _: torch.zeros(11, 3),
        lambda x: (x[:, :1].add_(1.0), x)[1],
    ],
)
def test_what_cannot_be_repeated_is_refused(forward: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(NotRecordableError):
        record(forward, torch.zeros(SHAPE), ValueTable())
