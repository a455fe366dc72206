"""A synthetic benchmark over any search space, with a known optimum and learning curves.

It serves for tests of samplers and schedulers, and for planning: its accuracies are invented.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from raynas.benchmarks.base import TabularBenchmark
from raynas.core import (
    Architecture,
    Measurement,
    Metric,
    Option,
    RaynasError,
    UserError,
    rng_for,
    seed_for,
    unknown_option,
)
from raynas.core.fields import check_fields
from raynas.core.metrics import LATENCY, TEST_ACCURACY, VAL_ACCURACY
from raynas.spaces.base import SearchSpace

_KEPT = 100_000


@dataclass
class Synthetic(TabularBenchmark):
    """A synthetic benchmark whose accuracy falls with the distance from one hidden architecture.

    Every choice has a weight, every option a distance from the hidden option in [0, 1]: along the
    order of an ordered choice, drawn at random for other choices. A loss in [0, 1] is their
    weighted mean; the share ``interaction`` of it counts only where two neighbouring choices are
    both wrong. The final accuracy is ``best - spread * loss`` percent. A training of ``max_step``
    steps rises exponentially from ``chance`` at a speed of the architecture's own, so that curves
    cross.

    Attributes:
        max_step: Steps of a complete training.
        best: Final accuracy of the hidden architecture, in percent.
        spread: Drop of the final accuracy at loss 1, in percent.
        interaction: Share of the loss that depends on pairs of choices, from 0 to 1.
        chance: Accuracy before training, in percent.
        seconds: Mean time of one step; an architecture takes 0.5 to 1.5 of it.
        noise: Standard deviation of a measurement in percent, drawn by the training's seed.
        seed: Of the benchmark.

    Raises:
        UserError: When a setting is outside its range.

    Example:
        >>> from raynas.spaces.nasbench201.space import NASBench201
        >>> table = Synthetic(max_step=3)
        >>> table.setup(NASBench201())
        >>> table.steps("synthetic")
        (1, 2, 3)
        >>> round(table.query(table.optimum, "synthetic", 3, seed=0).values["val_accuracy"], 6)
        95.0
    """

    name: ClassVar[str] = "synthetic"

    max_step: int = 27
    best: float = 95.0
    spread: float = 40.0
    interaction: float = 0.3
    chance: float = 10.0
    seconds: float = 60.0
    noise: float = 0.0
    seed: int = 0
    _space: SearchSpace | None = field(default=None, init=False, repr=False, compare=False)
    _hidden: Architecture | None = field(default=None, init=False, repr=False, compare=False)
    _weights: NDArray[np.float64] = field(init=False, repr=False, compare=False)
    _distances: list[Mapping[Option, float]] = field(init=False, repr=False, compare=False)
    _known: dict[Architecture, _Facts] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if self.max_step < 1:
            raise UserError(f"Synthetic max_step={self.max_step}", expected="1 or more")
        if not 0 <= self.interaction <= 1:
            raise UserError(f"Synthetic interaction={self.interaction}", expected="0..1")
        if not 0 <= self.chance <= self.best - self.spread <= self.best <= 100:
            raise UserError(
                f"Synthetic chance={self.chance}, best={self.best}, spread={self.spread}",
                expected="0 <= chance <= best - spread <= best <= 100",
            )
        for name in ("seconds", "noise"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"Synthetic {name}={getattr(self, name)}", expected="0 or more")

    @property
    def datasets(self) -> tuple[str, ...]:
        """The name of its only data set."""
        return ("synthetic",)

    @property
    def costs(self) -> tuple[Metric, ...]:
        """The latency in ms, the only cost."""
        return (LATENCY,)

    @property
    def optimum(self) -> Architecture:
        """The hidden architecture, whose final accuracy is ``best``.

        Returns:
            The architecture, in canonical form.

        Raises:
            RaynasError: When :meth:`setup` was not called.
        """
        if self._hidden is None:
            raise RaynasError("Synthetic is used before setup(space)")
        return self._hidden

    def setup(self, space: SearchSpace) -> None:
        """Draw the hidden architecture, the weights and the distances for ``space``.

        Args:
            space: Any search space; the same one again changes nothing.
        """
        if self._space == space:
            return
        rng = rng_for("synthetic", self.seed)
        self._space = space
        self._hidden = space.canonical(space.sample(rng))
        self._weights = rng.dirichlet(np.full(len(space.choices), 2.0))
        self._distances = []
        for choice in space.choices:
            best = choice.options.index(self._hidden[choice.name])
            if choice.ordered:
                far = max(best, len(choice) - 1 - best, 1)
                found = [abs(i - best) / far for i in range(len(choice))]
            else:
                found = [
                    0.0 if i == best else d for i, d in enumerate(rng.uniform(0.2, 1, len(choice)))
                ]
            self._distances.append(dict(zip(choice.options, found, strict=True)))
        self._known = {}

    def steps(self, dataset: str) -> tuple[int, ...]:
        """Return 1 to ``max_step``."""
        return tuple(range(1, self.max_step + 1))

    def query(self, arch: Architecture, dataset: str, step: int, seed: int) -> Measurement:
        """Return the accuracy of a training at one step.

        Args:
            arch: Any architecture of the space.
            dataset: Has no effect.
            step: From 1 to ``max_step``.
            seed: Of the noise.

        Returns:
            ``val_accuracy``, and at the last step ``test_accuracy``, in percent, with the seconds
            of one step.

        Raises:
            UserError: When ``step`` is outside the training.
        """
        if not 1 <= step <= self.max_step:
            raise UserError(f"step {step} of a synthetic training", expected=f"1..{self.max_step}")
        facts = self._facts(arch)
        rise = math.expm1(-facts.speed * step / self.max_step) / math.expm1(-facts.speed)
        value = self.chance + (facts.final - self.chance) * rise
        values = {VAL_ACCURACY.name: self._measured(value, facts, step, seed, "val")}
        if step == self.max_step:
            values[TEST_ACCURACY.name] = self._measured(value, facts, step, seed, "test")
        return Measurement(step, values, facts.seconds)

    def cost(self, arch: Architecture, dataset: str, metric: str) -> float | None:
        """Return a latency that grows along the options of every choice.

        Args:
            arch: Any architecture of the space.
            dataset: Has no effect.
            metric: The name of the latency.

        Returns:
            Milliseconds, from 1 to 10.

        Raises:
            UserError: When ``metric`` is another one.
        """
        if metric != LATENCY.name:
            raise unknown_option("cost of a synthetic benchmark:", metric, [LATENCY.name])
        return self._facts(arch).latency

    def _facts(self, arch: Architecture) -> _Facts:
        if arch not in self._known:
            if len(self._known) >= _KEPT:
                self._known.clear()
            self._known[arch] = self._learn(arch)
        return self._known[arch]

    def _learn(self, arch: Architecture) -> _Facts:
        if self._space is None:
            raise RaynasError("Synthetic is used before setup(space)")
        arch = self._space.canonical(arch)
        apart = np.array(
            [d[arch[c.name]] for c, d in zip(self._space.choices, self._distances, strict=True)]
        )
        alone = float(self._weights @ apart)
        pairs = self._weights + np.roll(self._weights, 1)
        both = float(pairs @ (apart * np.roll(apart, 1))) / 2
        loss = (1 - self.interaction) * alone + self.interaction * both
        places = [
            c.options.index(arch[c.name]) / (len(c) - 1) for c in self._space.choices if len(c) > 1
        ]
        own = rng_for("synthetic", self.seed, arch.id)
        return _Facts(
            id=arch.id,
            final=self.best - self.spread * loss,
            speed=float(own.uniform(2, 8)),
            seconds=self.seconds * float(own.uniform(0.5, 1.5)),
            latency=1 + 9 * float(np.mean(places)) if places else 1.0,
        )

    def _measured(self, value: float, facts: _Facts, step: int, seed: int, split: str) -> float:
        if not self.noise:
            return value
        draw = np.random.default_rng(seed_for(seed, facts.id, step, split)).normal()
        return min(max(value + self.noise * float(draw), 0.0), 100.0)


@dataclass(frozen=True)
class _Facts:
    """The properties of one architecture in the benchmark."""

    id: str
    final: float
    speed: float
    seconds: float
    latency: float
