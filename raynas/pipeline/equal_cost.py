"""This module gives baselines the cost of the search that they are compared with."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

from raynas.core.prices import ExpectedPrice, in_seconds, in_steps, records_time, total
from raynas.search.context import SearchLimits
from raynas.search.controller import SearchController
from raynas.store import RunFolder, read
from raynas.store.schema import SEARCH


def equal_cost(main: SearchController) -> SearchLimits:
    """Return limits by which another search costs as much as a given one.

    The cost is in the search's own price, or in steps if that price is worker time and no training
    recorded any.

    Args:
        main: The search that has ended.

    Returns:
        Limits for the samplers that it is compared with.
    """
    trials = [t for t in main.trials.values() if t.step > 0]
    paid, price = main.meter.paid, main.meter.limits.price
    each = [float(main.meter.paid_by[t.number]) for t in trials]
    if price is in_seconds and not records_time(trials):
        price = in_steps
        each = [total([t], price) for t in trials]
        paid = sum(each)
    return SearchLimits(seconds=paid, expected=ExpectedPrice(each), price=price)


def earlier_limits(folder: RunFolder, main: SearchController, arm: str) -> dict[int, SearchLimits]:
    """Return the limits under which the stored trials of a baseline began.

    A baseline of an earlier session cost as much as the search had cost by then.

    Args:
        folder: The folder of the run.
        main: The search that has ended in this session.
        arm: The name of the baseline, as stored.

    Returns:
        Number of a trial -> limits, as :func:`equal_cost` gave them in the session of its first
        row.
    """
    began: dict[int, int] = {}
    measured: dict[tuple[int, int], int] = {}
    for row in read(folder).select(["stage", "arm", "trial", "step", "session"]).to_pylist():
        number, session = row["trial"], row["session"]
        if row["stage"] != SEARCH:
            continue
        if row["arm"] == arm:
            began[number] = min(session, began.get(number, session))
        elif row["arm"] == main.rows.arm and row["step"] is not None:
            measured[number, row["step"]] = session
    limits = {session: _cost_by(session, main, measured) for session in set(began.values())}
    return {number: limits[session] for number, session in began.items()}


def _cost_by(
    session: int, main: SearchController, measured: Mapping[tuple[int, int], int]
) -> SearchLimits:
    """Return limits by what the search had cost at the end of a session."""
    price, paid_by, trained = main.meter.limits.price, Counter[int](), set[int]()
    for number, trial in main.trials.items():
        for measurement in trial.measurements:
            if measured.get((number, measurement.step), math.inf) <= session:
                paid_by[number] += price(trial, measurement)  # type: ignore[assignment]
                if measurement.step > 0:
                    trained.add(number)
    each = [float(paid_by[number]) for number in trained]
    return SearchLimits(
        seconds=float(sum(paid_by.values())), expected=ExpectedPrice(each), price=price
    )
