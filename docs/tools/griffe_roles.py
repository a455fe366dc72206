"""Docstrings name objects by Sphinx roles (``:class:`~raynas.core.Trial```); links replace them.

mkdocs.yml names this file as an extension of griffe, which reads the docstrings.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_TABLE = re.compile(r"^(=+)( +)=+\n(.*?)^=+ +=+$", re.DOTALL | re.MULTILINE)
_ROLE = re.compile(r":(?:mod|class|func|meth|attr|data|exc):`(~?)([\w.]+)`")


def linked(text: str) -> str:
    """Return a docstring whose roles are links, where their target has an entry.

    Args:
        text: The docstring.

    Returns:
        The docstring; ``~`` leaves only the last part of the name. Tables become lists.

    Example:
        >>> linked("See :class:`~raynas.core.Trial`.")
        'See <autoref optional identifier="raynas.core.Trial"><code>Trial</code></autoref>.'
    """

    def link(found: re.Match[str]) -> str:
        short, target = found.groups()
        shown = target.rpartition(".")[2] if short else target
        return f'<autoref optional identifier="{target}"><code>{shown}</code></autoref>'

    text = re.sub(r"^\s*\.\. code-block:: \w+\n", "", text, flags=re.MULTILINE)
    return _ROLE.sub(link, _TABLE.sub(_as_list, text))


def _as_list(table: re.Match[str]) -> str:
    """Return a table of reStructuredText with two columns as a list."""
    second = len(table[1]) + len(table[2])
    rows: list[str] = []
    for line in table[3].splitlines():
        left, right = line[:second].strip(), line[second:].strip()
        if left:
            rows.append(f"- {left}: {right}")
        else:
            rows[-1] += f" {right}"
    return "\n".join(rows) + "\n"


class Roles(griffe.Extension):
    """An extension of griffe that replaces roles in every docstring."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        """Replace the roles in one docstring.

        Args:
            obj: A module, class, function or attribute.
        """
        if obj.docstring is not None:
            obj.docstring.value = linked(obj.docstring.value)
