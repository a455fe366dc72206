"""This module predicts a network's latency from a table in which each distinct layer is timed once.

Once-for-All and ProxylessNAS (H. Cai et al., ICLR 2020 and 2019) predict the latency of thousands
of networks in this way. Here a line, fitted on some measured networks, accounts for the time
between layers, and networks that were not used for the fit give the error of the prediction.
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
    """The error of a table's latencies on measured networks that were not used for the fit.

    Attributes:
        networks: The number of networks.
        median_percent: The median of the absolute errors, in percent of the measured latency.
        worst_percent: The largest absolute error, in percent of the measured latency.
        tau: Kendall's rank correlation of predicted and measured latencies.
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
    """A table of layer latencies, whose sum predicts the latency of a network.

    A layer is a module that calls no other module. Layers of one class, with equal settings (in
    their ``repr`` or not), tensors of equal shapes, and one input shape are timed once, on
    ``device``. A layer that cannot be proved equal to another is timed separately, each time. Until
    :meth:`fit` is called the prediction is the sum itself.

    Args:
        input_shape: The shape of one input without the batch, such as (channels, height, width).
        batch: The inputs per pass, 1 or more.
        device: The name of a torch device on which layers and networks are timed.
        repeats: The number of timed passes, 1 or more.
        threads: The CPU threads of torch during the measurement, 1 or more.
        dtype: One of ``raynas.costs.latency.DTYPES``.

    Raises:
        UserError: A setting is outside its range, as in :func:`measure_latency`.

    Example:
        >>> table = LatencyTable((8,), repeats=2)
        >>> total = table.total_ms(nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)))
        >>> total > 0, len(table)  # the two linear layers share one entry
        (True, 2)
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
        """Return the number of layers that have been timed."""
        return len(self._entries)

    def total_ms(self, network: nn.Module) -> float:
        """Return the sum over the layers of a network; new layers are timed.

        Args:
            network: A network on the CPU whose layers take one tensor each.

        Returns:
            Milliseconds.

        Raises:
            UserError: A layer takes more than one tensor.
        """
        return sum(self._entry(layer, shape) for layer, shape in self._layers(network))

    def predict_ms(self, network: nn.Module) -> float:
        """Return the latency by the fitted line.

        Args:
            network: A network on the CPU whose layers take one tensor each.

        Returns:
            Milliseconds, at least 0.

        Raises:
            UserError: A layer takes more than one tensor.
        """
        start, slope = self._line
        return max(start + slope * self.total_ms(network), 0.0)

    def measure_ms(self, network: nn.Module) -> float:
        """Return the measured latency of the whole network.

        Args:
            network: Any network.

        Returns:
            The median, in milliseconds.
        """
        shape, batch, device = self._shape, self._batch, self._device
        return measure_latency(network, shape, batch, device, **self._rest).median_ms

    def fit(self, networks: Sequence[nn.Module]) -> None:
        """Fit the line from sums to measured latencies by least squares of relative errors.

        Args:
            networks: Two networks or more.

        Raises:
            UserError: There are fewer than two networks, or a layer takes more than one tensor.
        """
        if len(networks) < 2:
            raise UserError(f"a latency table fitted on {len(networks)} networks", expected=">= 2")
        measured = np.array([self.measure_ms(network) for network in networks])
        sums = np.array([self.total_ms(network) for network in networks])
        columns = np.stack([1 / measured, sums / measured], axis=1)
        start, slope = np.linalg.lstsq(columns, np.ones(len(networks)), rcond=None)[0]
        # networks that are all alike do not determine a slope
        self._line = (float(start), float(slope)) if slope > 0 else (float(measured.mean()), 0.0)

    def error(self, networks: Sequence[nn.Module]) -> TableError:
        """Measure the error of :meth:`predict_ms`.

        Args:
            networks: Networks that the table has not been fitted on.

        Returns:
            Errors and rank correlation.

        Raises:
            UserError: A layer takes more than one tensor.
        """
        from scipy.stats import kendalltau

        measured = np.array([self.measure_ms(network) for network in networks])
        found = np.array([self.predict_ms(network) for network in networks])
        percent = 100 * np.abs(found / measured - 1)
        tau = float(kendalltau(found, measured).statistic)
        return TableError(len(networks), float(np.median(percent)), float(percent.max()), tau)

    def _entry(self, layer: nn.Module, shape: tuple[int, ...]) -> float:
        key = _key(layer, shape)
        if key is None:  # it may look like another layer and compute something else
            key = "alone", next(self._numbers)
        if key not in self._entries:
            found = measure_latency(layer, shape[1:], shape[0], self._device, **self._rest)
            self._entries[key] = found.median_ms
        return self._entries[key]

    def _layers(self, network: nn.Module) -> Iterator[tuple[nn.Module, tuple[int, ...]]]:
        """Return the layers that a pass on the CPU calls, each with its input shape."""
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
    """Return the key of everything that decides the computation of ``layer`` for an input shape.

    The key has the class, ``forward`` and all attributes, for tensors their shapes, types and
    layout. Values of tensors do not count where the layer works without them. None where the key is
    not certain to be complete.
    """
    if not _is_of_torch(layer) and not _works_without_values(layer, shape):
        return None
    try:
        return exact_key(layer, _of_tensor), _settings_of_class(type(layer)), shape
    except NoExactKeyError:
        return None


def _of_tensor(value: object) -> Hashable | None:
    """Return the properties that decide the time of a computation with a tensor."""
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
    """Return functions and plain values of the class and its bases: they may change later."""
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
    """Return True when all modules are torch's own, without hooks and replaced ``forward``."""
    own = any("forward" in vars(module) or module._forward_hooks or module._forward_pre_hooks
              for module in layer.modules())  # fmt: skip
    kinds = {type(module).__module__.partition(".")[0] for module in layer.modules()}
    return kinds == {"torch"} and not own


def _works_without_values(layer: nn.Module, shape: tuple[int, ...]) -> bool:
    """Return True when a pass on the meta device succeeds: no branch depends on tensors' values."""
    state = torch.random.get_rng_state()
    try:
        with torch.inference_mode():
            bare = copy.deepcopy(layer).to("meta").eval()
            bare(torch.ones(shape, device="meta"))
    except Exception:  # any kind of error: the layer needs values
        return False
    finally:
        torch.random.set_rng_state(state)
    return True


class _Watch:
    """A context manager that records the innermost modules that are called with one tensor."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._open: list[bool] = []  # per running module: True if it called another one
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
                expected="layers that take one tensor",
                hint="measure the networks whole",
            )
        self.found.append((module, tuple(inputs[0].shape)))
