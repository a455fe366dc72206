"""Parameters and multiply-adds of any network, counted from shapes alone.

What is counted, for one input: the multiply-adds of convolutions (grouped and transposed too),
linear layers, matrix products and fused attention, padded positions included, and one per output
value for the bias of a convolution or a linear layer. Not counted: normalisation, activations,
pooling, sums. This is how the NAS-Bench-201 tables count what they call FLOPs.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from raynas.core import Costs


def count_network(build: Callable[[], nn.Module], input_shape: tuple[int, ...]) -> Costs:
    """Trainable weights of ``build()``, and its MACs for one input of ``input_shape``.

    ``build`` runs under the meta device, so nothing is allocated or computed; a network that does
    not work there (it looks at values) is built and run once on the CPU instead. The pass is in
    eval mode, without gradients; torch's random state stays as it was, nothing is printed.

    Raises: whatever ``build`` or the forward pass raises on the CPU.
    """
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        try:
            return _count_on("meta", build, input_shape)
        except Exception:  # any kind: the CPU either works or raises the error worth reading
            return _count_on("cpu", build, input_shape)


def _count_on(device: str, build: Callable[[], nn.Module], input_shape: tuple[int, ...]) -> Costs:
    with torch.device(device), torch.no_grad():
        network = build().eval()
        images = torch.zeros((1, *input_shape))
        with MacCounter() as counter:
            network(images)
    # after the pass, because lazy layers have their weights only then
    params = sum(p.numel() for p in network.parameters() if p.requires_grad)
    return Costs(params=params, macs=counter.macs)


class MacCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the multiply-adds of every operation that torch runs inside the block."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.macs = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        packet = func.overloadpacket
        if packet in flop_registry:
            self.macs += flop_registry[packet](*args, **kwargs, out_val=out) // 2
            if _has_bias(packet, args):
                self.macs += out.numel()
        return out


def _has_bias(packet: Any, args: tuple[Any, ...]) -> bool:
    if packet is torch.ops.aten.convolution:
        return args[2] is not None
    return packet is torch.ops.aten.addmm
