"""Several networks at work on the same images, each step that they share done once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from raynas.supernet.program import Convolution, Norm, Operation, Plan, Step, Value


class _Sum(NamedTuple):
    mean: Any
    var: Any
    batches: int


class Together:
    """Runs plans in ``dtype``. Batch norms' statistics stay from ``calibrate`` to ``logits``.

    ``images``: the number of the images in the plans.
    """

    def __init__(self, images: int, dtype: torch.dtype = torch.float32) -> None:
        self._images, self.dtype = images, dtype
        self._statistics: dict[int, tuple[Tensor, Tensor]] = {}
        self._cast: dict[int, Convolution] = {}
        self._folded: dict[int, Convolution] = {}

    @torch.inference_mode()
    def calibrate(self, plan: Plan, batches: Iterable[Tensor]) -> None:
        """Collect the statistics of all batch norms: their mean over the batches.

        As networks do in train mode, each batch is normalised by itself. What is known already
        stays as it is.
        """
        sums: dict[int, _Sum] = {}
        for batch in batches:
            values = {self._images: batch.to(self.dtype)}
            for step, ended in zip(plan.steps, plan.ends, strict=True):
                values[step.number] = self._collect(step, values, sums)
                for number in ended:
                    del values[number]
        for number, (mean, var, count) in sums.items():
            self._statistics.setdefault(number, (mean / count, var / count))

    @torch.inference_mode()
    def logits(self, plan: Plan, images: Tensor) -> list[Tensor]:
        """(n, classes) float32 for each program of the plan, in eval mode."""
        values = {self._images: images.to(self.dtype)}
        for step, ended in zip(plan.steps, plan.ends, strict=True):
            values[step.number] = self._infer(step, values)
            for number in ended:
                del values[number]
        return [values[number].float() for number in plan.results]

    def _collect(self, step: Step, values: dict[int, Tensor], sums: dict[int, _Sum]) -> Tensor:
        if step.norm is None:
            return self._plain(step.operation, values)
        x = values[step.inputs[0]]
        if step.conv is not None:
            x = _convolve(x, self._as_given(step, step.conv))
        weight, bias, eps = step.norm
        out, mean, scale = torch.native_batch_norm(x, weight, bias, None, None, True, 0.0, eps)
        count = x.numel() // x.shape[1]
        var = (scale.pow(-2) - eps) * (count / (count - 1))
        # one batch norm may be two steps, with its ReLU and without
        had = sums.get(step.seen, _Sum(0.0, 0.0, 0))
        sums[step.seen] = _Sum(had.mean + mean, had.var + var, had.batches + 1)
        return out.relu_() if step.rectified else out

    def _infer(self, step: Step, values: dict[int, Tensor]) -> Tensor:
        if step.norm is None:
            return self._plain(step.operation, values)
        x = values[step.inputs[0]]
        if step.conv is None:
            mean, var = self._statistics[step.seen]
            weight, bias, eps = step.norm
            out = F.batch_norm(x, mean, var, weight, bias, False, 0.0, eps)
        else:
            out = _convolve(x, self._fold(step, step.conv, step.norm))
        return out.relu_() if step.rectified else out

    def _plain(self, operation: Operation, values: dict[int, Tensor]) -> Tensor:
        given = [self._fill(part, values) for part in operation.given]
        named = {name: self._fill(part, values) for name, part in operation.named.items()}
        if operation.own is not None:
            given[operation.own] = given[operation.own].clone()
        out: Tensor = operation.function(*given, **named)
        return out

    def _fill(self, part: Any, values: dict[int, Tensor]) -> Any:
        if isinstance(part, Value):
            return values[part.number]
        if isinstance(part, Tensor):
            return part.to(self.dtype) if part.is_floating_point() else part
        if isinstance(part, tuple):
            return tuple(self._fill(p, values) for p in part)
        return part

    def _as_given(self, step: Step, conv: Convolution) -> Convolution:
        if step.seen not in self._cast:
            bias = None if conv.bias is None else conv.bias.to(self.dtype)
            self._cast[step.seen] = Convolution(_laid(conv.weight, self.dtype), bias, conv.settings)
        return self._cast[step.seen]

    def _fold(self, step: Step, conv: Convolution, norm: Norm) -> Convolution:
        if step.seen not in self._folded:
            mean, var = self._statistics[step.seen]
            scale = (var + norm.eps).rsqrt()
            scale = scale if norm.weight is None else scale * norm.weight
            shift = -mean if conv.bias is None else conv.bias - mean
            bias = shift * scale if norm.bias is None else shift * scale + norm.bias
            weight = _laid(conv.weight * scale[:, None, None, None], self.dtype)
            self._folded[step.seen] = Convolution(weight, bias.to(self.dtype), conv.settings)
        return self._folded[step.seen]


def _convolve(x: Tensor, conv: Convolution) -> Tensor:
    return F.conv2d(x, conv.weight, conv.bias, *conv.settings)


def _laid(weight: Tensor, dtype: torch.dtype) -> Tensor:
    return weight.to(dtype, memory_format=torch.channels_last)
