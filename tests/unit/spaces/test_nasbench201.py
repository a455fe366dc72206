"""The cells of NAS-Bench-201: text, order, classes, reachability, costs, network."""

import math
import pickle
from collections import defaultdict
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from raynas.core import Costs, UserError
from raynas.spaces import NASBench201
from raynas.spaces.base import counted_costs
from raynas.spaces.nasbench201.operations import EDGES, OPERATIONS
from raynas.spaces.nasbench201.text import EXAMPLE

torch.set_num_threads(1)

SPACE = NASBench201()
TABLE = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "nb201.parquet"
FIRST = "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"  # noqa: E501


def cell(*operations):
    names = [choice.name for choice in SPACE.choices]
    return SPACE.architecture(dict(zip(names, operations, strict=True)))


cells = st.lists(st.sampled_from(OPERATIONS), min_size=6, max_size=6).map(lambda ops: cell(*ops))


@pytest.fixture(scope="module")
def all_cells():
    return list(SPACE.enumerate())


@pytest.fixture(scope="module")
def table():
    if not TABLE.exists():
        pytest.skip("no ../shared/data/nb201.parquet beside the checkout")
    import pyarrow.parquet as pq

    costs = [f"{d}_{c}" for d in ("cifar10", "cifar100", "imagenet16") for c in ("params_M",)]
    flops = ["cifar10_flops_M", "cifar100_flops_M", "imagenet16_flops_M"]
    columns = ["index", "arch", "unique_str", "iso_class", *costs, *flops]
    columns += ["params_published_inconsistent"]
    return pq.read_table(TABLE, columns=columns).to_pylist()


def test_the_text_is_the_benchmarks():
    arch = cell(
        "avg_pool_3x3", "nor_conv_1x1", "skip_connect", "nor_conv_1x1", *["skip_connect"] * 2
    )
    assert str(arch) == FIRST
    assert SPACE.architecture(FIRST) == arch
    assert arch["op_1_2"] == "skip_connect"


@settings(deadline=None)
@given(cells)
def test_text_and_index_come_back(arch):
    assert SPACE.architecture(arch.text) == arch
    assert SPACE.from_index(SPACE.official_index(arch)) == arch


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "1 nodes"),
        ("|none~0|+|none~0|none~1|", "2 nodes joined by '+' instead of 3"),
        ("none~0+|none~0|none~1|+|none~0|none~1|none~2|", "node 1 'none~0'"),
        ("|none~0|+|none~0|+|none~0|none~1|none~2|", "node 2 has 1 edges instead of 2"),
        ("|none~0|+|none~0|none~0|+|none~0|none~1|none~2|", "edge 'none~0' of node 2"),
        ("|none|+|none~0|none~1|+|none~0|none~1|none~2|", "edge 'none' of node 1"),
    ],
)
def test_malformed_text_is_explained_with_an_example(text, named):
    with pytest.raises(UserError) as error:
        SPACE.architecture(text)
    assert named in str(error.value)
    assert EXAMPLE in str(error.value)
    assert "\n" not in str(error.value)
    assert SPACE.architecture(EXAMPLE).text == EXAMPLE


def test_an_unknown_operation_is_answered_with_the_nearest_one():
    with pytest.raises(UserError, match=r"'nor_conv_3x4'.*expected: none, .*mean 'nor_conv_3x3'"):
        SPACE.architecture(EXAMPLE.replace("3x3~0", "3x4~0"))


def test_official_order(all_cells):
    assert SPACE.from_index(0).text == FIRST
    assert SPACE.from_index(1).text.startswith("|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+")
    assert sorted(map(SPACE.official_index, all_cells)) == list(range(15_625))
    for index in (-1, 15_625):
        with pytest.raises(UserError, match=r"0\.\.15624"):
            SPACE.from_index(index)


def test_official_order_is_that_of_the_table(table):
    assert all(SPACE.from_index(row["index"]).text == row["arch"] for row in table)
    assert len(table) == 15_625


def test_there_are_6466_classes(all_cells):
    representatives = {SPACE.canonical(arch) for arch in all_cells}
    assert len(representatives) == 6_466
    assert all(SPACE.canonical(arch) == arch for arch in representatives)


def test_classes_are_those_of_the_table(table):
    for column in ("iso_class", "unique_str"):
        pairs = {(row[column], SPACE.canonical(SPACE.architecture(row["arch"]))) for row in table}
        assert len({key for key, _ in pairs}) == len({arch for _, arch in pairs}) == len(pairs)


def test_the_representative_is_the_lightest_then_the_sparsest_then_the_first(all_cells):
    classes = defaultdict(list)
    for arch in all_cells:
        classes[SPACE.canonical(arch)].append(arch)
    for channels in (1, 2, 16):
        space = NASBench201(channels=channels)
        costs = {arch: space.costs(arch) for arch in all_cells}
        for chosen, members in classes.items():
            assert chosen in members
            assert costs[chosen].params == min(costs[m].params for m in members)
            assert costs[chosen].macs == min(costs[m].macs for m in members)
            equal = [m for m in members if costs[m] == costs[chosen]]
            most = max(m.options.count("none") for m in equal)
            sparse = [m for m in equal if m.options.count("none") == most]
            assert chosen == min(sparse, key=SPACE.official_index)


def value_of(arch):
    """The cell's output where numbers stand for images and odd functions for operations."""
    functions = {
        "none": lambda _: 0.0,
        "skip_connect": lambda v: v,
        "nor_conv_1x1": lambda v: 1.3 * math.tanh(0.7 * v),
        "nor_conv_3x3": lambda v: 0.9 * math.atan(1.9 * v),
        "avg_pool_3x3": lambda v: 0.6 * v + 0.2 * math.sin(v),
    }
    nodes = [0.73, 0.0, 0.0, 0.0]
    for (source, target), operation in zip(EDGES, arch.options, strict=True):
        nodes[target] += functions[operation](nodes[source])
    return nodes[3]


def test_canonical_cells_compute_the_same(all_cells):
    assert all(
        value_of(SPACE.canonical(arch)) == pytest.approx(value_of(arch), rel=1e-12, abs=1e-12)
        for arch in all_cells
    )
    # the stand-in tells cells apart: one value per function when all algebra is allowed
    assert len({round(value_of(arch), 10) for arch in all_cells}) == 4_930


def test_edges_that_lead_nowhere_or_come_from_nowhere_become_none():
    arch = cell("none", "skip_connect", "nor_conv_3x3", "nor_conv_3x3", "avg_pool_3x3", "none")
    assert SPACE.canonical(arch) == cell(*["none"] * 3, "nor_conv_3x3", "none", "none")


def test_341_cells_are_not_connected(all_cells):
    dead = [arch for arch in all_cells if not SPACE.connected(arch)]
    assert len(dead) == 341
    assert all(value_of(arch) == 0.0 for arch in dead)
    assert not SPACE.connected(cell("nor_conv_3x3", "none", "none", "none", "none", "skip_connect"))
    assert SPACE.connected(
        cell("nor_conv_3x3", "none", "skip_connect", "none", "none", "none")
    ) is (False)
    assert SPACE.connected(cell("nor_conv_3x3", "none", "none", "none", "skip_connect", "none"))


def test_costs_of_all_cells_follow_the_published_form(all_cells):
    for arch in all_cells:
        n3, n1 = arch.options.count("nor_conv_3x3"), arch.options.count("nor_conv_1x1")
        params = 73_306 + 243_040 * n3 + 28_000 * n1
        macs = 7_783_050 + 35_389_440 * n3 + 3_932_160 * n1
        assert SPACE.costs(arch) == Costs(params, macs)
        assert SPACE.costs(arch, num_classes=100).params == params + 90 * 65


def test_costs_are_those_of_the_table(table):
    sets = {"cifar10": (10, 32), "cifar100": (100, 32), "imagenet16": (120, 16)}
    for row in table:
        arch = SPACE.architecture(row["arch"])
        for name, (classes, side) in sets.items():
            costs = SPACE.costs(arch, (3, side, side), classes)
            assert costs.macs / 1e6 == pytest.approx(row[f"{name}_flops_M"], abs=1e-5)
            if not row["params_published_inconsistent"]:
                assert costs.params / 1e6 == pytest.approx(row[f"{name}_params_M"], abs=1e-6)


@settings(max_examples=12, deadline=None)
@given(
    cells,
    st.integers(1, 9),
    st.integers(1, 2),
    st.tuples(st.integers(1, 4), st.integers(1, 19), st.integers(1, 19)),
    st.integers(2, 12),
)
def test_closed_form_equals_the_count_for_other_settings(arch, channels, depth, shape, classes):
    space = NASBench201(channels=channels, cells=depth)
    assert space.costs(arch, shape, classes) == counted_costs(space, arch, shape, classes)


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (2, 7, 9)])
def test_network_takes_any_image(shape):
    network = NASBench201(channels=4, cells=1).build(SPACE.from_index(1), shape, 7)
    images = torch.zeros(2, *shape)
    assert network(images).shape == (2, 7)
    assert network.features(images).shape == (2, 16)


def test_a_dead_cell_trains_without_error_and_sees_nothing():
    dead = cell(*["none"] * 6)
    network = NASBench201(channels=4, cells=1).build(dead, (1, 8, 8))
    logits = network(torch.randn(3, 1, 8, 8))
    logits.sum().backward()
    assert torch.allclose(logits[0], logits[1])
    assert network.stem[0].weight.grad.abs().sum() == 0


def test_graph_leaves_out_none():
    graph = SPACE.graph(
        cell("nor_conv_3x3", "none", "skip_connect", "none", "none", "skip_connect")
    )
    assert len(graph.nodes) == 4
    assert graph.edges == (
        (0, 1, "nor_conv_3x3"),
        (1, 2, "skip_connect"),
        (2, 3, "skip_connect"),
    )


@pytest.mark.parametrize(
    "wrong", [{"channels": 0}, {"cells": 0}, {"channels": 2.5}, {"cells": True}]
)
def test_settings_are_checked(wrong):
    with pytest.raises(UserError, match=r"integers from 1|whole number"):
        NASBench201(**wrong)


def test_space_is_a_value():
    assert pickle.loads(pickle.dumps(SPACE)) == SPACE == NASBench201(16, 5)
    assert len({SPACE, NASBench201()}) == 1


def test_canonical_draws_are_uniform_over_the_classes_and_not_over_the_cells():
    rng = np.random.default_rng(0)
    drawn = [SPACE.sample_canonical(rng) for _ in range(3000)]
    assert all(SPACE.canonical(arch) == arch for arch in drawn)
    # 275 of 15,625 cells are this one: of 3,000 drawn cells 53, of drawn classes not one
    lone = "|none~0|+|none~0|none~1|+|nor_conv_3x3~0|none~1|none~2|"
    assert sum(SPACE.canonical(arch).text == lone for arch in SPACE.enumerate()) == 275
    assert sum(arch.text == lone for arch in drawn) <= 5
    assert len(set(drawn)) > 2300  # 2,400 are expected of 6,466


def test_the_extremes_carry_the_input_and_all_that_there_is():
    smallest, largest = SPACE.extremes()
    assert SPACE.connected(smallest)
    assert smallest.text == "|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"
    assert set(largest.options) == {"nor_conv_3x3"}


def test_edges_that_lead_nowhere_are_not_computed_in_the_supernet():
    from raynas.spaces.nasbench201.supernet import live_edges

    arch = cell("nor_conv_3x3", "nor_conv_1x1", "avg_pool_3x3", "skip_connect", "none", "none")
    assert live_edges(arch) == ["op_0_3"]
    assert live_edges(SPACE.extremes()[1]) == [choice.name for choice in SPACE.choices]
    supernet = NASBench201(channels=2, cells=1).supernet((3, 8, 8), 3)
    assert not any("edges" in name for name in supernet.used(arch))


def test_features_count_the_paths_without_their_skips():
    from raynas.spaces.nasbench201.space import _SEQUENCES

    def paths(text: str) -> dict[str, float]:
        found = NASBench201().features(NASBench201().architecture(text))[-len(_SEQUENCES) :]
        short = {"nor_conv_1x1": "1", "nor_conv_3x3": "3", "avg_pool_3x3": "p"}
        return {
            "".join(short[op] for op in path): float(found[place])
            for path, place in _SEQUENCES.items()
            if found[place]
        }

    assert len(_SEQUENCES) == 40
    cell = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|none~0|avg_pool_3x3~1|nor_conv_3x3~2|"
    assert paths(cell) == {"3p": 1.0, "3": 1.0, "313": 1.0}
    alike = "|skip_connect~0|+|none~0|nor_conv_3x3~1|+|nor_conv_3x3~0|none~1|skip_connect~2|"
    assert paths(alike) == {"3": 2.0}
    assert paths("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|") == {}
