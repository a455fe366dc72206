"""This module has the errors of raynas.

Every message says on one line which value is wrong, what is expected, and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from raynas.core.renamed import renamed_names, warn_renamed


class RaynasError(Exception):
    """The base class of all errors that raynas raises on purpose."""


class UserError(RaynasError):
    """An error for bad input; the command line prints it as one line and exits with code 2.

    No stored data has been changed when it is raised.

    Args:
        problem: The wrong value and where it was given.
        expected: The values that are accepted; empty to leave this part out.
        hint: What the user can do; empty to leave this part out.
        allowed: The old name of ``expected``, for one release.
        cure: The old name of ``hint``, for one release.

    Example:
        >>> print(UserError("share=2.", expected="0 to 1", hint="divide by 100"))
        share=2; expected: 0 to 1; divide by 100
    """

    def __init__(
        self,
        problem: str,
        *,
        expected: str = "",
        hint: str = "",
        allowed: str = "",
        cure: str = "",
    ) -> None:
        for old, new, value in (("allowed", "expected", allowed), ("cure", "hint", cure)):
            if value:
                warn_renamed(f"UserError({old}=...)", f"UserError({new}=...)")
        parts = [problem.rstrip(".")]
        if expected := expected or allowed:
            parts.append(f"expected: {expected}")
        if hint := hint or cure:
            parts.append(hint.rstrip("."))
        super().__init__("; ".join(" ".join(part.split()) for part in parts))


class SpaceExhausted(RaynasError):
    """An error of a sampler without a new proposal: every architecture of the space is known."""


class TrainingDiverged(RaynasError):
    """An error for a loss or an accuracy that is not finite; the trial ends as FAILED."""


class InfeasibleArchitecture(RaynasError):
    """An error that a space raises for incompatible options; the trial ends as INFEASIBLE.

    It may be raised by ``canonical``, ``build``, ``costs``, or the forward pass of the network.

    Example:
        >>> raise InfeasibleArchitecture("a kernel of 7 on an image of 4 x 4")
        Traceback (most recent call last):
            ...
        raynas.core.errors.InfeasibleArchitecture: a kernel of 7 on an image of 4 x 4
    """


class AllTrialsFailed(RaynasError):
    """An error for a search without any result; the command line exits with code 3.

    Everything known of the trials is stored before it is raised.
    """


class InvalidScore(RaynasError):
    """An error that says that a proxy has no score for a network; its message is the reason."""


_SHOWN = 200
"""Characters of a wrong value that are repeated to the user."""


def unknown_option(
    kind: str, value: object, expected: Iterable[object], hint: str = ""
) -> UserError:
    """Return the error for an unknown value, with the nearest known spelling as a suggestion.

    Args:
        kind: What the value should name, for the message.
        value: The unknown value; at most 200 characters of it are shown.
        expected: The known values; at most 24 of them are shown.
        hint: What the user can do; empty to leave this part out.

    Returns:
        The error, to be raised by the caller.

    Example:
        >>> print(unknown_option("option", "conw", ["conv", "pool"]))
        unknown option 'conw'; expected: conv, pool; did you mean 'conv'?
    """
    names = [str(name) for name in expected]
    given = str(value)
    given = given if len(given) <= _SHOWN else f"{given[:_SHOWN]}..."
    near = difflib.get_close_matches(given, names, n=1)
    if near:
        hint = f"did you mean {near[0]!r}?" + (f" {hint}" if hint else "")
    shown = names if len(names) <= 24 else [*names[:24], f"... ({len(names)} in all)"]
    return UserError(f"unknown {kind} {given!r}", expected=", ".join(shown), hint=hint)


def first_line(error: BaseException) -> str:
    """Return the type of ``error`` and the first line of its message.

    Args:
        error: Any exception.

    Returns:
        One line of at most 300 characters.
    """
    lines = [" ".join(line.split()) for line in str(error).strip().splitlines()[:1]]
    said = ": ".join([type(error).__name__, *lines])
    return said if len(said) <= 300 else f"{said[:297]}..."


__getattr__ = renamed_names(__name__, one_of="unknown_option")
