"""The recording of a network as a list of operations, so that networks can share computations.

A forward pass is recorded once per architecture. Equal operations with equal weights on equal
inputs get the same number (value numbering, as compilers do), so that networks which agree on
their first blocks, or on an edge of a cell, compute them once. What is executed of a recording is
planned in :mod:`raynas.supernet.evaluation.execution_plan`.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

#: images of a recording; the next number is tried when a layer has one among its settings
_SHOWN = (11, 13, 17)
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
