"""This module has the part of a search space that is stored with a run.

Other programs read the run's architectures from it without the code of the space.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from raynas.core import Architecture, ArchitectureGraph, Choice, Option, UserError
from raynas.core.ability import has
from raynas.spaces.abilities import HasDiagram
from raynas.spaces.base import SearchSpace
from raynas.spaces.roundtrip import has_plain_text

FORMAT = 1
_MOST_ARCHITECTURES = 50_000


@dataclass(frozen=True)
class StoredSpace:
    """The choices of a search space, and some of its architectures.

    Attributes:
        name: The name of the space.
        choices: The choices of the space; an option that JSON does not support is replaced by its
            text.
        plain_text: True when the space spells architectures as spaces do by default.
        plain_graph: True when the space draws architectures as spaces do by default.
        taken: Text of an architecture -> for each choice the index of its option.
        drawings: Text of an architecture -> its drawing.
    """

    name: str
    choices: tuple[Choice, ...]
    plain_text: bool
    plain_graph: bool
    taken: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    drawings: Mapping[str, ArchitectureGraph] = field(default_factory=dict)

    @classmethod
    def of(cls, space: SearchSpace) -> StoredSpace:
        """Describe ``space``, without any architecture.

        Args:
            space: Any search space.

        Returns:
            The choices and the kind of text and drawing.
        """
        kind = type(space)
        return cls(
            space.name,
            tuple(
                Choice(c.name, tuple(_storable(o) for o in c.options), c.ordered)
                for c in space.choices
            ),
            has_plain_text(space) and kind.architecture is SearchSpace.architecture,
            not has(space, HasDiagram) and kind.graph is SearchSpace.graph,
        )

    def holding(
        self, space: SearchSpace, texts: Iterable[str], drawn: Iterable[str]
    ) -> StoredSpace:
        """Add data that does not follow from the choices alone.

        Args:
            space: The space itself; it is asked for each architecture. Architectures that it cannot
                read or draw are left out.
            texts: Architectures whose options are kept, where the space has a text form of its own;
                of more than 50,000 none is kept.
            drawn: Architectures whose drawings are kept, where the space draws in its own way.

        Returns:
            A new stored space with these architectures added.
        """
        taken, drawings = dict(self.taken), dict(self.drawings)
        wanted = [] if self.plain_text else [t for t in dict.fromkeys(texts) if t not in taken]
        for text in wanted if len(wanted) + len(taken) <= _MOST_ARCHITECTURES else []:
            if (found := _ask(space, text)) is not None:
                taken[text] = found
        for text in [] if self.plain_graph else dict.fromkeys(drawn):
            if text not in drawings and (picture := _draw(space, text)) is not None:
                drawings[text] = picture
        return replace(self, taken=taken, drawings=drawings)

    def reads(self, texts: Iterable[str]) -> bool:
        """Return True when the options of each of these architectures are known.

        Args:
            texts: Texts of architectures.

        Returns:
            False when one or more are not known.
        """
        try:
            return all(self.architecture(text) for text in texts)
        except UserError:
            return False

    def architecture(self, text: str) -> Architecture:
        """Return the architecture with this text.

        Args:
            text: The text of an architecture.

        Returns:
            The architecture.

        Raises:
            UserError: The options of the architecture are not known.
        """
        if text in self.taken:
            pairs = [
                (c.name, c.options[i]) for c, i in zip(self.choices, self.taken[text], strict=True)
            ]
        elif self.plain_text:
            values = _Choices(self.choices).parse(text)
            if lacking := [c.name for c in self.choices if c.name not in values]:
                raise UserError(f"architecture {text!r} lacks choice {lacking[0]!r}")
            pairs = [(c.name, values[c.name]) for c in self.choices]
        else:
            raise UserError(f"the options of architecture {text!r} are not stored")
        return Architecture(self.name, tuple(pairs), text)

    def graph(self, arch: Architecture) -> ArchitectureGraph:
        """Return the drawing of an architecture.

        Args:
            arch: An architecture of this space.

        Returns:
            The stored drawing, or the default one.

        Raises:
            UserError: The space draws in its own way, and the drawing is not stored.
        """
        if arch.text in self.drawings:
            return self.drawings[arch.text]
        if not self.plain_graph:
            raise UserError(f"the drawing of architecture {arch.text!r} is not stored")
        return _Choices(self.choices).graph(arch)

    def to_json(self, **more: Any) -> str:
        """Return the contents of a file.

        Args:
            more: Additional entries.

        Returns:
            JSON text, which :meth:`from_json` reads.
        """
        return json.dumps(
            {
                "format": FORMAT,
                "name": self.name,
                "choices": [
                    {"name": c.name, "options": list(c.options), "ordered": c.ordered}
                    for c in self.choices
                ],
                "plain_text": self.plain_text,
                "plain_graph": self.plain_graph,
                "taken": self.taken,
                "drawings": {t: [g.nodes, g.edges] for t, g in self.drawings.items()},
                **more,
            }
        )

    @classmethod
    def from_json(cls, data: Any) -> StoredSpace:
        """Return the stored space of parsed JSON data, after checking it.

        Args:
            data: The result of ``json.loads``.

        Returns:
            The stored space.

        Raises:
            ValueError: The data was not written by :meth:`to_json`.
        """
        try:
            if data["format"] != FORMAT:
                raise ValueError(f"format {_brief(data['format'])} is not {FORMAT}")
            choices = tuple(_choice(c) for c in _a(list, data["choices"]))
            return cls(
                _a(str, data["name"]),
                choices,
                _a(bool, data["plain_text"]),
                _a(bool, data["plain_graph"]),
                {t: _taken(i, choices) for t, i in _a(dict, data["taken"]).items()},
                {t: _graph(g) for t, g in _a(dict, data["drawings"]).items()},
            )
        except (KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
            raise ValueError(f"{type(error).__name__}: {_brief(error)}") from None


@dataclass(frozen=True)
class _Choices(SearchSpace):
    """A space with the default text and drawing."""

    name: ClassVar[str] = "stored"
    known: tuple[Choice, ...]

    @property
    def choices(self) -> tuple[Choice, ...]:
        return self.known


def whole_texts(texts: Iterable[str]) -> StoredSpace:
    """Return a space of one choice, of which each of these texts is an option.

    Args:
        texts: Texts of architectures.

    Returns:
        A space that knows these architectures only.

    Example:
        >>> space = whole_texts(["a", "b"])
        >>> space.architecture("b").options, space.reads(["c"])
        (('b',), False)
    """
    options = tuple(dict.fromkeys(texts))
    taken = {text: (index,) for index, text in enumerate(options)}
    return StoredSpace("stored", (Choice("architecture", options),), False, False, taken)


def _ask(space: SearchSpace, text: str) -> tuple[int, ...] | None:
    try:
        arch = space.architecture(text)
        return tuple(c.options.index(arch[c.name]) for c in space.choices)
    except (
        Exception
    ):  # an error of the user's code: the architecture is left out and the run continues
        return None


def _draw(space: SearchSpace, text: str) -> ArchitectureGraph | None:
    try:
        drawn = space.graph(space.architecture(text))
        return _graph(json.loads(json.dumps([drawn.nodes, drawn.edges])))
    except Exception:  # as above; the text is shown instead
        return None


def _storable(option: Option) -> Option:
    return option if isinstance(option, bool | int | float | str) else str(option)


def _a(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise ValueError(f"{_brief(value)} is not of type {kind.__name__}")
    return value


def _brief(value: object) -> str:
    return str(value)[:60]


def _choice(found: Any) -> Choice:
    options = tuple(_a(list, found["options"]))
    if not all(isinstance(option, bool | int | float | str) for option in options):
        raise ValueError(
            f"choice {_brief(found['name'])} has options that are not texts or numbers"
        )
    return Choice(_a(str, found["name"]), options, _a(bool, found["ordered"]))


def _taken(found: Any, choices: tuple[Choice, ...]) -> tuple[int, ...]:
    indices = tuple(_a(int, i) for i in _a(list, found))
    if len(indices) != len(choices) or any(
        not 0 <= i < len(c) for i, c in zip(indices, choices, strict=True)
    ):
        raise ValueError("an architecture has options that its choices do not have")
    return indices


def _graph(found: Any) -> ArchitectureGraph:
    nodes, edges = found
    named = tuple(_a(str, node) for node in _a(list, nodes))
    joined = tuple((_a(int, a), _a(int, b), _a(str, label)) for a, b, label in _a(list, edges))
    if any(not 0 <= end < len(named) for a, b, _ in joined for end in (a, b)):
        raise ValueError("an edge ends at a node that does not exist")
    return ArchitectureGraph(named, joined)
