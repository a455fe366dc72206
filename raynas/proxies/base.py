"""The contract of a proxy: a score of an untrained network, higher is better."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import nn

from raynas.core import InvalidScore, Metric, UserError
from raynas.core.metrics import SCORE_UNIT
from raynas.core.ranks import Table
from raynas.proxies.engine.batch import Batch
from raynas.proxies.engine.probe import Needs, Probe
from raynas.proxies.engine.scoring import score


class Proxy(ABC):
    """A score of a network that is not trained, from one batch.

    ``proxy(network, batch)`` works for any ``nn.Module`` that turns images into logits and leaves
    it as it was. Several proxies of one network are cheaper by :func:`raynas.proxies.score`,
    which shares passes: ``needs`` says which this one uses, :meth:`measure` takes them from the
    probe. Subclasses are frozen dataclasses whose fields are settings.

    A proxy that only ranks networks against each other has several ``parts``, numbers of one
    network that :meth:`combine` turns into scores of a population.
    """

    name: ClassVar[str]
    needs: ClassVar[Needs] = Needs.NOTHING

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the numbers that :meth:`measure` gives; for most proxies its own name."""
        return (self.name,)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """A column of the store for each part."""
        doc = " ".join((type(self).__doc__ or "").strip().split("\n\n")[0].split())
        return tuple(Metric(part, SCORE_UNIT, "max", doc) for part in self.parts)

    @abstractmethod
    def measure(self, probe: Probe) -> float | Mapping[str, float]:
        """The score, or part -> number. Raises: InvalidScore with the reason."""

    def combine(self, table: Table) -> NDArray[np.float64]:
        """(n,) scores of n networks from their parts; comparable within this table only."""
        return np.asarray(table[self.name], dtype=np.float64)

    def __call__(self, network: nn.Module, batch: Batch) -> float:
        """The score of ``network`` on ``batch``; higher is better.

        Raises: InvalidScore where there is none; a proxy with several parts has none for a
        network alone.
        """
        if len(self.parts) > 1:
            raise InvalidScore(
                f"{self.name} ranks networks against each other and gives one alone no score; "
                f"score several with {', '.join(self.parts)} and combine their ranks"
            )
        return score(network, batch, (self,)).value(self.name)


def check_proxies(proxies: Sequence[object]) -> None:
    """Raises: UserError when there are none, something else among them, or two of one name."""
    if isinstance(proxies, Proxy) or not isinstance(proxies, Iterable):
        raise UserError("proxies is no sequence", cure="write proxies=(NASWOT(),)")
    if not proxies:
        raise UserError("no proxies", cure="name at least one: proxies=(NASWOT(),)")
    for proxy in proxies:
        if not isinstance(proxy, Proxy):
            shown = proxy.__name__ if isinstance(proxy, type) else type(proxy).__name__
            raise UserError(f"{shown} is no proxy object", cure="write proxies=(NASWOT(), ...)")
    parts = [part for proxy in proxies if isinstance(proxy, Proxy) for part in proxy.parts]
    twice = sorted({part for part in parts if parts.count(part) > 1})
    if twice:
        raise UserError(f"two proxies give {', '.join(twice)}", cure="leave one of them out")
