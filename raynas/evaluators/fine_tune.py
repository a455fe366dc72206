"""This module trains architectures that begin with the weights of a supernet.

Such a start saves most of a training.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from raynas.core import Architecture, UserError
from raynas.evaluators.base import Evaluator
from raynas.evaluators.inheritance import (
    Assets,
    remarks_on,
    supernet_with_weights,
    weights_as_assets,
)
from raynas.evaluators.retrain import TrainingEvaluator

if TYPE_CHECKING:
    from torch import nn

    from raynas.spaces.supernet import Supernet


@dataclass
class FineTune(TrainingEvaluator):
    """A training that begins with the weights of the architecture in a supernet.

    The recipe is that of a short training: few epochs and a low learning rate.

    Attributes:
        recipe: How the network is trained.
        checkpoint_seconds: Training time between two checkpoints, in seconds.
        weights: File of the supernet's weights; None takes those that the run has trained.
    """

    name: ClassVar[str] = "fine_tune"

    weights: Path | None = field(default=None, metadata={"fingerprint": False})
    _supernet: tuple[object, Supernet] | None = field(
        default=None, init=False, repr=False, compare=False
    )
    _assets: Assets | None = field(default=None, init=False, repr=False, compare=False)

    def bind_weights(self, folder: Path) -> Evaluator:
        """Return a copy with the weights of the run, unless a file of weights was given.

        Args:
            folder: The folder with the weights that the run has trained.

        Returns:
            The copy, or the evaluator itself where it has weights.
        """
        return replace(self, weights=folder) if self.weights is None else self

    def __getstate__(self) -> dict[str, Any]:
        """Return the settings alone; what ``setup`` and ``load_assets`` took is made anew."""
        return self.__dict__ | {"_given": None, "_supernet": None, "_assets": None}

    def weights_version(self) -> str | None:
        """Return the version of the inherited weights.

        Returns:
            The version, or None while there is no file of weights.

        Raises:
            UserError: The weights are missing or damaged.
        """
        from raynas.supernet.weights import read_version

        return None if self.weights is None else read_version(self.weights)

    def assets(self) -> Assets:
        """Return the weights, to be sent to workers.

        Returns:
            Arrays by name; empty while there is no file of weights.

        Raises:
            UserError: The weights cannot be used; the message names the file.
        """
        return weights_as_assets(self.weights)

    def load_assets(self, assets: Assets) -> None:
        """Take the weights that were sent.

        Args:
            assets: Arrays by name, in shared memory.
        """
        self._assets = assets

    def remarks(self) -> tuple[str, ...]:
        """Say that it is unknown which images the weights were trained on, where it is.

        Returns:
            At most one sentence.

        Raises:
            UserError: The weights cannot be read.
        """
        return remarks_on(self.weights)

    def check(self, arch: Architecture) -> None:
        """Check the network of one architecture, and the weights where there are some.

        Args:
            arch: The architecture to test with.

        Raises:
            UserError: The network does not fit the data, or the weights are damaged, of another
                supernet, or were trained on images that are held out.
        """
        self.expect_trainable(arch)
        if self.weights is not None:
            self._inherited()

    def initial_network(self, arch: Architecture, seed: int) -> nn.Module:
        """Return the network with its inherited weights.

        Args:
            arch: The architecture.
            seed: Seed of the training, not used.

        Returns:
            The network in train mode on the CPU.

        Raises:
            UserError: There are no weights, or those of another supernet.
        """
        return self._inherited().extract(arch).train()

    def _inherited(self) -> Supernet:
        """Return the supernet with its weights, which are read once per ``setup``."""
        if self.weights is None and self._assets is None:
            raise UserError(
                "FineTune has no initial weights",
                hint="use it in a run that trains a supernet, or give weights=PATH",
            )
        given = self.given()
        if self._supernet is None or self._supernet[0] is not given:
            supernet = supernet_with_weights(*given, self.weights, self._assets)
            self._supernet = given, supernet
        return self._supernet[1]
