"""This module checks that a space reads its architectures back from their text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from raynas.core import Architecture, Choice, Option, UserError
from raynas.core.ability import has
from raynas.core.fields import brief
from raynas.spaces.abilities import HasTextForm
from raynas.spaces.base import SearchSpace

_PLAIN = (str, int, float, bool, type(None))


def check_round_trip(space: SearchSpace) -> None:
    """Check that the text form of architectures gives their choices and options back.

    Stored runs are resumed, verified and reported by the text of their architectures. Without this
    check, a text that is read as another architecture, or not at all, would be noticed only after
    the search. Every option of every choice is in one of the tested architectures.

    Args:
        space: Any search space; its own ``parse`` and ``format`` are used, where it has them.

    Raises:
        UserError: A text is not read back; the message names choice, option and what to do.
    """
    _check_names(space)
    if has_plain_text(space):
        for choice in space.choices:
            _check_choice(choice)
    for values in _covering(space.choices):
        _check_architecture(space, values)


def has_plain_text(space: SearchSpace) -> bool:
    """Return whether architectures are spelled "name=option,name=option".

    Args:
        space: A search space.

    Returns:
        False for a space with a text form of its own.
    """
    if has(space, HasTextForm):
        return False
    own = type(space)
    return own.format is SearchSpace.format and own.parse is SearchSpace.parse


def _check_names(space: SearchSpace) -> None:
    if not space.choices:
        raise UserError(
            f"space {space.name!r} has no choices", hint="give it at least one Choice to search"
        )
    for choice in space.choices:
        if not isinstance(choice, Choice):
            raise UserError(
                f"space {space.name!r} has the choice {brief(choice)}",
                expected='Choice objects, as Choice("width", (8, 16), ordered=True)',
            )
        if not isinstance(choice.name, str) or not choice.name:
            raise UserError(
                f"a choice of space {space.name!r} has the name {brief(choice.name)}",
                expected="text that is not empty",
            )
    name, times = Counter(choice.name for choice in space.choices).most_common(1)[0]
    if times > 1:
        raise UserError(
            f"{times} choices of space {space.name!r} have the name {name!r}",
            hint="give each choice a name of its own",
        )


def _check_choice(choice: Choice) -> None:
    """Check that a choice can stand in ``name=option,name=option``."""
    if odd := [mark for mark in ",=" if mark in choice.name] or (
        choice.name != choice.name.strip()
    ):  # fmt: skip
        shown = repr(odd[0]) if isinstance(odd, list) else "a space at its end"
        raise UserError(
            f"the name of choice {choice.name!r} has {shown} in it, and an architecture's text is "
            "'name=option,name=option'",
            hint="rename the choice",
        )
    spelled: dict[str, Option] = {}
    for option in choice.options:
        text = str(option)
        if not isinstance(option, _PLAIN) or "," in text or text != text.strip():
            raise UserError(
                f"the option {brief(option)} of choice {choice.name!r} would not be read back from "
                "an architecture's text, 'name=option,name=option'",
                expected="texts and numbers without commas and without spaces at their ends",
                hint=_hint_for(choice, option),
            )
        if text in spelled:
            raise UserError(
                f"two options of choice {choice.name!r} have one text: {brief(spelled[text])} and "
                f"{brief(option)}",
                hint="leave one of them out, or give them different texts",
            )
        spelled[text] = option


def _hint_for(choice: Choice, option: object) -> str:
    text = "x".join(map(str, option)) if isinstance(option, tuple) else ""
    text = text or "".join(str(option).split()).replace(",", "x") or "none"
    shown = text if len(text) <= 20 else "a"
    return (
        f"name it by another text, as Choice({choice.name!r}, ({shown!r}, ...)), and look up "
        "what it stands for in build()"
    )


def _covering(choices: tuple[Choice, ...]) -> Iterator[dict[str, Option]]:
    """Yield as few architectures as contain every option of every choice."""
    for at in range(max(map(len, choices))):
        yield {choice.name: choice.options[at % len(choice)] for choice in choices}


def _check_architecture(space: SearchSpace, values: dict[str, Option]) -> None:
    text = "no text"
    try:
        arch = space.architecture(values)
        text = arch.text
        again = space.architecture(text)
    except Exception as error:  # parse() and format() are a user's
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        raise UserError(
            f"the architecture {brief(values)} of space {space.name!r} is not read back from its "
            f"text {brief(text)}: {kind}{error}",
            hint="correct the options, or parse() and format() of the space",
        ) from error
    if again != arch:
        name = next((n for n in arch if not _same(arch, again, n)), "")
        raise UserError(
            f"the text {brief(text)} of space {space.name!r} is read as another architecture: "
            f"{name}={brief(again.get(name))}, not {brief(arch.get(name))}",
            hint="correct the options, or parse() and format() of the space",
        )


def _same(one: Architecture, other: Architecture, name: str) -> bool:
    return name in other and one[name] == other[name] and type(one[name]) is type(other[name])
