"""Execution of several networks on the same images, with each shared step computed once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from raynas.supernet.evaluation.execution_plan import (
    ExecutionPlan,
    ExecutionStep,
    MergedConvolution,
    MergedNorm,
)
from raynas.supernet.evaluation.tracing import TracedOperation, TracedValue

Values = dict[int, Tensor]
"""A mapping from the numbers of values to the results so far."""


class _Sum(NamedTuple):
    """The sums of one batch norm's statistics.

    ``first``: values per channel in the first batch; a batch of as many values weighs 1.
    ``weight``: of all batches so far.
    """

    mean: Any
    var: Any
    weight: float
    first: int


class BatchedExecutor:
    """An executor of plans, with batch norm statistics that :meth:`calibrate` collects.

    The statistics stay from :meth:`calibrate` to :meth:`logits`.

    Args:
        images: The number of the images in the plans.
        dtype: The type of weights and feature maps.

    Attributes:
        dtype: The type of weights and feature maps.
    """

    def __init__(self, images: int, dtype: torch.dtype = torch.float32) -> None:
        self._images, self.dtype = images, dtype
        self._statistics: dict[int, tuple[Tensor, Tensor]] = {}
        self._cast: dict[int, MergedConvolution] = {}
        self._folded: dict[int, MergedConvolution] = {}

    @torch.inference_mode()
    def calibrate(self, plan: ExecutionPlan, batches: Iterable[Tensor]) -> None:
        """Collect the statistics of all batch norms: their mean over the batches, weighted by size.

        As in train mode, each batch is normalised by its own statistics. Statistics that are known
        already are not changed.

        Args:
            plan: The steps of the programs.
            batches: Images (b, c, h, w).
        """
        sums: dict[int, _Sum] = {}
        for batch in batches:
            values = {self._images: batch.to(self.dtype)}
            self._run(
                plan,
                values,
                partial(self._collect, sums=sums),
                partial(self._collect_stacked, sums=sums),
            )
        for number, (mean, var, weight, _) in sums.items():
            self._statistics.setdefault(number, (mean / weight, var / weight))

    def inherit(self, plan: ExecutionPlan) -> None:
        """Take the statistics that the networks have, where none were collected.

        Args:
            plan: The steps of the programs.
        """
        for step in plan.steps:
            if step.norm is not None and step.norm.mean is not None and step.norm.var is not None:
                self._statistics.setdefault(step.seen, (step.norm.mean, step.norm.var))

    @torch.inference_mode()
    def logits(self, plan: ExecutionPlan, images: Tensor) -> list[Tensor]:
        """Run all programs of a plan in eval mode.

        Args:
            plan: The steps of the programs.
            images: (n, c, h, w).

        Returns:
            (n, classes) float32 for each program of the plan.
        """
        values = {self._images: images.to(self.dtype)}
        self._run(plan, values, self._infer, self._infer_stacked)
        return [values[number].float() for number in plan.results]

    @staticmethod
    def _run(
        plan: ExecutionPlan,
        values: Values,
        one: Callable[[ExecutionStep, Values], Tensor],
        many: Callable[[Sequence[ExecutionStep], list[Tensor]], Tensor],
    ) -> None:
        """Run all waves of a plan.

        ``one`` does a step, ``many`` does steps of one kind with inputs (steps, n, ...).
        """
        for wave, ended in zip(plan.waves, plan.ends, strict=True):
            for steps in _alike(wave, values):
                if len(steps) == 1:
                    values[steps[0].number] = one(steps[0], values)
                    continue
                inputs = zip(*([values[n] for n in step.inputs] for step in steps), strict=True)
                stacked = [torch.stack(some) for some in inputs]
                for step, out in zip(steps, many(steps, stacked), strict=True):
                    values[step.number] = out
            for number in ended:
                del values[number]

    def _collect(self, step: ExecutionStep, values: Values, sums: dict[int, _Sum]) -> Tensor:
        if step.norm is None:
            return self._plain(step.operation, values)
        x = values[step.inputs[0]]
        if step.conv is not None:
            x = _convolve(x, self._as_given(step, step.conv))
        weight, bias, eps = step.norm[:3]
        out, mean, scale = torch.native_batch_norm(x, weight, bias, None, None, True, 0.0, eps)
        count = x.numel() // x.shape[1]
        _note(sums, step, mean, (scale.pow(-2) - eps) * (count / (count - 1)), count)
        return _finish(out, step, values[step.inputs[1]] if step.added else None)

    def _collect_stacked(
        self, steps: Sequence[ExecutionStep], inputs: list[Tensor], sums: dict[int, _Sum]
    ) -> Tensor:
        first, x = steps[0], inputs[0]
        if first.norm is None or first.conv is None:
            return self._plain_stacked(first, inputs)
        out = _parted(_convolve(x.flatten(0, 1), self._as_given(first, first.conv)), len(x))
        var, mean = torch.var_mean(out.float(), dim=(1, 3, 4), correction=0)
        count = out[0].numel() // out.shape[2]
        for step, own_mean, own_var in zip(steps, mean, var, strict=True):
            _note(sums, step, own_mean, own_var * (count / (count - 1)), count)
        return _normalise(out, mean, var, first, inputs)

    def _infer_stacked(self, steps: Sequence[ExecutionStep], inputs: list[Tensor]) -> Tensor:
        first, x = steps[0], inputs[0]
        if first.norm is None or first.conv is None:
            return self._plain_stacked(first, inputs)
        out = _parted(_convolve(x.flatten(0, 1), self._as_given(first, first.conv)), len(x))
        mean, var = (
            torch.stack(part)
            for part in zip(*(self._statistics[s.seen] for s in steps), strict=True)
        )
        return _normalise(out, mean, var, first, inputs)

    def _plain_stacked(self, step: ExecutionStep, inputs: list[Tensor]) -> Tensor:
        flat = [x.flatten(0, 1) for x in inputs]
        out = self._plain(step.operation, dict(zip(step.inputs, flat, strict=True)))
        return _parted(out, len(inputs[0]))

    def _infer(self, step: ExecutionStep, values: Values) -> Tensor:
        if step.norm is None:
            return self._plain(step.operation, values)
        x = values[step.inputs[0]]
        if step.conv is None:
            mean, var = self._statistics[step.seen]
            weight, bias, eps = step.norm[:3]
            return _finish(F.batch_norm(x, mean, var, weight, bias, False, 0.0, eps), step)
        conv = self._fold(step, step.conv, step.norm, x)
        other = values[step.inputs[1]] if step.added else None
        if conv.weight.is_mkldnn:
            return _at_once(x, conv, step, other)
        return _finish(_convolve(x, conv), step, other)

    def _plain(self, operation: TracedOperation, values: Values) -> Tensor:
        given = [self._fill(part, values) for part in operation.given]
        named = {name: self._fill(part, values) for name, part in operation.named.items()}
        if operation.own is not None:
            given[operation.own] = given[operation.own].clone()
        out: Tensor = operation.function(*given, **named)
        return out

    def _fill(self, part: Any, values: Values) -> Any:
        if isinstance(part, TracedValue):
            return values[part.number]
        if isinstance(part, Tensor):
            # a constant of another precision has it on purpose
            return part.to(self.dtype) if part.dtype is torch.float32 else part
        if isinstance(part, tuple):
            return tuple(self._fill(p, values) for p in part)
        return part

    def _as_given(self, step: ExecutionStep, conv: MergedConvolution) -> MergedConvolution:
        if step.seen not in self._cast:
            bias = None if conv.bias is None else conv.bias.to(self.dtype)
            self._cast[step.seen] = MergedConvolution(
                _laid(conv.weight, self.dtype), bias, conv.settings
            )
        return self._cast[step.seen]

    def _fold(
        self, step: ExecutionStep, conv: MergedConvolution, norm: MergedNorm, x: Tensor
    ) -> MergedConvolution:
        """Return the convolution with the statistics in its weights, laid out for ``x``."""
        if step.seen not in self._folded:
            mean, var = self._statistics[step.seen]
            scale = (var + norm.eps).rsqrt()
            scale = scale if norm.weight is None else scale * norm.weight
            shift = -mean if conv.bias is None else conv.bias - mean
            bias = shift * scale if norm.bias is None else shift * scale + norm.bias
            weight = _laid(conv.weight * scale[:, None, None, None], self.dtype)
            folded = MergedConvolution(weight, bias.to(self.dtype), conv.settings)
            self._folded[step.seen] = _packed(folded, x)
        return self._folded[step.seen]


def _parted(x: Tensor, parts: int) -> Tensor:
    """Reshape (parts * n, ...) to (parts, n, ...)."""
    return x.view(parts, len(x) // parts, *x.shape[1:])


def _alike(wave: Sequence[ExecutionStep], values: Values) -> Iterable[list[ExecutionStep]]:
    """Return the steps of a wave in groups whose inputs have one shape."""
    if len(wave) == 1:
        return [list(wave)]
    groups: dict[Any, list[ExecutionStep]] = {}
    for step in wave:
        groups.setdefault(tuple(values[n].shape for n in step.inputs), []).append(step)
    return groups.values()


def _note(
    sums: dict[int, _Sum], step: ExecutionStep, mean: Tensor, var: Tensor, count: int
) -> None:
    # one batch norm may be two steps, with its ReLU and without
    had = sums.get(step.seen, _Sum(0.0, 0.0, 0.0, count))
    weight = count / had.first
    sums[step.seen] = _Sum(
        had.mean + mean * weight, had.var + var * weight, had.weight + weight, had.first
    )


def _finish(x: Tensor, step: ExecutionStep, other: Tensor | None = None) -> Tensor:
    """Apply the sum and the ReLU after a batch norm in its step; overwrites ``x``."""
    if other is not None:
        x = x.add_(other)
    return x.relu_() if step.rectified else x


def _packed(conv: MergedConvolution, x: Tensor) -> MergedConvolution:
    """Return the convolution in oneDNN's layout where oneDNN computes it, else unchanged.

    torch's own compiler calls the same functions; they save reading and writing every feature map
    once more.
    """
    if x.device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return conv
    stride, padding, dilation, groups = conv.settings
    if isinstance(padding, str) or not hasattr(torch.ops.mkldnn, "_convolution_pointwise"):
        return conv
    pairs = [list(s) if isinstance(s, tuple) else [s, s] for s in (stride, padding, dilation)]
    weight = torch.ops.mkldnn._reorder_convolution_weight(
        conv.weight.contiguous(), pairs[1], pairs[0], pairs[2], groups, list(x.shape)
    )
    return MergedConvolution(weight, conv.bias, (*pairs, groups))


def _at_once(
    x: Tensor, conv: MergedConvolution, step: ExecutionStep, other: Tensor | None
) -> Tensor:
    """Compute convolution, sum and ReLU in one pass."""
    stride, padding, dilation, groups = conv.settings
    rest = conv.weight, conv.bias, padding, stride, dilation, groups
    fused = torch.ops.mkldnn._convolution_pointwise
    out: Tensor
    if other is None:
        out = fused(x, *rest, "relu" if step.rectified else "none", [], "")
    else:
        out = fused(x, other, *rest, "add", 1.0, "relu" if step.rectified else None, [], "")
    return out


def _normalise(
    x: Tensor, mean: Tensor, var: Tensor, step: ExecutionStep, inputs: Sequence[Tensor]
) -> Tensor:
    """Normalise (steps, n, c, h, w) by statistics (steps, c); the weights are those of ``step``."""
    assert step.norm is not None
    weight, bias, eps = step.norm[:3]
    scale = (var + eps).rsqrt() if weight is None else (var + eps).rsqrt() * weight
    shift = -mean * scale if bias is None else bias - mean * scale
    scale, shift = (part[:, None, :, None, None].to(x.dtype) for part in (scale, shift))
    out = torch.addcmul(shift, x, scale)
    return _finish(out, step, inputs[1] if step.added else None)


def _convolve(x: Tensor, conv: MergedConvolution) -> Tensor:
    return F.conv2d(x, conv.weight, conv.bias, *conv.settings)


def _laid(weight: Tensor, dtype: torch.dtype) -> Tensor:
    return weight.to(dtype, memory_format=torch.channels_last)
