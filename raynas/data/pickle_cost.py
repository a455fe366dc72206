"""This module computes the cost of a pickle from its instructions, before any of them is executed.

A few bytes of a pickle can cause an exponential amount of work (a tuple of the same tuple twice,
many times over, that becomes a key), or gigabytes of memory (a million empty dicts, a memo index
beyond all others). Here each instruction is read and nothing is built. A stack of numbers
represents the stack of values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import unpack_from

_MOST_PARTS = 1_000
"""The largest number of parts of a tuple or frozen set, nested parts included."""
_MOST_HASHED = 20_000_000
"""The largest number of parts in all keys together; hashing them takes about 0.2 s."""
_MOST_INSTRUCTIONS = 3_000_000
"""The largest number of instructions; checking them takes about 1.5 s."""

# bytes of an empty value, with its place on the stack and in the memo
_SMALL, _LIST, _DICT, _SET = 64, 88, 96, 248


class PickleRefused(Exception):
    """An error that says why a pickle is not read."""


def check_cost(data: bytes, most: int) -> None:
    """Check that a pickle is complete and takes neither too much memory nor too much time.

    Args:
        data: The pickle.
        most: The largest number of bytes of memory that its values may take, by estimate.

    Raises:
        Refused: The pickle would take more memory or time than allowed.
        Refused: The pickle is incomplete or not a pickle of data.

    Example:
        >>> import pickle
        >>> check_cost(pickle.dumps({"data": [1, 2, 3]}), most=10_000)
    """
    walk = _Walk(data, most)
    try:
        walk.go()
    except (IndexError, KeyError, ValueError, TypeError, ArithmeticError) as error:
        raise PickleRefused(f"it is no whole pickle, {type(error).__name__}") from None
    except Exception as error:
        if isinstance(error, PickleRefused):
            raise
        raise PickleRefused(f"it is no whole pickle, {type(error).__name__}") from None


class _Walk:
    """One pass over a pickle.

    ``stack`` has the number of parts of each value, as they count for a hash; 1 for a value without
    parts.
    """

    def __init__(self, data: bytes, most: int) -> None:
        self.data, self.most = data, most
        self.place, self.bytes, self.hashed, self.count = 0, 0, 0, 0
        self.stack: list[int] = []
        self.marks: list[int] = []
        self.memo: dict[int, int] = {}

    def go(self) -> None:
        data, end = self.data, len(self.data)
        while True:
            if self.place >= end:
                raise PickleRefused("it is cut off")
            code = data[self.place]
            self.place += 1
            self.count += 1
            if code == _STOP:
                return
            step = _STEPS[code]
            if step is None:
                raise PickleRefused(f"its instruction {bytes([code])!r} is not of data")
            step(self)
            if self.count > _MOST_INSTRUCTIONS:
                raise PickleRefused(f"it has more than {_MOST_INSTRUCTIONS} instructions")
            if self.bytes > self.most:
                raise PickleRefused(f"its values take more than {self.most >> 20} MiB")

    # -- pieces ------------------------------------------------------------------------------------

    def push(self, size: int, parts: int = 1) -> None:
        self.bytes += size
        self.stack.append(parts)

    def take(self, size: int) -> int:
        """Skip ``size`` bytes of the pickle and return ``size``."""
        if size < 0 or self.place + size > len(self.data):
            raise PickleRefused("it is cut off")
        self.place += size
        return size

    def line(self) -> bytes:
        end = self.data.index(b"\n", self.place)
        text = self.data[self.place : end]
        self.place = end + 1
        return text

    def to_mark(self) -> list[int]:
        start = self.marks.pop()
        items = self.stack[start:]
        if start > len(self.stack):
            raise PickleRefused("its stack has less than a mark says")
        del self.stack[start:]
        return items

    def frozen(self, items: Sequence[int]) -> None:
        parts = 1 + sum(items)
        if parts > _MOST_PARTS:
            raise PickleRefused(f"a tuple of it has more than {_MOST_PARTS} parts")
        self.push(_SMALL + 8 * len(items), parts)

    def hash(self, keys: Sequence[int]) -> None:
        self.hashed += sum(keys)
        self.bytes += 100 * len(keys)
        if self.hashed > _MOST_HASHED:
            raise PickleRefused("its keys are too large")

    def put(self, index: int) -> None:
        if not 0 <= index <= self.count:
            raise PickleRefused("an index of its memo is beyond all values")
        self.memo[index] = self.stack[-1]


Step = Callable[[_Walk], None]
_STOP = ord(".")


def _constant(width: int) -> Step:
    def step(w: _Walk) -> None:
        w.take(width)
        w.push(_SMALL)

    return step


def _sized(layout: str, width: int, factor: int) -> Step:
    """Return the step for a value with its length before it; a character takes ``factor`` bytes."""

    def step(w: _Walk) -> None:
        (size,) = unpack_from(layout, w.data, w.place)
        w.take(width)
        w.push(_SMALL + factor * w.take(size))

    return step


def _text_line(w: _Walk) -> None:
    w.push(_SMALL + 4 * len(w.line()))


def _number_line(w: _Walk) -> None:
    if len(text := w.line()) > 40:
        raise PickleRefused(f"a number of it has {len(text)} digits")
    w.push(_SMALL)


def _long_number(layout: str, width: int) -> Step:
    def step(w: _Walk) -> None:
        (size,) = unpack_from(layout, w.data, w.place)
        w.take(width)
        if size > 16:
            raise PickleRefused(f"a number of it has {size} bytes")
        w.take(size)
        w.push(_SMALL)

    return step


def _empty(size: int) -> Step:
    return lambda w: w.push(size)


def _mark(w: _Walk) -> None:
    w.marks.append(len(w.stack))


def _tuple(w: _Walk) -> None:
    w.frozen(w.to_mark())


def _tuple_of(count: int) -> Step:
    def step(w: _Walk) -> None:
        items = w.stack[-count:]
        if len(items) < count:
            raise PickleRefused("its stack is empty")
        del w.stack[-count:]
        w.frozen(items)

    return step


def _list(w: _Walk) -> None:
    w.push(_LIST + 8 * len(w.to_mark()))


def _dict(w: _Walk) -> None:
    w.hash(w.to_mark()[::2])
    w.push(_DICT)


def _append(w: _Walk) -> None:
    w.stack.pop()
    w.bytes += 16


def _appends(w: _Walk) -> None:
    w.bytes += 16 * len(w.to_mark())


def _set_item(w: _Walk) -> None:
    w.stack.pop()
    w.hash([w.stack.pop()])


def _set_items(w: _Walk) -> None:
    w.hash(w.to_mark()[::2])


def _add_items(w: _Walk) -> None:
    w.hash(w.to_mark())


def _frozen_set(w: _Walk) -> None:
    items = w.to_mark()
    w.hash(items)
    w.bytes += _SET
    w.frozen(items)


def _call(taken: int) -> Step:
    """Return the step for a call or a look-up of a name: ``taken`` operands become one value."""

    def step(w: _Walk) -> None:
        if len(w.stack) < taken:
            raise PickleRefused("its stack is empty")
        del w.stack[-taken:]
        w.push(_SET)

    return step


def _build(w: _Walk) -> None:
    w.stack.pop()


def _pop(w: _Walk) -> None:
    if w.marks and w.marks[-1] == len(w.stack):
        w.marks.pop()
    else:
        w.stack.pop()


def _pop_mark(w: _Walk) -> None:
    w.to_mark()


def _dup(w: _Walk) -> None:
    w.push(8, w.stack[-1])


def _global(w: _Walk) -> None:
    w.line()
    w.line()
    w.push(_SMALL)


def _object(w: _Walk) -> None:
    w.to_mark()
    w.push(_SET)


def _inst(w: _Walk) -> None:
    w.line()
    w.line()
    w.to_mark()
    w.push(_SET)


def _get(layout: str, width: int) -> Step:
    def step(w: _Walk) -> None:
        (index,) = unpack_from(layout, w.data, w.place)
        w.take(width)
        w.push(8, w.memo[index])

    return step


def _put(layout: str, width: int) -> Step:
    def step(w: _Walk) -> None:
        (index,) = unpack_from(layout, w.data, w.place)
        w.take(width)
        w.put(index)

    return step


def _get_line(w: _Walk) -> None:
    w.push(8, w.memo[int(w.line()[:20])])


def _put_line(w: _Walk) -> None:
    w.put(int(w.line()[:20]))


def _memoize(w: _Walk) -> None:
    w.put(len(w.memo))


def _passed(width: int) -> Step:
    def step(w: _Walk) -> None:
        w.take(width)

    return step


_BY_CODE: dict[bytes, Step] = {
    b"N": _constant(0), b"\x88": _constant(0), b"\x89": _constant(0),  # None, True, False
    b"J": _constant(4), b"K": _constant(1), b"M": _constant(2), b"G": _constant(8),
    b"I": _number_line, b"L": _number_line, b"F": _number_line,
    b"\x8a": _long_number("<B", 1), b"\x8b": _long_number("<i", 4),
    b"S": _text_line, b"V": _text_line,
    b"T": _sized("<i", 4, 4), b"U": _sized("<B", 1, 4),
    b"B": _sized("<I", 4, 1), b"C": _sized("<B", 1, 1), b"\x8e": _sized("<Q", 8, 1),
    b"X": _sized("<I", 4, 4), b"\x8c": _sized("<B", 1, 4), b"\x8d": _sized("<Q", 8, 4),
    b")": _empty(8), b"]": _empty(_LIST), b"}": _empty(_DICT), b"\x8f": _empty(_SET),
    b"(": _mark, b"t": _tuple, b"\x85": _tuple_of(1), b"\x86": _tuple_of(2), b"\x87": _tuple_of(3),
    b"l": _list, b"d": _dict, b"a": _append, b"e": _appends, b"s": _set_item, b"u": _set_items,
    b"\x90": _add_items, b"\x91": _frozen_set,
    b"R": _call(2), b"b": _build, b"\x81": _call(2), b"\x92": _call(3), b"\x93": _call(2),
    b"o": _object, b"i": _inst, b"c": _global,
    b"0": _pop, b"1": _pop_mark, b"2": _dup,
    b"g": _get_line, b"h": _get("<B", 1), b"j": _get("<I", 4),
    b"p": _put_line, b"q": _put("<B", 1), b"r": _put("<I", 4), b"\x94": _memoize,
    b"\x80": _passed(1), b"\x95": _passed(8),
}  # fmt: skip
_STEPS: list[Step | None] = [_BY_CODE.get(bytes([code])) for code in range(256)]
