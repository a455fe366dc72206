"""A space whose own code raises for some architectures, each part of it when asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from toys import Curves, ToySpace

from raynas.core import Architecture, Costs, InfeasibleArchitecture, Job, Measurement
from raynas.evaluators.base import Evaluator
from raynas.evaluators.networks import build_network
from raynas.spaces.base import SearchSpace

Where = Literal["canonical", "costs", "build", "forward", "features", "mutate", "graph", "nowhere"]


@dataclass(frozen=True)
class FailingSpace(ToySpace):
    """Raises in ``where`` for architectures with ``x < bad``: 36 - 6 * bad of 36 (x, y) are fine.

    ``says_so``: it raises InfeasibleArchitecture, else a ValueError. Costs are counted from the
    network, as for a space that defines ``build`` only.
    """

    name: ClassVar[str] = "failing"
    where: Where = "build"
    bad: int = 3
    says_so: bool = False

    def _meet(self, where: Where, arch: Architecture) -> None:
        if where == self.where and int(arch["x"]) < self.bad:
            text = f"no {where} with x below {self.bad}"
            raise InfeasibleArchitecture(text) if self.says_so else ValueError(text)

    def canonical(self, arch: Architecture) -> Architecture:
        self._meet("canonical", arch)
        return super().canonical(arch)

    def costs(
        self,
        arch: Architecture,
        input_shape: tuple[int, int, int] = (1, 4, 4),
        num_classes: int = 2,
    ) -> Costs:
        self._meet("costs", arch)
        return SearchSpace.costs(self, arch, input_shape, num_classes)

    def build(
        self,
        arch: Architecture,
        input_shape: tuple[int, int, int] = (1, 4, 4),
        num_classes: int = 2,
    ) -> Any:
        from torch import nn

        self._meet("build", arch)
        space = self

        class Net(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                width = 1 + int(arch["y"])
                self.first = nn.Linear(int(np.prod(input_shape)), width)
                self.last = nn.Linear(width, num_classes)

            def forward(self, images: Any) -> Any:
                space._meet("forward", arch)
                return self.last(self.first(images.flatten(1)).relu())

        return Net()

    def features(self, arch: Architecture) -> NDArray[np.float32]:
        self._meet("features", arch)
        return self.encode(arch)

    def mutate(self, arch: Architecture, rng: np.random.Generator) -> Architecture:
        self._meet("mutate", arch)
        return super().mutate(arch, rng)

    def graph(self, arch: Architecture) -> Any:
        self._meet("graph", arch)
        return super().graph(arch)


@dataclass
class Built(Evaluator):
    """Needs the network of an architecture; what it measures is known without it."""

    name: ClassVar[str] = "built"
    max_step: int = 4

    def __post_init__(self) -> None:
        self._curves = Curves(max_step=self.max_step)
        self._given: tuple[Any, Any] | None = None

    @property
    def metrics(self) -> Any:
        return self._curves.metrics

    def setup(self, space: Any, view: Any) -> None:
        self._given = space, view
        self._curves.setup(space, view)

    def evaluate(self, arch: Architecture, job: Job) -> Iterator[Measurement]:
        assert self._given is not None
        space, view = self._given
        import torch

        network = build_network(space, arch, view.input_shape, view.num_classes, job.seed)
        network(torch.zeros(1, *view.input_shape))
        yield from self._curves.evaluate(arch, job)
