"""One suite that every supernet passes. A space with a supernet is one line in ``SUPERNETS``."""

from __future__ import annotations

import copy
import importlib.util
import pickle
from functools import cache
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import nn

from raynas.core import Architecture, UserError
from raynas.layers import Elastic
from raynas.spaces import SPACES as REGISTERED
from raynas.spaces import ElasticResNet, NASBench201, NASBench201Cells, Supernet
from raynas.spaces.base import SearchSpace
from raynas.supernet.weights import load_weights, save_weights

torch.set_num_threads(1)

FILE = Path(__file__).resolve().parents[2] / "experiments" / "custom_space.py"
SHAPE, CLASSES = (2, 9, 7), 5


def own_space() -> SearchSpace:
    """The space of the example, as a user's own file makes it."""
    spec = importlib.util.spec_from_file_location("own_space", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    space = module.experiment().space
    assert isinstance(space, SearchSpace)
    return space


SUPERNETS: dict[str, SearchSpace] = {
    "nasbench201": NASBench201(channels=4, cells=1),
    "nasbench201_cells": NASBench201Cells(channels=3, cells=1),
    "nasbench201-affine": NASBench201(channels=3, cells=2, supernet_affine=True),
    "elastic": ElasticResNet(),
    "elastic-small": ElasticResNet(
        widths=((4, 8), (8, 16)),
        strides=(1, 3),
        depths=(1, 3),
        kernels=(1, 3, 5),
        expansions=(0.5, 1),
        resolutions=(6, 9),
        stem_width=3,
        divisor=4,
        kernel_transforms=True,
    ),
    "own": own_space(),
}

any_supernet = st.sampled_from(sorted(SUPERNETS))
seeds = st.integers(0, 2**31 - 1)
sides = st.integers(6, 13)


@cache
def trained(name: str) -> Supernet:
    """A supernet after a few passes, so that statistics are not those of the start."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        supernet = SUPERNETS[name].supernet(SHAPE, CLASSES)
        with torch.no_grad():
            for parameter in supernet.parameters():
                if parameter.ndim < 2:
                    parameter.uniform_(0.5, 1.5)
                elif parameter.shape[0] == parameter.shape[1]:  # matrices of kernels, too
                    parameter.add_(0.1 * torch.randn_like(parameter))
            rng = np.random.default_rng(2)
            for _ in range(8):
                supernet(torch.randn(4, *SHAPE), SUPERNETS[name].sample(rng))
    return supernet.eval()


def drawn(space: SearchSpace, seed: int) -> Architecture:
    return space.sample(np.random.default_rng(seed))


def images(seed: int, height: int = SHAPE[1], width: int = SHAPE[2]) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, SHAPE[0], height, width, generator=generator)


def test_the_registered_spaces_with_a_supernet_are_tested() -> None:
    here = {type(space) for space in SUPERNETS.values()}
    for cls in REGISTERED.values():
        has = cls.supernet is not SearchSpace.supernet
        assert has == (cls in here), cls.name


@settings(deadline=None, max_examples=40)
@given(any_supernet, seeds, sides, sides)
def test_the_extracted_network_computes_what_the_supernet_does(
    name: str, seed: int, height: int, width: int
) -> None:
    supernet, x = trained(name), images(seed, height, width)
    arch = drawn(supernet.space, seed)
    with torch.no_grad():
        wanted, found = supernet(x, arch), supernet.extract(arch)(x)
    assert wanted.shape == (3, CLASSES)
    assert wanted.isfinite().all()
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


@settings(deadline=None, max_examples=30)
@given(any_supernet, seeds)
def test_the_extracted_network_is_the_one_that_the_space_builds(name: str, seed: int) -> None:
    supernet = trained(name)
    arch = drawn(supernet.space, seed)
    extracted = supernet.extract(arch)
    built = supernet.space.build(arch, SHAPE, CLASSES)
    assert [(n, type(m)) for n, m in extracted.named_modules()] == [
        (n, type(m)) for n, m in built.named_modules()
    ]
    assert not any(isinstance(m, Elastic) for m in extracted.modules())
    assert {n: t.shape for n, t in extracted.state_dict().items()} == {
        n: t.shape for n, t in built.state_dict().items()
    }
    assert str(extracted) == str(built)
    built.load_state_dict(extracted.state_dict())
    costs = supernet.space.costs(arch, SHAPE, CLASSES)
    assert sum(p.numel() for p in extracted.parameters()) == costs.params


@settings(deadline=None, max_examples=30)
@given(any_supernet, seeds)
def test_what_is_used_has_gradients_and_nothing_else_has(name: str, seed: int) -> None:
    supernet = copy.deepcopy(trained(name)).train()
    arch = drawn(supernet.space, seed)
    supernet(images(seed), arch).square().sum().backward()
    parameters = dict(supernet.named_parameters())
    assert {n for n, p in parameters.items() if p.grad is not None} == supernet.used(arch)
    for parameter, region in supernet.active(arch).items():
        gradient = parameters[parameter].grad
        assert gradient is not None
        rest = torch.ones_like(gradient, dtype=torch.bool)
        rest[region] = False
        assert not gradient[rest].any(), parameter
        assert parameters[parameter][region].numel() > 0


@pytest.mark.parametrize("name", SUPERNETS)
def test_the_smallest_and_the_largest_span_the_supernet(name: str) -> None:
    supernet = trained(name)
    small, large = (supernet.space.costs(a, SHAPE, CLASSES) for a in supernet.space.extremes())
    rng = np.random.default_rng(0)
    for _ in range(10):
        costs = supernet.space.costs(supernet.space.sample_canonical(rng), SHAPE, CLASSES)
        assert small.params <= costs.params <= large.params
    assert supernet.used(supernet.space.extremes()[0]) <= {
        n for n, _ in supernet.named_parameters()
    }


@pytest.mark.parametrize("name", SUPERNETS)
def test_requests_may_interleave(name: str) -> None:
    supernet, x = trained(name), images(0)
    archs = [drawn(supernet.space, seed) for seed in range(4)]
    with torch.no_grad():
        alone = [supernet(x, arch) for arch in archs]
        for first in range(4):
            for second in range(4):
                supernet(x, archs[first])
                assert torch.equal(supernet(x, archs[second]), alone[second])


@pytest.mark.parametrize("name", SUPERNETS)
def test_extraction_leaves_the_supernet_and_the_random_state(name: str) -> None:
    supernet = trained(name)
    arch = drawn(supernet.space, 3)
    before = copy.deepcopy(supernet.state_dict())
    random = torch.get_rng_state()
    network = supernet.extract(arch)
    assert torch.equal(torch.get_rng_state(), random)
    assert not network.training
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.zero_()
    for tensor_name, tensor in supernet.state_dict().items():
        assert torch.equal(tensor, before[tensor_name]), tensor_name


@pytest.mark.parametrize("name", SUPERNETS)
def test_a_fresh_network_has_weights_of_its_own(name: str) -> None:
    supernet = trained(name)
    arch = supernet.space.extremes()[1]
    torch.manual_seed(0)
    fresh, extracted = supernet.fresh(arch), supernet.extract(arch)
    assert fresh.training
    first = [next(m for m in n.modules() if isinstance(m, nn.Conv2d)) for n in (fresh, extracted)]
    assert not torch.equal(first[0].weight, first[1].weight)
    for module in fresh.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert torch.equal(module.running_mean, torch.zeros_like(module.running_mean))
            assert torch.equal(module.weight, torch.ones_like(module.weight))


@pytest.mark.parametrize("name", SUPERNETS)
def test_sorted_channels_leave_the_largest_network_what_it_is(name: str) -> None:
    supernet = copy.deepcopy(trained(name))
    largest, x = supernet.space.extremes()[1], images(4)
    with torch.no_grad():
        before = supernet(x, largest)
        supernet.sort_channels()
        torch.testing.assert_close(supernet(x, largest), before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SUPERNETS)
def test_architectures_of_other_spaces_are_refused(name: str) -> None:
    supernet, x = trained(name), images(0)
    others = [s for s in SUPERNETS.values() if s.name != supernet.space.name]
    for other in others:
        arch = drawn(other, 0)
        for call in (
            lambda a=arch: supernet(x, a),
            *(lambda a=arch, m=m: getattr(supernet, m)(a) for m in ("extract", "used", "fresh")),
        ):
            with pytest.raises(UserError, match=f"'{other.name}', not of '{supernet.space.name}'"):
                call()
    with pytest.raises(UserError, match="option"):
        supernet(x, {**drawn(supernet.space, 0), supernet.space.choices[0].name: "no such"})


@pytest.mark.parametrize("name", SUPERNETS)
def test_images_of_other_channels_are_refused(name: str) -> None:
    supernet = trained(name)
    with pytest.raises(UserError, match="1 channels for a supernet of 2"):
        supernet(images(0)[:, :1], drawn(supernet.space, 0))


@pytest.mark.parametrize("name", SUPERNETS)
def test_supernets_are_pickled_and_weights_come_back(name: str, tmp_path: Path) -> None:
    supernet, x = trained(name), images(5)
    if name != "own":  # its class lives in a file that was loaded by its path
        pickle.loads(pickle.dumps(supernet))
    saved = save_weights(tmp_path, supernet, epoch=2, identity={"seed": 1})
    other = supernet.space.supernet(SHAPE, CLASSES).eval()
    assert load_weights(tmp_path, other) == saved
    arch = drawn(supernet.space, 1)
    with torch.no_grad():
        assert torch.equal(other(x, arch), supernet(x, arch))
