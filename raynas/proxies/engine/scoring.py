"""Many proxies of one network at the price of few passes."""

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
from raynas.layers.kernels import safe_kernels
from raynas.proxies.engine.batch import Batch
from raynas.proxies.engine.memory import keep_memory
from raynas.proxies.engine.probe import Needs, Probe, ends_all


class Scorer(Protocol):
    """What scoring asks of a proxy; see :class:`raynas.proxies.base.Proxy`."""

    @property
    def name(self) -> str:
        """The name of the proxy."""

    @property
    def needs(self) -> Needs:
        """What it takes from the shared pass."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the numbers that it measures."""

    def measure(self, probe: Probe) -> float | Mapping[str, float]:
        """Return the score, or part -> number."""


@dataclass(frozen=True)
class Scores:
    """``values``: part -> number, all finite. ``invalid``: part -> why it has none."""

    values: Mapping[str, float] = field(default_factory=dict)
    invalid: Mapping[str, str] = field(default_factory=dict)

    def value(self, part: str) -> float:
        """Raises: InvalidScore with the reason where there is no score."""
        if part in self.invalid:
            raise InvalidScore(self.invalid[part])
        return self.values[part]

    @property
    def note(self) -> str:
        """Which scores there are not, and why, in one line; equal reasons are said once."""
        reasons: dict[str, list[str]] = {}
        for part, reason in self.invalid.items():
            reasons.setdefault(reason, []).append(part)
        return "; ".join(f"no {', '.join(parts)}: {why}" for why, parts in reasons.items())


def score(network: nn.Module, batch: Batch, proxies: Sequence[Scorer], *, seed: int = 0) -> Scores:
    """Score ``network`` by all ``proxies``, sharing forward and backward passes.

    The network is left exactly as it was: weights, statistics, gradients, modes, random state. A
    proxy that fails on it, by whatever error, has no score, with the error as its reason; the
    scores of the others stand.

    Args:
        network: Turns images into logits, alone or among other tensors.
        batch: On the network's device.
        proxies: Whose scores are wanted.
        seed: Of proxies that draw weights or images.

    Returns:
        A number or a reason for each part of each proxy.

    Raises:
        MemoryError, torch.OutOfMemoryError: When memory runs out: more of it may help.
        torch.AcceleratorError: When a GPU can no longer be used.
    """
    keep_memory()
    if lazy := _lazy_layers(network):
        why = f"layer {lazy[0]!r} has no weights yet: send a batch through the network once before"
        return Scores({}, {part: why for proxy in proxies for part in proxy.parts})
    needs = reduce(or_, (proxy.needs for proxy in proxies), Needs.NOTHING)
    values: dict[str, float] = {}
    invalid: dict[str, str] = {}
    safe = safe_kernels(network, batch.images.device)
    with torch.inference_mode(False), torch.enable_grad(), safe:  # whatever the caller has set
        probe = Probe(network, batch, needs, seed)
        for proxy in proxies:
            _add(proxy, probe, values, invalid)
    return Scores(values, invalid)


def _add(proxy: Scorer, probe: Probe, values: dict[str, float], invalid: dict[str, str]) -> None:
    try:
        found = _measured(proxy, probe)
    except InvalidScore as reason:
        invalid |= dict.fromkeys(proxy.parts, str(reason))
        return
    except Exception as error:  # any kind: code of any network, or of a user's proxy
        if ends_all(error):
            raise
        invalid |= dict.fromkeys(proxy.parts, first_line(error))
        return
    for part, value in found.items():
        if math.isfinite(value):
            values[part] = value
        else:
            invalid[part] = f"it is {value}"


def _measured(proxy: Scorer, probe: Probe) -> Mapping[str, float]:
    found = proxy.measure(probe)
    given = found if isinstance(found, Mapping) else {proxy.name: found}
    if given.keys() != set(proxy.parts):
        raise InvalidScore(f"it gives {', '.join(given)}, not its parts {', '.join(proxy.parts)}")
    return {part: float(value) for part, value in given.items()}


def _lazy_layers(network: nn.Module) -> list[str]:
    """The names of modules whose weights take their shapes from the first batch."""
    return [
        name
        for name, module in network.named_modules()
        if any(map(is_lazy, (*module._parameters.values(), *module._buffers.values())))
    ]
