"""This module counts the parameters and multiply-adds of any network from shapes alone.

Counted for one input: the multiply-adds of convolutions (grouped and transposed too), linear and
bilinear layers, recurrent layers, products of matrices and of vectors, and both products of
attention, with padded and masked positions; and one per output value for the bias of a layer. Not
counted: normalization, activations, pooling, sums, products of single values, look-ups of
embeddings. The NAS-Bench-201 tables count what they call FLOPs in the same way.

The count is the same on every device and for every backend of attention: layers are counted as the
network calls them, before torch divides them into the operations of a device.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from raynas.core import Costs


def count_network(build: Callable[[], nn.Module], input_shape: tuple[int, ...]) -> Costs:
    """Count the trainable weights and the MACs of a network.

    ``build`` runs under the meta device, so nothing is allocated or computed; a network that does
    not work there (it reads values) is built and run once on the CPU instead. The forward pass is
    in eval mode, without gradients; torch's random state is restored, nothing is printed.

    Args:
        build: Returns the network; called once or twice.
        input_shape: The shape of one input without the batch, such as (channels, height, width).

    Returns:
        Trainable weights, and multiply-adds of one input; ``layers`` is None.

    Raises:
        Exception: ``build`` or the forward pass raised it on the CPU.

    Example:
        costs = count_network(lambda: nn.Linear(8, 4), (8,))
        costs.params, costs.macs  # 36, 36
    """
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        try:
            return _count_on("meta", build, input_shape)
        except Exception:  # any kind of error: the CPU works or raises the error to report
            return _count_on("cpu", build, input_shape)


def _count_on(device: str, build: Callable[[], nn.Module], input_shape: tuple[int, ...]) -> Costs:
    with torch.device(device), torch.no_grad():
        network = build().eval()
        images = torch.zeros((1, *input_shape))
        with MacCounter() as counter:
            network(images)
    # after the pass, because lazy layers have their weights only then
    return Costs(params=count_trainable(network), macs=counter.macs)


def count_trainable(network: nn.Module) -> int:
    """Count the trainable weights of a network.

    A parameter that is used several times counts once; frozen parameters and buffers do not count.

    Args:
        network: Any network.

    Returns:
        The number of values in all trainable parameters.

    Example:
        >>> count_trainable(nn.Conv2d(3, 8, 3))
        224
    """
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


class MacCounter:
    """A context manager that adds up the multiply-adds of all torch operations inside the block.

    Gradients are not recorded inside.

    Attributes:
        macs: The multiply-adds so far.

    Example:
        with MacCounter() as counter:
            nn.Linear(8, 4)(torch.zeros(1, 8))
        counter.macs  # 36
    """

    def __init__(self) -> None:
        self._mode = _Mode()
        self._inside = contextlib.ExitStack()

    @property
    def macs(self) -> int:
        """The multiply-adds so far.

        Returns:
            The sum over all operations inside the block.
        """
        return self._mode.macs

    def __enter__(self) -> MacCounter:
        self._inside.enter_context(_whole_attention())
        # above autograd, torch divides layers into the operations of a device
        self._inside.enter_context(torch._C._AutoDispatchBelowAutograd())
        self._inside.enter_context(self._mode)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._inside.close()


@contextlib.contextmanager
def _whole_attention() -> Iterator[None]:
    """Switch off the kernel that computes ``nn.MultiheadAttention`` or an encoder layer as one."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


class _Mode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.macs = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        packet = getattr(func, "overloadpacket", func)
        count = _COUNTS.get(packet)
        if count is None and packet not in flop_registry:
            return self._parts(func, args, named)
        out = func(*args, **named)
        if count is not None:
            self.macs += count(_by_name(func, args, named), out)
        else:
            self.macs += flop_registry[packet](*args, **named, out_val=out) // 2
        return out

    def _parts(self, func: Any, args: Any, named: dict[str, Any]) -> Any:
        """Return the result of ``func``, with the operations that it consists of counted."""
        if not _has_parts(func):
            return func(*args, **named)
        with self:
            return func.decompose(*args, **named)


@cache
def _has_parts(func: Any) -> bool:
    key = torch._C.DispatchKey.CompositeImplicitAutograd
    return isinstance(func, torch._ops.OpOverload) and func.has_kernel_for_dispatch_key(key)


Given = Mapping[str, Any]
"""The arguments of an operation, by their names."""


def _by_name(func: Any, args: Sequence[Any], named: Mapping[str, Any]) -> Given:
    schema = func._schema.arguments
    defaults = {a.name: a.default_value for a in schema if a.has_default_value()}
    return defaults | {a.name: value for a, value in zip(schema, args, strict=False)} | dict(named)


def _linear(given: Given, out: Tensor) -> int:
    return out.numel() * (int(given["input"].shape[-1]) + (given["bias"] is not None))


def _convolution(given: Given, out: Tensor) -> int:
    x = given["input"]
    positions = math.prod((x if given["transposed"] else out).shape[2:])
    bias = 0 if given["bias"] is None else out.numel()
    return int(x.shape[0] * positions * given["weight"].numel()) + bias


def _convolution_of_sequences(given: Given, out: Tensor) -> int:
    """Return the multiply-adds of a convolution of (steps, n, channels)."""
    return math.prod(out.shape[:2]) * int(given["weight"].numel()) + out.numel()


def _bilinear(given: Given, out: Tensor) -> int:
    inputs = math.prod(given["weight"].shape[1:])
    return int(out.numel() * (inputs + (given["bias"] is not None)))


def _attention(given: Given, out: Any) -> int:
    """Return the multiply-adds of the products with the keys and with the values."""
    whole = out if isinstance(out, Tensor) else out[0]
    positions = math.prod(whole.shape[:-1]) * given["key"].shape[-2]
    return int(positions * (given["key"].shape[-1] + given["value"].shape[-1]))


def _recurrent(given: Given, _: Any) -> int:
    """Return the multiply-adds of all steps; each step uses all weights and biases."""
    weights = sum(weight.numel() for weight in given["params"])
    packed = "batch_sizes" in given
    steps = given["data"].shape[0] if packed else math.prod(given["input"].shape[:2])
    return int(steps * weights)


def _recurrent_cell(given: Given, _: Any) -> int:
    named = (given[name] for name in ("w_ih", "w_hh", "b_ih", "b_hh"))
    weights = sum(weight.numel() for weight in named if weight is not None)
    return int(math.prod(given["input"].shape[:-1]) * weights)


def _product(first: str, second: str, bias: bool = False) -> Callable[[Given, Any], int]:
    """Return a counter for the arguments ``first`` and ``second``.

    ``second`` holds matrices, or is a vector.
    """

    def count(given: Given, out: Tensor) -> int:
        right = given[second]
        columns = right.shape[-1] if right.dim() > 1 else 1
        return int(given[first].numel() * columns) + bias * out.numel()

    return count


_ATEN = torch.ops.aten
_KERNELS = ("flash_attention", "flash_attention_for_cpu", "efficient_attention", "cudnn_attention")
#: the multiply-adds of an operation, from its arguments and its result
_COUNTS: dict[Any, Callable[[Given, Any], int]] = {
    _ATEN.linear: _linear,
    _ATEN.convolution: _convolution,
    _ATEN._convolution: _convolution,
    _ATEN.conv_tbc: _convolution_of_sequences,
    _ATEN.bilinear: _bilinear,
    _ATEN.scaled_dot_product_attention: _attention,
    **{getattr(_ATEN, f"_scaled_dot_product_{name}"): _attention for name in _KERNELS},
    **dict.fromkeys((_ATEN.lstm, _ATEN.gru, _ATEN.rnn_tanh, _ATEN.rnn_relu), _recurrent),
    **dict.fromkeys(
        (_ATEN.lstm_cell, _ATEN.gru_cell, _ATEN.rnn_tanh_cell, _ATEN.rnn_relu_cell),
        _recurrent_cell,
    ),
    _ATEN.mm: _product("self", "mat2"),
    _ATEN.bmm: _product("self", "mat2"),
    _ATEN.mv: _product("self", "vec"),
    _ATEN.dot: _product("self", "tensor"),
    _ATEN.vdot: _product("self", "other"),
    # linear layers that are written by hand
    _ATEN.addmm: _product("mat1", "mat2", bias=True),
    _ATEN.addmv: _product("mat", "vec", bias=True),
    # the added term is a mask, as in attention
    _ATEN.baddbmm: _product("batch1", "batch2"),
    _ATEN.addbmm: _product("batch1", "batch2"),
}
