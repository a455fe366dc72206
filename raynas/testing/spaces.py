"""The contract suite of search spaces.

Example: a test file for a space of your own.

.. code-block:: python

    from dataclasses import dataclass
    from typing import ClassVar

    import pytest
    from torch import nn

    from raynas.core import Choice
    from raynas.spaces.base import SearchSpace
    from raynas.testing.spaces import SearchSpaceTestCase


    @dataclass(frozen=True)
    class OneLayer(SearchSpace):
        name: ClassVar[str] = "one_layer"

        @property
        def choices(self):
            return Choice("width", (2, 4, 8), ordered=True), Choice("act", ("ReLU", "Tanh"))

        def build(self, arch, input_shape=(3, 32, 32), num_classes=10):
            return nn.Sequential(
                nn.Conv2d(input_shape[0], arch["width"], 3),
                getattr(nn, arch["act"])(),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
                nn.Linear(arch["width"], num_classes),
            )


    class TestOneLayer(SearchSpaceTestCase):
        @pytest.fixture
        def space(self):
            return OneLayer()
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from raynas.core import Architecture, UserError
from raynas.core.ability import has
from raynas.core.describe import describe, fingerprint
from raynas.spaces.abilities import MakesMutants
from raynas.spaces.base import InputShape, SearchSpace, counted_costs


class SearchSpaceFixtures:
    """The fixtures of the contract suite of search spaces."""

    @pytest.fixture
    def space(self) -> SearchSpace:
        """Return the space to test."""
        raise NotImplementedError("define the fixture `space` in your subclass")

    @pytest.fixture
    def small_space(self, space: SearchSpace) -> SearchSpace:
        """Return a space with the same architectures and small networks."""
        return space

    @pytest.fixture
    def archs(self, space: SearchSpace) -> list[Architecture]:
        """Return twenty random architectures."""
        rng = np.random.default_rng(5)
        return [space.sample(rng) for _ in range(20)]

    @pytest.fixture(params=[(1, 8, 8), (3, 16, 12)], ids=str)
    def input_shape(self, request: pytest.FixtureRequest) -> InputShape:
        """Return the (channels, height, width) of an image."""
        shape: InputShape = request.param
        return shape


class SearchSpaceTestCase(SearchSpaceFixtures):
    """What every search space does. A subclass defines the fixture ``space``.

    The space must build networks for images of (1, 8, 8), (3, 16, 12) and (1, 12, 12); where it
    cannot, override the fixture ``input_shape``. With a large network, define ``small_space``, too.
    """

    def test_choices_are_stable_and_uniquely_named(self, space: SearchSpace) -> None:
        """Choices are stable and uniquely named."""
        names = [choice.name for choice in space.choices]
        assert len(set(names)) == len(names)
        assert space.choices == space.choices
        assert space.size == np.prod([len(c) for c in space.choices], dtype=object)

    def test_text_values_and_architectures_come_back(
        self, space: SearchSpace, archs: list[Architecture]
    ) -> None:
        """Text values and architectures come back."""
        for arch in archs:
            assert space.architecture(arch.text) == arch
            assert space.architecture(dict(arch)) == arch
            assert space.architecture(arch) == arch
            assert list(arch) == [choice.name for choice in space.choices]
            assert "\n" not in arch.text

    def test_values_keep_the_type_of_the_option(
        self, space: SearchSpace, archs: list[Architecture]
    ) -> None:
        """Values keep the type of the option."""
        for arch in archs:
            again = space.architecture(arch.text)
            assert [type(option) for option in again.options] == [type(o) for o in arch.options]
            assert again.id == arch.id

    def test_architectures_are_values(self, space: SearchSpace, archs: list[Architecture]) -> None:
        """Architectures are values."""
        assert isinstance(archs[0], Mapping)
        assert {arch: arch.id for arch in archs} == {
            space.architecture(a.text): a.id for a in archs
        }
        assert len({arch.id for arch in archs}) == len(set(archs))

    def test_a_hundred_thousand_architectures_share_their_parts(
        self, space: SearchSpace, archs: list[Architecture]
    ) -> None:
        """A hundred thousand architectures share their parts."""
        first, second = archs[0], space.architecture(dict(archs[0]))
        assert all(a is b for a, b in zip(first.pairs, second.pairs, strict=True))

    @pytest.mark.parametrize("text", ["", "nonsense", "=", "|", "a=b", "_-", "+++"])
    def test_bad_text_is_one_line_for_the_user(self, space: SearchSpace, text: str) -> None:
        """Bad text is one line for the user."""
        with pytest.raises(UserError) as error:
            space.architecture(text)
        assert "\n" not in str(error.value)

    def test_bad_values_name_the_choice(
        self, space: SearchSpace, archs: list[Architecture]
    ) -> None:
        """Bad values name the choice."""
        values = dict(archs[0])
        first = space.choices[0].name
        with pytest.raises(UserError, match=first):
            space.architecture({**values, first: "no such option"})
        with pytest.raises(UserError, match="no_such_choice"):
            space.architecture({**values, "no_such_choice": 1})
        del values[first]
        with pytest.raises(UserError, match=first):
            space.architecture(values)

    def test_sampling_follows_the_generator(self, space: SearchSpace) -> None:
        """Sampling follows the generator."""

        def draw(seed: int) -> list[Architecture]:
            rng = np.random.default_rng(seed)
            return [space.sample(rng) for _ in range(8)]

        assert draw(1) == draw(1)
        assert draw(1) != draw(2)

    def test_sampling_reaches_every_option(self, space: SearchSpace) -> None:
        """Sampling reaches every option."""
        rng = np.random.default_rng(0)
        seen = {pair for _ in range(120) for pair in space.sample(rng).items()}
        assert seen == {(c.name, option) for c in space.choices for option in c.options}

    def test_canonical_draws_are_canonical_and_follow_the_generator(
        self, space: SearchSpace
    ) -> None:
        """Canonical draws are canonical and follow the generator."""
        draws = [
            [space.sample_canonical(rng) for _ in range(8)]
            for rng in (
                np.random.default_rng(1),
                np.random.default_rng(1),
                np.random.default_rng(2),
            )
        ]
        assert draws[0] == draws[1] != draws[2]
        assert all(space.canonical(arch) == arch for arch in draws[0])

    def test_the_extremes_are_canonical_and_span_what_is_drawn(
        self, space: SearchSpace, archs: list[Architecture]
    ) -> None:
        """The extremes are canonical and span what is drawn."""
        smallest, largest = space.extremes()
        assert [space.canonical(a) for a in (smallest, largest)] == [smallest, largest]
        small, large = (space.costs(a, (1, 12, 12), 3) for a in (smallest, largest))
        drawn = [space.costs(a, (1, 12, 12), 3).params for a in archs]
        assert small.params <= min(drawn)
        assert large.params >= max(drawn)

    def test_mutation_changes_every_choice_and_one_at_a_time_by_default(
        self, space: SearchSpace, archs: list[Architecture]
    ) -> None:
        """Mutation changes every choice and one at a time by default."""
        rng = np.random.default_rng(2)
        changed = {name for a in archs * 20 for name in _differences(a, space.mutate(a, rng))}
        assert changed == {c.name for c in space.choices if len(c) > 1}
        one_at_a_time = not has(space, MakesMutants)
        for arch in archs:
            child = space.mutate(arch, np.random.default_rng(3))
            assert len(_differences(arch, child)) == 1 if one_at_a_time else child != arch
            assert child == space.mutate(arch, np.random.default_rng(3))

    def test_neighbors_are_all_at_distance_one(
        self, space: SearchSpace, archs: list[Architecture]
    ) -> None:
        """Neighbors are all at distance one."""
        neighbors = list(space.neighbors(archs[0]))
        assert len(neighbors) == len(set(neighbors)) == sum(len(c) - 1 for c in space.choices)
        assert all(len(_differences(archs[0], neighbor)) == 1 for neighbor in neighbors)

    def test_encoding_is_a_vector_that_tells_architectures_apart(
        self, space: SearchSpace, archs: list[Architecture]
    ) -> None:
        """Encoding is a vector that tells architectures apart."""
        codes = [space.encode(arch) for arch in archs]
        assert {(code.shape, code.dtype) for code in codes} == {
            (codes[0].shape, np.dtype("float32"))
        }
        assert all(
            np.isfinite(code).all() and (code >= 0).all() and (code <= 1).all() for code in codes
        )
        assert len({code.tobytes() for code in codes}) == len(set(archs))

    def test_features_are_finite_and_tell_architectures_apart(
        self, space: SearchSpace, archs: list[Architecture]
    ) -> None:
        """Features are finite and tell architectures apart."""
        canonical = list({space.canonical(arch) for arch in archs})
        found = [space.features(arch) for arch in canonical]
        assert {f.dtype for f in found} == {np.dtype(np.float32)}
        assert len({f.shape for f in found}) == 1
        assert np.isfinite(found).all()
        assert len({f.tobytes() for f in found}) == len(canonical)
        again = space.architecture(dict(canonical[0]))
        assert np.array_equal(space.features(again), found[0])

    def test_canonical_is_idempotent_and_costs_no_more(
        self, space: SearchSpace, archs: list[Architecture]
    ) -> None:
        """Canonical is idempotent and costs no more."""
        for arch in archs:
            canonical = space.canonical(arch)
            assert space.canonical(canonical) == canonical
            light, full = (space.costs(a, (1, 12, 12), 3) for a in (canonical, arch))
            assert light.params <= full.params
            assert light.macs <= full.macs

    def test_canonical_computes_the_same(
        self, small_space: SearchSpace, archs: list[Architecture]
    ) -> None:
        """Canonical computes the same."""
        images = torch.randn(2, 1, 12, 12, generator=torch.Generator().manual_seed(0))
        changed = [arch for arch in archs if small_space.canonical(arch) != arch][:6]
        for arch in changed:
            logits = [
                _fill(small_space.build(a, (1, 12, 12), 3))(images)
                for a in (arch, small_space.canonical(arch))
            ]
            torch.testing.assert_close(*logits, rtol=1e-4, atol=1e-5)
            assert logits[0].isfinite().all()

    def test_networks_have_the_shape_and_the_costs_that_the_space_says(
        self, space: SearchSpace, archs: list[Architecture], input_shape: InputShape
    ) -> None:
        """Networks have the shape and the costs that the space says."""
        for arch in archs[:2]:
            network = space.build(arch, input_shape, 7).eval()
            with torch.no_grad():
                logits = network(torch.zeros(2, *input_shape))
            assert logits.shape == (2, 7)
            assert logits.isfinite().all()
            costs = space.costs(arch, input_shape, 7)
            assert replace(costs, layers=None) == counted_costs(space, arch, input_shape, 7)
            assert costs.params == sum(p.numel() for p in network.parameters())

    def test_networks_train(self, space: SearchSpace, archs: list[Architecture]) -> None:
        """Networks train."""
        network = space.build(archs[0], (1, 8, 8), 3)
        loss = network(torch.randn(4, 1, 8, 8)).square().mean()
        loss.backward()
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())

    def test_costs_leave_the_random_state(
        self, space: SearchSpace, archs: list[Architecture]
    ) -> None:
        """Costs leave the random state."""
        before = torch.get_rng_state()
        space.costs(archs[0], (1, 8, 8))
        assert torch.equal(torch.get_rng_state(), before)

    def test_graph_has_arrows_between_its_nodes(
        self, space: SearchSpace, archs: list[Architecture]
    ) -> None:
        """Graph has arrows between its nodes."""
        for arch in archs:
            graph = space.graph(arch)
            assert len(graph.nodes) > 1
            assert all(0 <= s < t < len(graph.nodes) for s, t, _ in graph.edges)

    def test_settings_have_a_fingerprint(self, space: SearchSpace) -> None:
        """Settings have a fingerprint."""
        assert len(fingerprint(describe(space))) == 12
        assert describe(space)["class"] == type(space).__name__


def _differences(a: Architecture, b: Architecture) -> list[str]:
    return [name for name in a if a[name] != b[name]]


def _fill(network: nn.Module) -> nn.Module:
    """Weights that depend on a tensor's shape only, so that equal operations are equal."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            elif parameter.ndim > 1:
                generator = torch.Generator().manual_seed(parameter.numel() + parameter.shape[-1])
                scale = (2 / parameter[0].numel()) ** 0.5
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    return network.eval()
