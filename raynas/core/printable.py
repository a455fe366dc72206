"""This module makes text from files, names and messages safe to print in a terminal."""

from __future__ import annotations

import codecs
import re
import reprlib

_CONTROLS = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 without tab and line feed, DEL, C1
    "\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"  # line ends, direction marks
    "\ud800-\udfff"  # bytes of names that are not UTF-8
)
_IN_LINES = re.compile(f"[{_CONTROLS}]")
_IN_ONE_LINE = re.compile(f"[\t\n{_CONTROLS}]")
_PLAIN = {
    "\N{HORIZONTAL ELLIPSIS}": "...",
    "\N{RIGHTWARDS ARROW}": "->",
    "\N{MIDDLE DOT}": "-",
    "\N{LESS-THAN OR EQUAL TO}": "<=",
    "\N{GREATER-THAN OR EQUAL TO}": ">=",
    "\N{MULTIPLICATION SIGN}": "x",
    "\N{PLUS-MINUS SIGN}": "+-",
    "\N{EN DASH}": "-",
    "\N{EM DASH}": "-",
    "\N{NO-BREAK SPACE}": " ",
    "\N{BOX DRAWINGS HEAVY HORIZONTAL}": "-",
    "\N{BOX DRAWINGS HEAVY LEFT}": "-",
    "\N{BOX DRAWINGS HEAVY RIGHT}": "-",
}
_BYTES = 0xDC00  # a byte B of a name that is not UTF-8 is the character 0xDC00 + B

DEGRADED = "raynas.degraded"
"""The name of an error handler of codecs that spells unsupported characters in ASCII."""


def printable(text: str, *, lines: bool = False) -> str:
    r"""Return a text with escaped control characters: ESC is ``\x1b``.

    Args:
        text: Any text.
        lines: True to keep line feeds and tabs.

    Returns:
        The text without C0, DEL, C1, directional marks and lone surrogates.

    Example:
        >>> print(printable("\x1b[31mred"))
        \x1b[31mred
    """
    return (_IN_LINES if lines else _IN_ONE_LINE).sub(_spelled, text)


def _spelled(match: re.Match[str]) -> str:
    code = ord(match[0])
    if _BYTES + 0x80 <= code <= _BYTES + 0xFF:
        code -= _BYTES
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def brief(value: object, most: int = 80) -> str:
    """Return a short text for a foreign value, on one line and in bounded time.

    Args:
        value: Any value; its ``repr`` may fail.
        most: The largest number of characters.

    Returns:
        At most ``most`` characters.
    """
    try:
        text = _SHORT.repr(value)
    except Exception:  # a foreign value's own repr, or an int beyond what Python spells
        text = f"<{type(value).__name__}>"
    text = printable(text)
    return text if len(text) <= most else f"{text[: most - 3]}..."


class _Short(reprlib.Repr):
    """A short ``repr`` that does not sort sets and dicts: sorting compares foreign values."""

    def repr_int(self, x: int, level: int) -> str:
        return (
            f"<int of {x.bit_length()} bits>"
            if x.bit_length() > 256
            else super().repr_int(x, level)
        )


_SHORT = _Short()
_SHORT.maxlevel = 3


def _degrade(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    spelled = "".join(_PLAIN.get(c) or ascii(c)[1:-1] for c in letters)
    return spelled, error.end


codecs.register_error(DEGRADED, _degrade)
