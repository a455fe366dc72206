"""A network's latency from a table of its layers: each distinct layer is timed once.

The way of Once-for-All and ProxylessNAS (H. Cai et al., ICLR 2020 and 2019) to know the latency of
thousands of networks. Here a line, fitted on some measured networks, stands for what lies between
layers, and networks that it was not fitted on say how far it can be trusted.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from raynas.core import UserError
from raynas.core.exact import NoExactKeyError, exact_key
from raynas.costs.latency import check_latency, measure_latency


@dataclass(frozen=True)
class TableError:
    """How far a table's latencies are from measured ones, for ``networks`` it was not fitted on.

    ``median_percent``, ``worst_percent``: absolute error; ``tau``: Kendall's rank correlation.
    """

    networks: int
    median_percent: float
    worst_percent: float
    tau: float

    def __str__(self) -> str:
        return (
            f"median error {self.median_percent:.2g} %, worst {self.worst_percent:.2g} %, "
            f"tau {self.tau:.2f} on {self.networks} networks"
        )


class LatencyTable:
    """Latency of networks on the CPU with ``input_shape``, as the sum over their layers.

    A layer is a module within which no other is called; layers of one class, with equal settings
    (in their ``repr`` or not), tensors of equal shapes, and one input are timed once, on
    ``device``. One that is not surely the same as another is timed on its own, each time. Until
    :meth:`fit` the sum is taken as it is. Settings as in :func:`measure_latency`.
    Raises: UserError for bad settings.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        batch: int = 1,
        device: str = "cpu",
        repeats: int = 50,
        threads: int = 1,
        dtype: str = "float32",
    ) -> None:
        check_latency(batch=batch, repeats=repeats, threads=threads, dtype=dtype)
        self._shape, self._batch, self._device = input_shape, batch, device
        self._rest: dict[str, Any] = {"repeats": repeats, "threads": threads, "dtype": dtype}
        self._entries: dict[Hashable, float] = {}
        self._numbers = itertools.count()
        self._line = (0.0, 1.0)

    def __len__(self) -> int:
        """How many layers have been timed."""
        return len(self._entries)

    def total_ms(self, network: nn.Module) -> float:
        """The sum over the layers; those that are new are timed."""
        return sum(self._entry(layer, shape) for layer, shape in self._layers(network))

    def predict_ms(self, network: nn.Module) -> float:
        """The latency by the fitted line, at least 0."""
        start, slope = self._line
        return max(start + slope * self.total_ms(network), 0.0)

    def measure_ms(self, network: nn.Module) -> float:
        """The latency of the whole network, measured."""
        shape, batch, device = self._shape, self._batch, self._device
        return measure_latency(network, shape, batch, device, **self._rest).median_ms

    def fit(self, networks: Sequence[nn.Module]) -> None:
        """Find the line from sums to measured latencies by least squares of relative errors.

        Raises: UserError for fewer than two networks.
        """
        if len(networks) < 2:
            raise UserError(f"a latency table fitted on {len(networks)} networks", allowed=">= 2")
        measured = np.array([self.measure_ms(network) for network in networks])
        sums = np.array([self.total_ms(network) for network in networks])
        columns = np.stack([1 / measured, sums / measured], axis=1)
        start, slope = np.linalg.lstsq(columns, np.ones(len(networks)), rcond=None)[0]
        # networks that are all alike say nothing about a slope
        self._line = (float(start), float(slope)) if slope > 0 else (float(measured.mean()), 0.0)

    def error(self, networks: Sequence[nn.Module]) -> TableError:
        """What :meth:`predict_ms` is worth, on networks that it has not been fitted on."""
        from scipy.stats import kendalltau

        measured = np.array([self.measure_ms(network) for network in networks])
        found = np.array([self.predict_ms(network) for network in networks])
        percent = 100 * np.abs(found / measured - 1)
        tau = float(kendalltau(found, measured).statistic)
        return TableError(len(networks), float(np.median(percent)), float(percent.max()), tau)

    def _entry(self, layer: nn.Module, shape: tuple[int, ...]) -> float:
        key = _key(layer, shape)
        if key is None:  # it may look like another one and do something else
            key = "alone", next(self._numbers)
        if key not in self._entries:
            found = measure_latency(layer, shape[1:], shape[0], self._device, **self._rest)
            self._entries[key] = found.median_ms
        return self._entries[key]

    def _layers(self, network: nn.Module) -> Iterator[tuple[nn.Module, tuple[int, ...]]]:
        """The layers that a pass on the CPU calls, each with the shape of its input."""
        modes = [(module, module.training) for module in network.modules()]
        network.eval()
        try:
            with _Watch(network) as watch, torch.inference_mode():
                network(torch.ones(self._batch, *self._shape))
        finally:
            for module, training in modes:
                module.training = training
        return iter(watch.found)


def _key(layer: nn.Module, shape: tuple[int, ...]) -> Hashable | None:
    """All that decides what ``layer`` computes for an input of ``shape``; None where that is not
    sure.

    Its class, ``forward`` and everything in its attributes, of tensors their shapes, types and
    layout. Values of tensors do not count where the layer works without them.
    """
    if not _is_of_torch(layer) and not _works_without_values(layer, shape):
        return None
    try:
        return exact_key(layer, _of_tensor), _settings_of_class(type(layer)), shape
    except NoExactKeyError:
        return None


def _of_tensor(value: object) -> Hashable | None:
    """What decides the time of a computation with a tensor."""
    if isinstance(value, Tensor):
        if type(value) not in (Tensor, nn.Parameter) or value.layout != torch.strided:
            raise NoExactKeyError(f"a {type(value).__qualname__} of layout {value.layout}")
        return (
            type(value), tuple(value.shape), value.stride(), value.dtype, value.device.type,
            value.requires_grad,
        )  # fmt: skip
    if isinstance(value, torch.Size | torch.dtype | torch.device | torch.layout):
        return type(value), value
    return None


def _settings_of_class(kind: type[nn.Module]) -> Hashable:
    """Functions and plain values in the class and its bases: they may be replaced meanwhile."""
    found = []
    for owner in kind.__mro__:
        if owner in (nn.Module, object) or owner.__module__.startswith("torch."):
            break
        for name, value in sorted(vars(owner).items()):
            plain = isinstance(value, bool | int | float | str | tuple | FunctionType)
            if plain and not (name.startswith("__") and not callable(value)):
                found.append((owner, name, exact_key(value)))
    return tuple(found)


def _is_of_torch(layer: nn.Module) -> bool:
    """Of torch itself, with nothing that was hung on it."""
    own = any("forward" in vars(module) or module._forward_hooks or module._forward_pre_hooks
              for module in layer.modules())  # fmt: skip
    kinds = {type(module).__module__.partition(".")[0] for module in layer.modules()}
    return kinds == {"torch"} and not own


def _works_without_values(layer: nn.Module, shape: tuple[int, ...]) -> bool:
    """Whether a pass on the meta device ends: then no branch depends on numbers in tensors."""
    state = torch.random.get_rng_state()
    try:
        with torch.inference_mode():
            bare = copy.deepcopy(layer).to("meta").eval()
            bare(torch.ones(shape, device="meta"))
    except Exception:  # of any kind: the layer needs values, or does what has no meaning without
        return False
    finally:
        torch.random.set_rng_state(state)
    return True


class _Watch:
    """Notes the innermost modules that are called with one tensor."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._open: list[bool] = []  # of the modules under way: whether one was called within
        self._handles: list[Any] = []
        self.found: list[tuple[nn.Module, tuple[int, ...]]] = []

    def __enter__(self) -> _Watch:
        for module in self._network.modules():
            self._handles.append(module.register_forward_pre_hook(self._enter))
            self._handles.append(module.register_forward_hook(self._leave))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _enter(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if self._open:
            self._open[-1] = True
        self._open.append(False)

    def _leave(self, module: nn.Module, inputs: tuple[Any, ...], _: object) -> None:
        has_parts = self._open.pop()
        if has_parts or isinstance(module, nn.Identity):
            return
        if len(inputs) != 1 or not isinstance(inputs[0], Tensor):
            raise UserError(
                f"a latency table of layers such as {type(module).__name__}",
                allowed="layers that take one tensor",
                cure="measure the networks whole",
            )
        self.found.append((module, tuple(inputs[0].shape)))
