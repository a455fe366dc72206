"""What a report takes from the description of an experiment, which may be anyone's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from raynas.core import Bound, Objective, UserError
from raynas.core.printable import brief


def objectives_of(description: Mapping[str, Any]) -> tuple[Objective, ...]:
    """The objectives that a described experiment states; validation accuracy when it has none.

    Raises: UserError for a description that raynas did not write.
    """
    check_description(description)
    found = description.get("objectives") or ()
    made = tuple(Objective(o["metric"], o.get("direction", "max")) for o in found)
    return made or (Objective(),)


def bounds_of(description: Mapping[str, Any]) -> tuple[Bound, ...]:
    """The bounds that a described experiment states.

    Raises: UserError for a description that raynas did not write.
    """
    check_description(description)
    found = description.get("bounds") or ()
    return tuple(
        Bound(b["metric"], float(b.get("max", math.inf)), float(b.get("min", -math.inf)))
        for b in found
    )


def check_description(description: Mapping[str, Any]) -> None:
    """See that what is read of a described experiment is what raynas writes.

    Raises: UserError.
    """
    try:
        _check(description)
    except ValueError as error:
        raise UserError(
            f"run.json cannot be read: {error}",
            cure="restore it from a copy, or start a new run",
        ) from None


def _check(description: Mapping[str, Any]) -> None:
    for name, kind in (("budget", Mapping), ("evaluator", Mapping), ("space", Mapping)):
        if not isinstance(description.get(name) or {}, kind):
            raise ValueError(f"description.{name} is {brief(description[name])}")
    for name in ("objectives", "bounds"):
        parts = description.get(name) or []
        if not isinstance(parts, list):
            raise ValueError(f"description.{name} is {brief(parts)}")
        for part in parts:
            _check_part(name, part)


def _check_part(name: str, part: Any) -> None:
    if not isinstance(part, Mapping) or not isinstance(part.get("metric"), str):
        raise ValueError(f"description.{name} holds {brief(part)}")
    if part.get("direction", "max") not in ("max", "min"):
        raise ValueError(f"description.{name} has direction {brief(part['direction'])}")
    limits = [part[side] for side in ("min", "max") if name == "bounds" and side in part]
    for limit in limits:
        if isinstance(limit, bool) or not isinstance(limit, int | float):
            raise ValueError(f"description.{name} holds {brief(part)}")
    if len(limits) == 2 and not limits[0] <= limits[1]:
        raise ValueError(f"description.{name} holds {brief(part)}")
