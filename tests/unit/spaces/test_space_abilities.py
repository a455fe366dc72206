"""What a space may define is asked for by the methods that users call."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from raynas.core import Architecture, ArchitectureGraph, Choice, Costs, Option
from raynas.spaces.base import SearchSpace
from raynas.spaces.roundtrip import has_plain_text
from raynas.spaces.stored import StoredSpace

WIDTH = Choice("width", (8, 16, 32), ordered=True)
GRAPH = ArchitectureGraph(("in", "out"), ((0, 1, "all"),))


class Widths(SearchSpace):
    name: ClassVar[str] = "widths"
    choices = (WIDTH,)


class Able(Widths):
    """Defines everything that is optional."""

    def to_text(self, values: Mapping[str, Option]) -> str:
        return f"w{values['width']}"

    def from_text(self, text: str) -> dict[str, Option]:
        return {"width": int(text[1:])}

    def canonical_form(self, arch: Architecture) -> Architecture:
        return self.architecture("w8")

    def draw(self, rng: np.random.Generator) -> Architecture:
        return self.architecture("w16")

    def draw_canonical(self, rng: np.random.Generator) -> Architecture:
        return self.architecture("w32")

    def mutant(self, arch: Architecture, rng: np.random.Generator) -> Architecture:
        return self.architecture("w32")

    def smallest_and_largest(self) -> tuple[Architecture, Architecture]:
        return self.architecture("w16"), self.architecture("w16")

    def closed_form_costs(
        self, arch: Architecture, input_shape: tuple[int, int, int], num_classes: int
    ) -> Costs:
        return Costs(params=num_classes, macs=input_shape[0])

    def more_features(self, arch: Architecture) -> np.ndarray:
        return np.asarray([7.0], dtype=np.float32)

    def diagram(self, arch: Architecture) -> ArchitectureGraph:
        return GRAPH


class Older(Widths):
    """Written for raynas 0.1: it replaces what users call."""

    def format(self, values: Mapping[str, Option]) -> str:
        return f"w{values['width']}"

    def parse(self, text: str) -> dict[str, Option]:
        return {"width": int(text[1:])}

    def canonical(self, arch: Architecture) -> Architecture:
        return super().canonical(self.architecture("w8"))

    def sample(self, rng: np.random.Generator) -> Architecture:
        return self.architecture("w16")

    def costs(self, arch, input_shape=(3, 32, 32), num_classes=10):
        return Costs(params=num_classes, macs=input_shape[0])

    def graph(self, arch: Architecture) -> ArchitectureGraph:
        return GRAPH


def test_what_a_space_defines_is_used():
    space, rng = Able(), np.random.default_rng(0)
    arch = space.architecture({"width": 16})
    assert arch.text == "w16"
    assert space.architecture("w16") == arch
    assert space.canonical(arch).text == "w8"
    assert space.sample(rng).text == "w16"
    assert space.sample_canonical(rng).text == space.mutate(arch, rng).text == "w32"
    assert space.extremes() == (arch, arch)
    assert space.costs(arch, (5, 4, 4), 3) == Costs(params=3, macs=5)
    assert np.allclose(space.features(arch), [0.5, np.log1p(10), np.log1p(3), 7])
    assert space.graph(arch) == GRAPH


def test_a_space_of_raynas_0_1_keeps_working():
    space, rng = Older(), np.random.default_rng(0)
    arch = space.architecture({"width": 16})
    assert space.architecture("w16") == arch
    assert space.canonical(arch).text == space.sample_canonical(rng).text == "w8"
    assert np.allclose(space.features(arch), [0.5, np.log1p(10), np.log1p(3)])


def test_what_is_stored_tells_plain_texts_and_drawings_from_others():
    kinds = [StoredSpace.of(space) for space in (Widths(), Able(), Older())]
    assert [(k.plain_text, k.plain_graph) for k in kinds] == [(True, True), *[(False, False)] * 2]
    assert [has_plain_text(space) for space in (Widths(), Able(), Older())] == [True, False, False]
