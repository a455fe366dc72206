"""This module has what a run tells about an architecture that it has found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from raynas.core import Architecture, UserError
from raynas.pipeline.history import history, reload
from raynas.pipeline.results import network_of
from raynas.store import RunFolder
from raynas.store.schema import SEARCH

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class FinalistTest:
    """The result of a finalist on the test data.

    Attributes:
        metric: The name of the metric, as ``"test_accuracy"``.
        mean: The mean over the seeds, in the unit of the metric.
        std: The standard deviation over the seeds; NaN for one seed.
        seeds: The number of seeds.
    """

    metric: str
    mean: float
    std: float
    seeds: int


@dataclass(frozen=True)
class ArchitectureResult:
    """An architecture that a run has found, and its results.

    Attributes:
        architecture: The architecture: choice -> option, with an id and a text form.
        trial: The number of the trial in the search.
        metrics: Metric -> value of the trial's last step, with the costs of the network (``params``
            in weights, ``macs`` in multiply-adds).
        test: The result on the test data; None unless it is a finalist.
    """

    architecture: Architecture
    trial: int
    metrics: Mapping[str, float]
    test: FinalistTest | None
    _folder: RunFolder = field(repr=False, compare=False)
    _trust: bool = field(repr=False, compare=False)

    def network(self) -> nn.Module:
        """Load the trained network; this executes the ``experiment.py`` of the run.

        The training of a finalist is preferred to the one of the search; of its seeds the first is
        taken, so that test data choose nothing.

        Returns:
            The network on the CPU, in eval mode.

        Raises:
            UserError: If the run keeps no trained network of this architecture.
        """
        folder = self._folder
        experiment = reload(folder, trust=self._trust).experiment
        searched, _ = history(folder, experiment, SEARCH, experiment.sampler.name)
        (trial,) = (t for t in searched if t.number == self.trial)
        best = network_of(folder, experiment, trial)
        if best is None:
            raise UserError(
                f"run {folder.place} keeps no trained network of trial {self.trial}",
                hint="a run keeps those of finalists and of the checkpoints' quota",
            )
        return best.network.eval()
