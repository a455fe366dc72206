"""What can go wrong, in words a user can act on.

Every message names the value, what is allowed, and the cure, on one line.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RaynasError(Exception):
    """The base of all errors that raynas raises on purpose."""


class UserError(RaynasError):
    """Bad input. The command line prints it as one line and exits with code 2.

    Nothing that is already stored is touched when it is raised.
    """

    def __init__(self, problem: str, *, allowed: str = "", cure: str = "") -> None:
        parts = [problem.rstrip(".")]
        if allowed:
            parts.append(f"allowed: {allowed}")
        if cure:
            parts.append(cure.rstrip("."))
        super().__init__("; ".join(" ".join(part.split()) for part in parts))


class SpaceExhausted(RaynasError):
    """A sampler has nothing new to propose: every architecture of the space is known."""


class TrainingDiverged(RaynasError):
    """A loss or an accuracy is no longer finite; the trial ends as FAILED, with this message."""


class InfeasibleArchitecture(RaynasError):
    """A space raises it for options that do not go together: the trial ends as INFEASIBLE.

    It may come from ``canonical``, ``build``, ``costs``, or the forward pass of the network.

    Example:
        >>> raise InfeasibleArchitecture("a kernel of 7 on an image of 4 x 4")
    """


class AllTrialsFailed(RaynasError):
    """No trial of a search gave a result. The command line prints it and exits with code 3.

    All that is known of the trials is stored before it is raised.
    """


class InvalidScore(RaynasError):
    """A proxy has no score for this network; the message is the reason."""


_SHOWN = 200
"""Characters of a wrong value that are repeated to the user."""


def one_of(kind: str, value: object, allowed: Iterable[object], cure: str = "") -> UserError:
    """The error for ``value`` that is none of ``allowed``; suggests the nearest spelling."""
    names = [str(name) for name in allowed]
    given = str(value)
    given = given if len(given) <= _SHOWN else f"{given[:_SHOWN]}..."
    near = difflib.get_close_matches(given, names, n=1)
    if near:
        cure = f"did you mean {near[0]!r}?" + (f" {cure}" if cure else "")
    shown = names if len(names) <= 24 else [*names[:24], f"... ({len(names)} in all)"]
    return UserError(f"unknown {kind} {given!r}", allowed=", ".join(shown), cure=cure)


def first_line(error: BaseException) -> str:
    """Return the kind of ``error`` and the first line of what it says, at most 300 characters."""
    lines = [" ".join(line.split()) for line in str(error).strip().splitlines()[:1]]
    said = ": ".join([type(error).__name__, *lines])
    return said if len(said) <= 300 else f"{said[:297]}..."
