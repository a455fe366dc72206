"""This module makes the steps of recorded networks, and the order in which they are executed.

A convolution, the batch norm after it, a sum with something else and the ReLU after that are one
step: batch norm is folded into the weights when statistics are known, and while they are collected
it normalises by its own batch.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from raynas.supernet.evaluation.tracing import TracedGraph, TracedOperation, TracedValue

_CONVOLUTIONS = {F.conv2d}
_RELUS = {F.relu, torch.relu, Tensor.relu, Tensor.relu_, torch.relu_}
#: functions that treat each image alone
_IMAGEWISE = {*_RELUS, F.avg_pool2d, F.max_pool2d, F.adaptive_avg_pool2d, F.linear}
_SUMS = {torch.add, Tensor.add, Tensor.__add__}


@dataclass(frozen=True, eq=False)
class ExecutionStep:
    """One unit of execution: an operation, or a batch norm with the operations merged into it.

    Attributes:
        number: Of the result.
        inputs: Numbers of the inputs.
        operation: The operation; for a merged step that of the batch norm.
        kind: Equal for steps that differ in their inputs only; None where several inputs may not be
            concatenated along the images.
        norm: The batch norm of ``operation``, or None.
        conv: The convolution before it, or None.
        added: Whether the second input is added to the result of the batch norm.
        rectified: Whether a ReLU follows.
        seen: The number by which the batch norm's statistics are known.
    """

    number: int
    inputs: tuple[int, ...]
    operation: TracedOperation
    kind: tuple[int, ...] | None = None
    norm: MergedNorm | None = None
    conv: MergedConvolution | None = None
    added: bool = False
    rectified: bool = False
    seen: int = -1


class MergedNorm(NamedTuple):
    """The arguments of a batch norm.

    Attributes:
        weight: (channels,) or None.
        bias: (channels,) or None.
        eps: Added to the variance.
        mean: (channels,) of the network itself, before it is calibrated, or None.
        var: (channels,) of the network itself, before it is calibrated, or None.
    """

    weight: Tensor | None
    bias: Tensor | None
    eps: float
    mean: Tensor | None  # the network's own, before it is calibrated
    var: Tensor | None


class MergedConvolution(NamedTuple):
    """The arguments of a convolution.

    Attributes:
        weight: (channels out, channels in / groups, h, w).
        bias: (channels out,) or None.
        settings: Stride, padding, dilation, groups.
    """

    weight: Tensor
    bias: Tensor | None
    settings: tuple[Any, ...]  # stride, padding, dilation, groups


def steps(program: TracedGraph) -> list[ExecutionStep]:
    """Merge convolutions, batch norms, sums and ReLUs, and remove operations without effect.

    Args:
        program: The recorded operations.

    Returns:
        The steps in an order in which inputs come first; the last one gives the logits.
    """
    uses = Counter(n for o in program.operations for n in o.inputs)
    uses[program.result] += 1
    made = {o.number: o for o in program.operations}
    merged: dict[int, ExecutionStep] = {}
    for operation in made.values():
        merged[operation.number] = _merge(operation, made, merged, uses)
    needed: dict[int, ExecutionStep] = {}
    open_ends = [program.result]
    while open_ends:
        number = open_ends.pop()
        if number in merged and number not in needed:
            needed[number] = merged[number]
            open_ends.extend(merged[number].inputs)
    return [step for number, step in merged.items() if number in needed]


def _merge(
    operation: TracedOperation,
    made: Mapping[int, TracedOperation],
    merged: Mapping[int, ExecutionStep],
    uses: Any,
) -> ExecutionStep:
    inputs = tuple(operation.inputs)
    is_sum = operation.function in _SUMS and operation.even
    imagewise = (is_sum or operation.function in _IMAGEWISE) and operation.own is None
    # x + x has another kind than x + y
    alike = (operation.kind, *map(inputs.index, inputs)) if imagewise else None
    plain = ExecutionStep(operation.number, inputs, operation, alike)
    if operation.function is F.batch_norm:
        norm, source = _norm(operation), made.get(inputs[0])
        if norm is None:
            return plain
        conv = _convolution(source) if source is not None and uses[source.number] == 1 else None
        if conv is None or source is None:
            return ExecutionStep(
                operation.number, inputs, operation, None, norm, seen=operation.number
            )
        return ExecutionStep(
            operation.number, tuple(source.inputs), operation, (source.kind, operation.kind), norm,
            conv, seen=operation.number,
        )  # fmt: skip
    if operation.function in _RELUS and len(inputs) == 1 and uses[inputs[0]] == 1:
        before = merged.get(inputs[0])
        if before is not None and before.norm is not None:
            kind = None if before.kind is None else (*before.kind, operation.kind)
            return replace(before, number=operation.number, kind=kind, rectified=True)
    if is_sum and len(set(inputs)) == len(operation.given) == 2 and not operation.named:
        for mine, other in (inputs, inputs[::-1]):
            before = merged.get(mine)
            alone = uses[mine] == 1 and before is not None and before.conv is not None
            if alone and before is not None and not (before.added or before.rectified):
                kind = None if before.kind is None else (*before.kind, operation.kind)
                both = (*before.inputs, other)
                return replace(before, number=operation.number, kind=kind, inputs=both, added=True)
    return plain


_NORM = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")


_CONV = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")


def _norm(operation: TracedOperation) -> MergedNorm | None:
    """Return the arguments of a batch norm.

    None for one whose weights follow from the images, or that has no statistics to inherit.
    """
    found = dict(zip(_NORM, operation.given, strict=False)) | dict(operation.named)
    weight, bias = found.get("weight"), found.get("bias")
    mean, var = found.get("running_mean"), found.get("running_var")
    follows = any(isinstance(part, TracedValue) for part in (weight, bias, mean, var))
    if follows or found.get("training"):
        return None
    return MergedNorm(weight, bias, float(found.get("eps", 1e-5)), mean, var)


def _convolution(operation: TracedOperation) -> MergedConvolution | None:
    if operation.function not in _CONVOLUTIONS or len(operation.inputs) != 1:
        return None
    found = dict(zip(_CONV, operation.given, strict=False)) | dict(operation.named)
    if not isinstance(found["input"], TracedValue):
        return None
    rest = (found.get(name, value) for name, value in zip(_CONV[3:], (1, 0, 1, 1), strict=True))
    return MergedConvolution(found["weight"], found.get("bias"), tuple(rest))


class ExecutionPlan:
    """The steps of several programs, each once, in an order in which inputs come first.

    Args:
        programs: The steps of each program.
        results: Numbers of the logits of each program.
        stacked: Whether steps of one kind are done together.

    Attributes:
        results: Numbers of the logits of each program.
        waves: Lists of steps that are done together; single steps unless ``stacked``.
        ends: After each wave, the numbers of results that no later step needs.
    """

    def __init__(
        self,
        programs: Sequence[Sequence[ExecutionStep]],
        results: Sequence[int],
        stacked: bool = False,
    ) -> None:
        ordered: dict[int, ExecutionStep] = {}
        for some in programs:
            for step in some:
                ordered.setdefault(step.number, step)
        self.results = list(results)
        alone = [[step] for step in ordered.values()]
        self.waves = _waves(list(ordered.values())) if stacked else alone
        last = {n: place for place, wave in enumerate(self.waves) for s in wave for n in s.inputs}
        kept = set(results)
        self.ends: list[list[int]] = [[] for _ in self.waves]
        for number, place in last.items():
            if number not in kept:
                self.ends[place].append(number)

    @property
    def steps(self) -> list[ExecutionStep]:
        """The steps of all waves in their order."""
        return [step for wave in self.waves for step in wave]


def _waves(ordered: Sequence[ExecutionStep]) -> list[list[ExecutionStep]]:
    """Group steps of one kind: each group waits as long as other steps can be done."""
    made = {step.number for step in ordered}
    missing = {step.number: len(made.intersection(step.inputs)) for step in ordered}
    users: dict[int, list[ExecutionStep]] = defaultdict(list)
    for step in ordered:
        for number in made.intersection(step.inputs):
            users[number].append(step)
    still = Counter(_alike(step) for step in ordered)
    ready: dict[Any, list[ExecutionStep]] = defaultdict(list)
    waves: list[list[ExecutionStep]] = []
    fresh = [step for step in ordered if not missing[step.number]]
    while fresh or ready:
        for step in fresh:
            ready[_alike(step)].append(step)
        full = (kind for kind, steps in ready.items() if len(steps) == still[kind])
        chosen = next(full, None) or max(ready, key=lambda kind: len(ready[kind]))
        wave = ready.pop(chosen)
        still[chosen] -= len(wave)
        waves.append(wave)
        fresh = []
        for step in (user for done in wave for user in users[done.number]):
            missing[step.number] -= 1
            if not missing[step.number]:
                fresh.append(step)
    return waves


def _alike(step: ExecutionStep) -> Any:
    """Return the key that the steps of one wave share."""
    return step.number if step.kind is None else step.kind
