"""What a network computes, as a list of operations, so that several networks share what they can.

A forward pass is recorded once per architecture. Equal operations with equal weights on equal
inputs get the same number (value numbering, as compilers do), so that networks which agree on
their first blocks, or on an edge of a cell, compute them once. A convolution, the batch norm after
it, a sum with something else and the ReLU after that are one step: batch norm is folded into the
weights when statistics are known, and while they are collected it normalises by its own batch.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

#: images that are shown for a recording; a number that no layer has among its settings
_SHOWN = 11
_CONVOLUTIONS = {F.conv2d}
_RELUS = {F.relu, torch.relu, Tensor.relu, Tensor.relu_, torch.relu_}
#: they do the same to every image
_IMAGEWISE = {*_RELUS, F.avg_pool2d, F.max_pool2d, F.adaptive_avg_pool2d, F.linear}
_SUMS = {torch.add, Tensor.add, Tensor.__add__}
#: they look at values, so what follows may be another thing for other images
_LOOKS = {
    getattr(Tensor, name)
    for name in ("item", "tolist", "numpy", "__bool__", "__int__", "__float__", "__setitem__")
}


class NotRecordableError(Exception):
    """The network does things that cannot be repeated for other images from a list."""


class Value(NamedTuple):
    """The result of an operation, by its number."""

    number: int


@dataclass(frozen=True)
class Operation:
    """``function(*given)``; ``given`` and ``named`` hold ``Value`` where results go in.

    ``own``: the place in ``given`` of what the function overwrites, or None. ``kind``: a number of
    the function with all that is not a result, the same for equal operations on other inputs.
    ``even``: all tensors in it have one shape.
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
        leaves = _leaves((self.given, tuple(self.named.values())))
        return [leaf.number for leaf in leaves if isinstance(leaf, Value)]


@dataclass(frozen=True)
class Program:
    """The operations of one network in their order; ``result``: the number of its logits."""

    operations: tuple[Operation, ...]
    result: int


@dataclass
class Book:
    """Numbers of values: the same for what is the same in any network of one supernet.

    ``weights``: tensors that stay as they are as long as the book is used; their parts are known
    by their place in memory, other constants by what is in them.
    """

    weights: Iterable[Tensor] = ()
    _numbers: dict[Any, int] = field(default_factory=dict)
    _kinds: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._places = {w.untyped_storage().data_ptr() for w in self.weights}

    def number(self, key: Any) -> int:
        return self._numbers.setdefault(key, len(self._numbers))

    def kind(self, number: int, key: Any) -> int:
        """The number of the operation ``key`` without its inputs; ``number``: its own."""
        if number not in self._kinds:
            self._kinds[number] = self.number(("kind", _without_inputs(key)))
        return self._kinds[number]

    def __len__(self) -> int:
        return len(self._numbers)

    def constant(self, tensor: Tensor) -> Any:
        place = tensor.untyped_storage().data_ptr()
        if place in self._places:
            return place, tensor.storage_offset(), tensor.shape, tensor.stride()
        content = tensor.detach().contiguous().cpu().flatten().view(torch.uint8).numpy().data
        return hashlib.blake2b(content, digest_size=16).digest(), tensor.shape, tensor.dtype


@torch.no_grad()
def record(forward: Callable[[Tensor], Tensor], image: Tensor, book: Book) -> Program:
    """The program of ``forward``, seen at work on copies of ``image`` (channels, h, w).

    Raises: NotRecordableError when what it does depends on the values or the number of images.
    """
    images = image.expand(_SHOWN, *image.shape).clone()
    with _Recorder(images, book) as recorder:
        logits = forward(images)
    if id(logits) not in recorder.numbers:
        raise NotRecordableError("the logits do not follow from the images")
    return Program(tuple(recorder.operations), recorder.numbers[id(logits)])


class _Recorder(TorchFunctionMode):
    def __init__(self, images: Tensor, book: Book) -> None:
        super().__init__()
        self.operations: list[Operation] = []
        self.numbers = {id(images): book.number("images")}
        self._kept: list[Any] = [images]  # an id must not be used again
        self._book = book

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        named = kwargs or {}
        leaves = _leaves((args, tuple(named.values())))
        known = [leaf for leaf in leaves if isinstance(leaf, Tensor) and id(leaf) in self.numbers]
        out = func(*args, **named)
        if not known:
            return out
        if func in _LOOKS:
            raise NotRecordableError(f"{func.__name__} of an intermediate result")
        if isinstance(out, Tensor):
            self._note(func, tuple(args), named, out, leaves)
        elif isinstance(out, tuple | list) and any(isinstance(part, Tensor) for part in out):
            raise NotRecordableError(f"{getattr(func, '__name__', func)} gives several tensors")
        return out

    def _note(
        self, func: Any, given: tuple[Any, ...], named: Any, out: Tensor, leaves: Sequence[Any]
    ) -> None:
        if any(type(leaf) is int and leaf == _SHOWN for leaf in leaves):
            raise NotRecordableError("the number of images is among the arguments of a function")
        own = next((n for n, value in enumerate(given) if value is out), None)
        if own is not None and out._base is not None:
            raise NotRecordableError("a part of a tensor is overwritten")
        shown, shown_named = self._shown(given), {k: self._shown(v) for k, v in named.items()}
        key = func, self._key(given), tuple((k, self._key(v)) for k, v in sorted(named.items()))
        number = self._book.number(key)
        kind = self._book.kind(number, key)
        even = all(leaf.shape == out.shape for leaf in leaves if isinstance(leaf, Tensor))
        self.operations.append(Operation(number, kind, func, shown, shown_named, own, even))
        self.numbers[id(out)] = number
        self._kept.append(out)

    def _shown(self, part: Any) -> Any:
        if isinstance(part, Tensor):
            number = self.numbers.get(id(part))
            return part.detach() if number is None else Value(number)
        if isinstance(part, tuple | list):
            return tuple(self._shown(p) for p in part)
        return part

    def _key(self, part: Any) -> Any:
        if isinstance(part, Tensor):
            number = self.numbers.get(id(part))
            return self._book.constant(part) if number is None else Value(number)
        if isinstance(part, tuple | list):
            return tuple(self._key(p) for p in part)
        if isinstance(part, slice):
            return "slice", part.start, part.stop, part.step
        return type(part).__name__, part


def _without_inputs(key: Any) -> Any:
    if isinstance(key, Value):
        return "a result"
    return tuple(_without_inputs(k) for k in key) if type(key) is tuple else key


def _leaves(part: Any) -> list[Any]:
    if type(part) is Value or not isinstance(part, tuple | list):
        return [part]
    return [leaf for inner in part for leaf in _leaves(inner)]


@dataclass(frozen=True, eq=False)
class Step:
    """One thing to do: an operation as it is, or a batch norm with what is merged into it.

    ``number``: of the result. ``kind``: equal for steps that differ in their inputs only; None
    where several inputs may not be given as one, image below image. ``norm``: the batch norm of
    ``operation``, ``conv`` the convolution before it, ``added`` whether the second input is added
    to it, ``rectified`` whether a ReLU follows; ``seen``: the number by which the batch norm's
    statistics are known.
    """

    number: int
    inputs: tuple[int, ...]
    operation: Operation
    kind: tuple[int, ...] | None = None
    norm: Norm | None = None
    conv: Convolution | None = None
    added: bool = False
    rectified: bool = False
    seen: int = -1


class Norm(NamedTuple):
    weight: Tensor | None
    bias: Tensor | None
    eps: float


class Convolution(NamedTuple):
    weight: Tensor
    bias: Tensor | None
    settings: tuple[Any, ...]  # stride, padding, dilation, groups


def steps(program: Program) -> list[Step]:
    """The program with convolutions, batch norms and ReLUs merged, and nothing without effect."""
    uses = Counter(n for o in program.operations for n in o.inputs)
    uses[program.result] += 1
    made = {o.number: o for o in program.operations}
    merged: dict[int, Step] = {}
    for operation in made.values():
        merged[operation.number] = _merge(operation, made, merged, uses)
    needed: dict[int, Step] = {}
    open_ends = [program.result]
    while open_ends:
        number = open_ends.pop()
        if number in merged and number not in needed:
            needed[number] = merged[number]
            open_ends.extend(merged[number].inputs)
    return [step for number, step in merged.items() if number in needed]


def _merge(
    operation: Operation, made: Mapping[int, Operation], merged: Mapping[int, Step], uses: Any
) -> Step:
    inputs = tuple(operation.inputs)
    is_sum = operation.function in _SUMS and operation.even
    imagewise = (is_sum or operation.function in _IMAGEWISE) and operation.own is None
    # x + x is of another kind than x + y
    alike = (operation.kind, *map(inputs.index, inputs)) if imagewise else None
    plain = Step(operation.number, inputs, operation, alike)
    if operation.function is F.batch_norm:
        norm, source = _norm(operation), made.get(inputs[0])
        if norm is None:
            return plain
        conv = _convolution(source) if source is not None and uses[source.number] == 1 else None
        if conv is None or source is None:
            return Step(operation.number, inputs, operation, None, norm, seen=operation.number)
        return Step(
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


def _norm(operation: Operation) -> Norm | None:
    """None for one whose weights follow from the images, or that has no statistics to inherit."""
    found = dict(zip(_NORM, operation.given, strict=False)) | dict(operation.named)
    weight, bias = found.get("weight"), found.get("bias")
    if isinstance(weight, Value) or isinstance(bias, Value) or found.get("training"):
        return None
    return Norm(weight, bias, float(found.get("eps", 1e-5)))


def _convolution(operation: Operation) -> Convolution | None:
    if operation.function not in _CONVOLUTIONS or len(operation.inputs) != 1:
        return None
    found = dict(zip(_CONV, operation.given, strict=False)) | dict(operation.named)
    if not isinstance(found["input"], Value):
        return None
    rest = (found.get(name, value) for name, value in zip(_CONV[3:], (1, 0, 1, 1), strict=True))
    return Convolution(found["weight"], found.get("bias"), tuple(rest))


class Plan:
    """All steps of several programs, each once, in an order that goes.

    ``waves``: steps that are done at once; single ones, unless ``stacked`` puts steps of one kind
    together. ``ends``: after each wave, the results that nobody needs any more.
    """

    def __init__(
        self,
        programs: Sequence[Sequence[Step]],
        results: Sequence[int],
        stacked: bool = False,
    ) -> None:
        ordered: dict[int, Step] = {}
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
    def steps(self) -> list[Step]:
        return [step for wave in self.waves for step in wave]


def _waves(ordered: Sequence[Step]) -> list[list[Step]]:
    """Steps of one kind together: they wait for one another as long as there is else to do."""
    made = {step.number for step in ordered}
    missing = {step.number: len(made.intersection(step.inputs)) for step in ordered}
    users: dict[int, list[Step]] = defaultdict(list)
    for step in ordered:
        for number in made.intersection(step.inputs):
            users[number].append(step)
    still = Counter(_alike(step) for step in ordered)
    ready: dict[Any, list[Step]] = defaultdict(list)
    waves: list[list[Step]] = []
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


def _alike(step: Step) -> Any:
    """What steps of one wave have in common."""
    return step.number if step.kind is None else step.kind
