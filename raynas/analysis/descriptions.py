"""Objectives and bounds read from the description of an experiment, which may be damaged."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from raynas.core import Bound, Objective, UserError
from raynas.core.printable import brief


def objectives_of(description: Mapping[str, Any]) -> tuple[Objective, ...]:
    """Return the objectives that a described experiment states.

    Args:
        description: The ``description`` of a run's run.json.

    Returns:
        Its objectives; validation accuracy when it states none.

    Raises:
        UserError: The description was not written by raynas.

    Example:
        >>> objectives_of({"objectives": [{"metric": "val_loss", "direction": "min"}]})[0].metric
        'val_loss'
    """
    check_description(description)
    found = description.get("objectives") or ()
    made = tuple(Objective(o["metric"], o.get("direction", "max")) for o in found)
    return made or (Objective(),)


def bounds_of(description: Mapping[str, Any]) -> tuple[Bound, ...]:
    """Return the bounds that a described experiment states.

    Args:
        description: The ``description`` of a run's run.json.

    Returns:
        Its bounds; an absent side is infinite.

    Raises:
        UserError: The description was not written by raynas.
    """
    check_description(description)
    found = description.get("bounds") or ()
    return tuple(
        Bound(b["metric"], float(b.get("max", math.inf)), float(b.get("min", -math.inf)))
        for b in found
    )


def check_description(description: Mapping[str, Any]) -> None:
    """Check that a described experiment has the form that raynas writes, where it is read.

    Args:
        description: The ``description`` of a run's run.json.

    Raises:
        UserError: A part of it has another form.
    """
    try:
        _check(description)
    except ValueError as error:
        raise UserError(
            f"run.json cannot be read: {error}",
            hint="restore it from a copy, or start a new run",
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
