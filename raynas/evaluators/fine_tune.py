"""Train what an architecture inherits from a supernet: a start that is worth most of a training."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from raynas.core import Architecture, UserError
from raynas.data.base import View
from raynas.evaluators.base import Evaluator
from raynas.evaluators.inheritance import (
    Assets,
    remarks_on,
    supernet_with_weights,
    weights_as_assets,
)
from raynas.evaluators.retrain import Retrain
from raynas.spaces.base import SearchSpace

if TYPE_CHECKING:
    from torch import nn

    from raynas.spaces.supernet import Supernet


@dataclass
class FineTune(Retrain):
    """``Retrain`` that begins with the weights of the architecture in a supernet.

    ``weights``: the file of the supernet's weights; None takes those that the run has trained.
    The recipe is that of a short training: few epochs, a low learning rate.
    """

    name: ClassVar[str] = "fine_tune"

    weights: Path | None = field(default=None, metadata={"fingerprint": False})
    _supernet: Supernet | None = field(default=None, init=False, repr=False, compare=False)
    _assets: Assets | None = field(default=None, init=False, repr=False, compare=False)

    def with_prepared(self, folder: Path) -> Evaluator:
        return replace(self, weights=folder) if self.weights is None else self

    def __getstate__(self) -> dict[str, Any]:
        """The settings alone: what it took on is made again elsewhere."""
        return self.__dict__ | {"_given": None, "_supernet": None, "_assets": None}

    def weights_version(self) -> str | None:
        from raynas.supernet.weights import read_version

        return None if self.weights is None else read_version(self.weights)

    def assets(self) -> Assets:
        """The weights. Raises: UserError, naming the file, when they cannot be used."""
        return weights_as_assets(self.weights)

    def equip(self, assets: Assets) -> None:
        self._assets = assets

    def remarks(self) -> tuple[str, ...]:
        return remarks_on(self.weights)

    def setup(self, space: SearchSpace, view: View) -> None:
        super().setup(space, view)
        self._supernet = None

    def check(self, arch: Architecture) -> None:
        """Also looks at the weights, where there are some.

        Raises: UserError when they are damaged, of another supernet, or were trained on images that
            are held out.
        """
        super().check(arch)
        if self.weights is not None:
            self._inherited()

    def _start(self, arch: Architecture, seed: int) -> nn.Module:
        """Raises: UserError when there are no weights, or those of another supernet."""
        return self._inherited().extract(arch).train()

    def _inherited(self) -> Supernet:
        """The supernet with its weights, read once per process."""
        if self.weights is None and self._assets is None:
            raise UserError(
                "FineTune has no weights to begin with",
                cure="use it in a run that trains a supernet, or set weights=PATH",
            )
        if self._supernet is None:
            self._supernet = supernet_with_weights(*self._ready(), self.weights, self._assets)
        return self._supernet
