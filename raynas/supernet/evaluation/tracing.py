"""The recording of a network as a list of operations, so that networks can share computations.

A forward pass is recorded once per architecture. Equal operations with equal weights on equal
inputs get the same number (value numbering, as compilers do), so that networks which agree on
their first blocks, or on an edge of a cell, compute them once. A convolution, the batch norm after
it, a sum with something else and the ReLU after that are one step: batch norm is folded into the
weights when statistics are known, and while they are collected it normalises by its own batch.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

#: images of a recording; the next number is tried when a layer has one among its settings
_SHOWN = (11, 13, 17)
_CONVOLUTIONS = {F.conv2d}
_RELUS = {F.relu, torch.relu, Tensor.relu, Tensor.relu_, torch.relu_}
#: functions that treat each image alone
_IMAGEWISE = {*_RELUS, F.avg_pool2d, F.max_pool2d, F.adaptive_avg_pool2d, F.linear}
_SUMS = {torch.add, Tensor.add, Tensor.__add__}
_METHODS = (
    "size", "dim", "ndimension", "numel", "nelement", "stride", "storage_offset", "element_size",
    "is_contiguous", "is_floating_point", "is_complex", "is_signed", "is_inference", "get_device",
    "is_same_size", "__len__", "__hash__",
)  # fmt: skip
_PROPERTIES = (
    "shape", "ndim", "dtype", "device", "layout", "itemsize", "nbytes", "requires_grad", "is_leaf",
    "grad_fn", "grad", "is_cpu", "is_cuda", "is_meta", "is_mps", "is_sparse", "is_quantized",
    "_base", "_version",
)  # fmt: skip
#: functions that read a property of a result without its values: the property is the same for
#: other images, apart from their number
_METADATA = {
    torch.numel,
    torch.is_floating_point,
    torch.is_complex,
    *(getattr(Tensor, name) for name in _METHODS),
    *(getattr(Tensor, name).__get__ for name in _PROPERTIES),
}


class NotRecordableError(Exception):
    """The error for a network whose operations cannot be repeated for other images."""


class CountUsedError(NotRecordableError):
    """The error for a network that uses the number of images, or has it as a setting of a layer."""


class TracedValue(NamedTuple):
    """The result of an operation, by its number."""

    number: int


@dataclass(frozen=True)
class TracedOperation:
    """One call of a function, ``function(*given, **named)``.

    Attributes:
        number: Of the result.
        kind: A number of the function with all arguments that are not results, the same for equal
            operations on other inputs.
        function: The torch function.
        given: Positional arguments, with a ``TracedValue`` for each result.
        named: Arguments by name, with a ``TracedValue`` for each result.
        own: The index in ``given`` of the argument that the function overwrites, or None.
        even: Whether all tensors in it have one shape.
    """

    number: int
    kind: int
    function: Callable[..., Any]
    given: tuple[Any, ...]
    named: Mapping[str, Any]
    own: int | None = None
    even: bool = False

    @cached_property
    def inputs(self) -> list[int]:
        """The numbers of the results among the arguments."""
        leaves = _leaves((self.given, tuple(self.named.values())))
        return [leaf.number for leaf in leaves if isinstance(leaf, TracedValue)]

    @property
    def constants(self) -> list[Tensor]:
        """The tensors among the arguments that are not results."""
        leaves = _leaves((self.given, tuple(self.named.values())))
        return [leaf for leaf in leaves if isinstance(leaf, Tensor)]


@dataclass(frozen=True)
class TracedGraph:
    """The recorded operations of one network.

    Attributes:
        operations: In their order.
        result: The number of the logits.
    """

    operations: tuple[TracedOperation, ...]
    result: int


@dataclass
class ValueTable:
    """A numbering of values: equal values of any networks of one supernet get the same number.

    Attributes:
        weights: Tensors that do not change as long as the book is used; their parts are identified
            by their location in memory, other constants by their content.
    """

    weights: Iterable[Tensor] = ()
    _numbers: dict[Any, int] = field(default_factory=dict)
    _kinds: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._places = {_memory(weight) for weight in self.weights} - {0}

    def number(self, key: Any) -> int:
        """Return the number of a value.

        Args:
            key: Any hashable description; a new one gets the next number.
        """
        return self._numbers.setdefault(key, len(self._numbers))

    def kind(self, number: int, key: Any) -> int:
        """Return the number of an operation without its inputs.

        Args:
            number: Of the operation.
            key: Of the operation.
        """
        if number not in self._kinds:
            self._kinds[number] = self.number(("kind", _without_inputs(key)))
        return self._kinds[number]

    def __len__(self) -> int:
        return len(self._numbers)

    def holds(self, tensor: Tensor) -> bool:
        """Return whether a tensor is one of the weights, or a part of one.

        Args:
            tensor: Any tensor.
        """
        return _memory(tensor) in self._places

    def constant(self, tensor: Tensor) -> Any:
        """Return the key of a constant.

        Args:
            tensor: A tensor that does not follow from the images.

        Returns:
            Location and geometry of a weight, or a digest of the content of another tensor.
        """
        if self.holds(tensor):
            geometry = tensor.shape, tensor.stride(), tensor.dtype, tensor.is_conj()
            return _memory(tensor), tensor.storage_offset(), *geometry
        content = tensor.detach().contiguous().cpu().flatten().view(torch.uint8).numpy().data
        return hashlib.blake2b(content, digest_size=16).digest(), tensor.shape, tensor.dtype


@torch.no_grad()
def record(forward: Callable[[Tensor], Tensor], image: Tensor, book: ValueTable) -> TracedGraph:
    """Record the operations of ``forward`` on copies of ``image``.

    Problems that the recording can see are refused here. Others (a state that changes between
    calls, code that torch does not see) are found when the program is compared with the network on
    other images: see ``raynas.supernet.evaluation.agreement``.

    Args:
        forward: (n, channels, h, w) -> logits (n, classes), in eval mode.
        image: (channels, h, w); its values do not matter.
        book: Numbers that programs of one supernet share.

    Returns:
        The program; its constants are copies, except for the weights in ``book``.

    Raises:
        NotRecordableError: When ``forward`` depends on the images' values or number, is random,
            changes its weights, or uses a tensor after another name for the same memory was
            overwritten.
    """
    for count in _SHOWN[:-1]:
        with contextlib.suppress(CountUsedError):
            return _record(forward, image.expand(count, *image.shape).clone(), book)
    return _record(forward, image.expand(_SHOWN[-1], *image.shape).clone(), book)


def _record(forward: Callable[[Tensor], Tensor], images: Tensor, book: ValueTable) -> TracedGraph:
    before = _random_states(images.device)
    with _Recorder(images, book) as recorder:
        logits = forward(images)
    if not all(map(_equal, before, _random_states(images.device))):
        raise NotRecordableError("random numbers are drawn")
    return TracedGraph(tuple(recorder.operations), recorder.number_of(logits))


class _Recorder(TorchFunctionMode):
    """A mode that records every torch function that is given the images or a result of them.

    ``_known``: those tensors, by id; ``_aliases``: the same by memory. ``_follows``: memory whose
    content follows from the images. ``_stale``: ids of tensors whose memory was overwritten under
    another name. ``_counted``: constants with as many rows as there are images.
    """

    def __init__(self, images: Tensor, book: ValueTable) -> None:
        super().__init__()
        self.operations: list[TracedOperation] = []
        self._numbers: dict[int, int] = {}
        self._kept: list[Any] = []  # so that no id and no memory is used again
        self._aliases: dict[int, list[Tensor]] = defaultdict(list)
        self._follows: set[int] = set()
        self._stale: set[int] = set()
        self._counted: set[int] = set()
        self._book, self._count = book, len(images)
        self._know(images, book.number("images"), follows=True)

    def number_of(self, logits: Any) -> int:
        """Return the number of the logits.

        Args:
            logits: The output of the network.

        Raises:
            NotRecordableError: When they do not follow from the images.
            NotRecordableError: When their memory was overwritten through a view.
        """
        if id(logits) not in self._numbers or not self.operations:
            raise NotRecordableError("the logits do not follow from the images")
        self._refuse_stale([logits])
        return self._numbers[id(logits)]

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        named = kwargs or {}
        leaves = _leaves((args, tuple(named.values())))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        if not any(id(tensor) in self._numbers for tensor in tensors):
            return self._constant(func, args, named, leaves, tensors)
        if func in _METADATA:
            return func(*args, **named)
        return self._record(func, tuple(args), named, leaves, tensors)

    def _constant(
        self, func: Any, args: Any, named: Any, leaves: list[Any], tensors: list[Tensor]
    ) -> Any:
        """Call a function that is given nothing that follows from the images."""
        self._refuse_aliases(tensors)
        before = [_version(tensor) for tensor in tensors]
        out = func(*args, **named)
        self._refuse_overwritten_weights(_changed(tensors, before))
        if isinstance(out, Tensor) and self._has_count(leaves):
            self._counted.add(id(out))
            self._kept.append(out)
        return out

    def _record(
        self,
        func: Any,
        given: tuple[Any, ...],
        named: Any,
        leaves: list[Any],
        tensors: list[Tensor],
    ) -> Any:
        self._refuse_aliases(tensors)
        self._refuse_stale(tensors)
        if self._has_count(leaves):
            raise CountUsedError("the number of images is among the arguments of a function")
        if any(id(tensor) in self._counted for tensor in tensors):
            raise CountUsedError("the number of images is in the shape of a constant")
        # before the function runs: it may overwrite what it is given
        shown, shown_named = self._shown(given), {k: self._shown(v) for k, v in named.items()}
        key = func, self._key(given), tuple((k, self._key(v)) for k, v in sorted(named.items()))
        before = [_version(tensor) for tensor in tensors]
        out = func(*given, **named)
        changed = _changed(tensors, before)
        self._refuse_overwritten_weights(changed)
        name = getattr(func, "__name__", str(func))
        if isinstance(out, tuple | list) and any(isinstance(part, Tensor) for part in out):
            raise NotRecordableError(f"{name} gives several tensors")
        if not isinstance(out, Tensor):
            raise NotRecordableError(f"{name} looks at the values of a result, or changes them")
        if any(tensor is not out for tensor in changed):
            raise NotRecordableError(f"{name} overwrites a tensor that it does not return")
        own = next((n for n, value in enumerate(given) if value is out), None) if changed else None
        if changed and own is None:
            raise NotRecordableError(f"{name} overwrites an argument that is given by name")
        number = self._book.number(key)
        kind = self._book.kind(number, key)
        even = all(tensor.shape == out.shape for tensor in tensors)
        self.operations.append(TracedOperation(number, kind, func, shown, shown_named, own, even))
        if changed:
            self._overwritten(out, number)
        constants = {_memory(t) for t in tensors if id(t) not in self._numbers}
        self._know(out, number, follows=bool(changed) or _memory(out) not in constants)
        return out

    def _know(self, tensor: Tensor, number: int, *, follows: bool) -> None:
        if id(tensor) not in self._numbers:
            self._kept.append(tensor)
            self._aliases[_memory(tensor)].append(tensor)
        self._numbers[id(tensor)] = number
        if follows and not self._book.holds(tensor):
            self._follows.add(_memory(tensor))

    def _overwritten(self, tensor: Tensor, number: int) -> None:
        """Update tensors that share overwritten memory.

        Views of the same numbers become the new result, views of parts of them become stale.
        """
        for other in self._aliases[_memory(tensor)]:
            if _geometry(other) == _geometry(tensor):
                self._numbers[id(other)] = number
            else:
                self._stale.add(id(other))
        self._stale.discard(id(tensor))

    def _has_count(self, leaves: Sequence[Any]) -> bool:
        return any(type(leaf) is int and leaf == self._count for leaf in leaves)

    def _refuse_stale(self, tensors: Sequence[Tensor]) -> None:
        if any(id(tensor) in self._stale for tensor in tensors):
            raise NotRecordableError("a tensor is used whose memory was overwritten through a view")

    def _refuse_aliases(self, tensors: Sequence[Tensor]) -> None:
        for tensor in tensors:
            if id(tensor) not in self._numbers and _memory(tensor) in self._follows:
                raise NotRecordableError("a constant shares the memory of a result")

    def _refuse_overwritten_weights(self, changed: Sequence[Tensor]) -> None:
        if any(self._book.holds(tensor) for tensor in changed):
            raise NotRecordableError("a weight or a buffer is overwritten")

    def _shown(self, part: Any) -> Any:
        if isinstance(part, Tensor):
            number = self._numbers.get(id(part))
            if number is not None:
                return TracedValue(number)
            return part.detach() if self._book.holds(part) else part.detach().clone()
        if isinstance(part, tuple | list):
            return tuple(self._shown(p) for p in part)
        if isinstance(part, slice) and any(isinstance(leaf, Tensor) for leaf in _leaves(part)):
            raise NotRecordableError("a slice ends at a tensor's value")
        return part

    def _key(self, part: Any) -> Any:
        if isinstance(part, Tensor):
            number = self._numbers.get(id(part))
            return self._book.constant(part) if number is None else TracedValue(number)
        if isinstance(part, tuple | list):
            return tuple(self._key(p) for p in part)
        if isinstance(part, slice):
            return "slice", part.start, part.stop, part.step
        # 0.0 and -0.0 are equal, but not as divisors
        return type(part).__name__, part.hex() if isinstance(part, float) else part


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _geometry(tensor: Tensor) -> tuple[Any, ...]:
    """Return a key that is equal for tensors that are the same part of their memory."""
    return tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype


def _version(tensor: Tensor) -> int:
    """Return the tensor's version, which grows whenever the tensor is overwritten."""
    if tensor.is_inference():
        raise NotRecordableError("a part of the network runs in inference mode")
    return tensor._version


def _changed(tensors: Sequence[Tensor], before: Sequence[int]) -> list[Tensor]:
    return [t for t, version in zip(tensors, before, strict=True) if t._version != version]


def _random_states(place: torch.device) -> list[Any]:
    states = [torch.get_rng_state(), tuple(np.random.get_state())[1:3], random.getstate()]
    return [*states, torch.cuda.get_rng_state(place)] if place.type == "cuda" else states


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, tuple):
        return all(map(_equal, one, other))
    return bool(np.array_equal(one, other))


def _without_inputs(key: Any) -> Any:
    if isinstance(key, TracedValue):
        return "a result"
    return tuple(_without_inputs(k) for k in key) if type(key) is tuple else key


def _leaves(part: Any) -> list[Any]:
    if isinstance(part, slice):
        part = part.start, part.stop, part.step
    elif isinstance(part, dict):
        part = tuple(part.values())
    if type(part) is TracedValue or not isinstance(part, tuple | list):
        return [part]
    return [leaf for inner in part for leaf in _leaves(inner)]


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
