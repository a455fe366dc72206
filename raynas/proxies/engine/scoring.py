"""Scoring of one network by many proxies with few passes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import or_
from typing import Protocol

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from raynas.core import InvalidScore
from raynas.core.errors import first_line
from raynas.core.renamed import renamed_names
from raynas.layers.kernels import safe_kernels
from raynas.proxies.engine.batch import Batch
from raynas.proxies.engine.memory import keep_memory
from raynas.proxies.engine.probe import Needs, Probe, ends_all


class ScoredProxy(Protocol):
    """The interface that scoring requires of a proxy; see :class:`raynas.proxies.base.Proxy`."""

    @property
    def name(self) -> str:
        """The name of the proxy."""

    @property
    def needs(self) -> Needs:
        """The results of the shared pass that :meth:`measure` reads."""

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the numbers that :meth:`measure` gives."""

    def measure(self, probe: Probe) -> float | Mapping[str, float]:
        """Measure one network.

        Args:
            probe: The network, the batch and the shared passes.

        Returns:
            The score, or part -> number.
        """


@dataclass(frozen=True)
class NetworkScores:
    """The scores of one network by several proxies.

    Attributes:
        values: Part -> number, all finite.
        invalid: Part -> the reason why it has no number.
    """

    values: Mapping[str, float] = field(default_factory=dict)
    invalid: Mapping[str, str] = field(default_factory=dict)

    def value(self, part: str) -> float:
        """Return the number of one part.

        Args:
            part: The name of the part.

        Raises:
            InvalidScore: When the part has no number; the message is the reason.
        """
        if part in self.invalid:
            raise InvalidScore(self.invalid[part])
        return self.values[part]

    @property
    def note(self) -> str:
        """The missing scores and their reasons in one line.

        Returns:
            Each reason once, with the parts it applies to; an empty text when no score is missing.
        """
        reasons: dict[str, list[str]] = {}
        for part, reason in self.invalid.items():
            reasons.setdefault(reason, []).append(part)
        return "; ".join(f"no {', '.join(parts)}: {why}" for why, parts in reasons.items())


def score(
    network: nn.Module, batch: Batch, proxies: Sequence[ScoredProxy], *, seed: int = 0
) -> NetworkScores:
    """Score ``network`` by all ``proxies``, sharing forward and backward passes.

    The network is left exactly as it was: weights, statistics, gradients, modes, random state. A
    proxy that fails on the network has no score, with the error as its reason; the scores of the
    other proxies are not affected.

    Args:
        network: Turns images into logits, alone or among other tensors.
        batch: The images, on the network's device.
        proxies: The proxies to score by.
        seed: Of proxies that draw weights or images.

    Returns:
        A number or a reason for each part of each proxy.

    Raises:
        MemoryError, torch.OutOfMemoryError: When memory runs out: the same may work with more
        memory. torch.AcceleratorError: When a GPU can no longer be used.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from raynas.proxies import Batch, Params, SNIP, NASWOT
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(12, 4))
        >>> batch = Batch(torch.rand(4, 3, 2, 2), torch.tensor([0, 1, 2, 3]))
        >>> scores = score(network, batch, (Params(), NASWOT()))
        >>> scores.values["params"]
        52.0
        >>> scores.note
        'no naswot: no ReLU was called with a row per image; activations: none at all'
    """
    keep_memory()
    if lazy := _lazy_layers(network):
        why = f"layer {lazy[0]!r} has no weights yet: send a batch through the network once before"
        return NetworkScores({}, {part: why for proxy in proxies for part in proxy.parts})
    needs = reduce(or_, (proxy.needs for proxy in proxies), Needs.NOTHING)
    values: dict[str, float] = {}
    invalid: dict[str, str] = {}
    safe = safe_kernels(network, batch.images.device)
    with torch.inference_mode(False), torch.enable_grad(), safe:  # whatever modes are set
        probe = Probe(network, batch, needs, seed)
        for proxy in proxies:
            _add(proxy, probe, values, invalid)
    return NetworkScores(values, invalid)


def _add(
    proxy: ScoredProxy, probe: Probe, values: dict[str, float], invalid: dict[str, str]
) -> None:
    try:
        found = _measured(proxy, probe)
    except InvalidScore as reason:
        invalid |= dict.fromkeys(proxy.parts, str(reason))
        return
    except Exception as error:  # any type: the code of a network or of a user's proxy may raise it
        if ends_all(error):
            raise
        invalid |= dict.fromkeys(proxy.parts, first_line(error))
        return
    for part, value in found.items():
        if math.isfinite(value):
            values[part] = value
        else:
            invalid[part] = f"it is {value}"


def _measured(proxy: ScoredProxy, probe: Probe) -> Mapping[str, float]:
    found = proxy.measure(probe)
    given = found if isinstance(found, Mapping) else {proxy.name: found}
    if given.keys() != set(proxy.parts):
        raise InvalidScore(f"it gives {', '.join(given)}, not its parts {', '.join(proxy.parts)}")
    return {part: float(value) for part, value in given.items()}


def _lazy_layers(network: nn.Module) -> list[str]:
    """Return the names of modules whose weights take their shapes from the first batch."""
    return [
        name
        for name, module in network.named_modules()
        if any(map(is_lazy, (*module._parameters.values(), *module._buffers.values())))
    ]


__getattr__ = renamed_names(__name__, Scores="NetworkScores")
