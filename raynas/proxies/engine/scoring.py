"""Many proxies of one network at the price of few passes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import or_

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from raynas.core import InvalidScore, UserError
from raynas.core.errors import first_line
from raynas.layers.kernels import safe_kernels
from raynas.proxies.base import Batch, Proxy
from raynas.proxies.engine.memory import keep_memory
from raynas.proxies.engine.probe import Needs, Probe, ends_all


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


def score(network: nn.Module, batch: Batch, proxies: Sequence[Proxy], *, seed: int = 0) -> Scores:
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


def _add(proxy: Proxy, probe: Probe, values: dict[str, float], invalid: dict[str, str]) -> None:
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


def _measured(proxy: Proxy, probe: Probe) -> Mapping[str, float]:
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
