"""The contract of a proxy: a score of an untrained network, higher is better."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import nn

from raynas.core import InvalidScore, Metric, UserError
from raynas.core.metrics import SCORE_UNIT
from raynas.core.ranks import Table
from raynas.proxies.engine.batch import Batch
from raynas.proxies.engine.probe import Needs, Probe
from raynas.proxies.engine.scoring import score


@runtime_checkable
class RanksNetworks(Protocol):
    """A proxy that only ranks networks against each other, by several numbers of each.

    Attributes:
        part_names: The names of the numbers that :meth:`Proxy.measure` gives.
    """

    @property
    def part_names(self) -> tuple[str, ...]:
        """The names of the numbers of one network, two or more."""

    def rank_scores(self, table: Table) -> NDArray[np.float64]:
        """Turn the numbers of several networks into their scores.

        Args:
            table: Name of a number -> (n,) values of n networks.

        Returns:
            (n,) scores float64, higher is better; comparable within this table only.
        """


class Proxy(ABC):
    """A score of a network that is not trained, computed from one batch.

    ``proxy(network, batch)`` works for any ``nn.Module`` that turns images into logits, and leaves
    the network unchanged. Several proxies of one network are cheaper by
    :func:`raynas.proxies.score`, which shares passes: ``needs`` declares the results of the shared
    pass that this proxy uses, and :meth:`measure` takes them from the probe. Subclasses are frozen
    dataclasses whose fields are settings.

    A proxy that only ranks networks against each other also defines ``part_names`` and
    ``rank_scores``; see :class:`RanksNetworks`.

    Attributes:
        name: The name on the command line and in the store.
        needs: The results of the shared pass that :meth:`measure` reads.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from raynas.proxies import Batch, Params
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(12, 4))
        >>> images = torch.rand(4, 3, 2, 2)
        >>> Params()(network, Batch(images, torch.tensor([0, 1, 2, 3])))
        52.0
    """

    name: ClassVar[str]
    needs: ClassVar[Needs] = Needs.NOTHING

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the numbers that :meth:`measure` gives.

        Returns:
            For most proxies its own name; for one that :class:`RanksNetworks` its ``part_names``.
        """
        return self.part_names if isinstance(self, RanksNetworks) else (self.name,)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The columns of the store for the parts of this proxy.

        Returns:
            One metric per part, described by the first paragraph of the class's docstring.
        """
        doc = " ".join((type(self).__doc__ or "").strip().split("\n\n")[0].split())
        return tuple(Metric(part, SCORE_UNIT, "max", doc) for part in self.parts)

    @abstractmethod
    def measure(self, probe: Probe) -> float | Mapping[str, float]:
        """Measure one network.

        Args:
            probe: The network, the batch and the passes that proxies share.

        Returns:
            The score, or part -> number for a proxy with several parts.

        Raises:
            InvalidScore: When the network has no score; the message is the reason.
        """

    def combine(self, table: Table) -> NDArray[np.float64]:
        """Turn the parts of several networks into their scores.

        Args:
            table: Part -> (n,) numbers of n networks.

        Returns:
            (n,) scores float64, higher is better; comparable within this table only.
        """
        if isinstance(self, RanksNetworks):
            return self.rank_scores(table)
        return np.asarray(table[self.name], dtype=np.float64)

    def __call__(self, network: nn.Module, batch: Batch) -> float:
        """Return the score of one network.

        Args:
            network: Turns images into logits; it is not changed.
            batch: Images and labels, on the network's device.

        Returns:
            The score; higher is better.

        Raises:
            InvalidScore: When the network has no score.
            InvalidScore: When the proxy has several parts: it has no score for a single network.
        """
        if len(self.parts) > 1:
            raise InvalidScore(
                f"{self.name} ranks networks against each other and gives one alone no score; "
                f"score several with {', '.join(self.parts)} and combine their ranks"
            )
        return score(network, batch, (self,)).value(self.name)


def check_proxies(proxies: Sequence[object]) -> None:
    """Check that ``proxies`` is a sequence of proxy objects with different names.

    Args:
        proxies: The value that a user has given.

    Raises:
        UserError: When it is not a sequence.
        UserError: When it is empty.
        UserError: When an entry is not a proxy object.
        UserError: When two proxies give a part of the same name.
    """
    if isinstance(proxies, Proxy) or not isinstance(proxies, Iterable):
        raise UserError("proxies is not a sequence", hint="write proxies=(NASWOT(),)")
    if not proxies:
        raise UserError("no proxies", hint="name at least one: proxies=(NASWOT(),)")
    for proxy in proxies:
        if not isinstance(proxy, Proxy):
            shown = proxy.__name__ if isinstance(proxy, type) else type(proxy).__name__
            raise UserError(f"{shown} is not a proxy object", hint="write proxies=(NASWOT(), ...)")
    parts = [part for proxy in proxies if isinstance(proxy, Proxy) for part in proxy.parts]
    twice = sorted({part for part in parts if parts.count(part) > 1})
    if twice:
        raise UserError(f"two proxies give {', '.join(twice)}", hint="leave one of them out")
