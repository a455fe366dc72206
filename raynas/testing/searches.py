"""Searches for tests of runners, put together from keywords.

Example:
    >>> from raynas.runners.local import LocalRunner
    >>> from raynas.samplers import Random
    >>> from raynas.testing.toys import Curves
    >>> rows = Table()
    >>> LocalRunner().run(search(Random(), Curves(), rows, trials=3))
    >>> len(rows)  # four steps each
    12
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from raynas.core import Architecture, Job, Objective
from raynas.data.base import DataView
from raynas.evaluators.base import Evaluator
from raynas.samplers.base import Sampler
from raynas.samplers.random import Random
from raynas.schedulers.none import NoStopping
from raynas.search.builder import (
    SearchSetup,
    build_ordered_search,
    build_retraining,
    build_search,
)
from raynas.search.checkpoints import CheckpointFolders
from raynas.search.context import EvaluationContext, RowSink, SearchLimits
from raynas.search.controller import SearchController
from raynas.search.deterministic import DeterministicOrder
from raynas.search.trial_numbers import NumberPlan
from raynas.store.remote import RemoteFolder
from raynas.testing.toys import ToyData, ToySpace

__all__ = [
    "SAME", "Recorded", "Table", "content", "make_ordered", "make_retraining", "make_search",
    "search", "setup_of",
]  # fmt: skip

SAME = ("arch", "seed", "step", "state", "message")
"""Columns that two runs of one search have in common; time, host and others may differ."""


class Table(list[dict[str, Any]]):
    """A receiver of rows that keeps them in memory."""

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:  # type: ignore[override]
        """Append a copy of each row."""
        self.extend(dict(row) for row in rows)

    def of(self, arch: str) -> list[dict[str, Any]]:
        """Return the rows of an architecture, given by its text form."""
        return [row for row in self if row["arch"] == arch]


def content(rows: Iterable[Mapping[str, Any]], metric: str = "val_accuracy") -> list[Any]:
    """Return the rows without time, host and the order in which they came."""
    found = [tuple(row[c] for c in (*SAME, metric)) for row in rows]
    return sorted(found, key=repr)


_PARTS = ("sampler", "fallback", "scheduler", "limits", "run", "bounds", "screening")


def setup_of(
    payload: EvaluationContext,
    rows: RowSink,
    *,
    folder: Path | None = None,
    mirror: RemoteFolder | None = None,
    session: int = 1,
    **more: Any,
) -> SearchSetup:
    """Return the parts that a search has in common with others of its run."""
    more["past"] = tuple(more.get("past", ()))
    own = {trial.number for trial in more["past"]}
    before = more.pop("first_number", 0)
    stored = own | set(range(before - 1, before)) - {-1}
    more.setdefault("numbers", NumberPlan.of(more["past"], stored))
    more.pop("gaps", None)
    folders = CheckpointFolders(folder, mirror, session)
    return SearchSetup(payload=payload, rows=rows, folders=folders, **more)


def make_search(payload: EvaluationContext, rows: RowSink, **more: Any) -> SearchController:
    """Return a search with the given parts."""
    parts = {name: more.pop(name) for name in _PARTS if name in more}
    return build_search(setup_of(payload, rows, **more), **parts)


def make_ordered(
    payload: EvaluationContext, rows: RowSink, *, lanes: int, **more: Any
) -> DeterministicOrder:
    """Return a search in deterministic order with this many virtual workers."""
    parts = {name: more.pop(name) for name in _PARTS if name in more}
    return build_ordered_search(setup_of(payload, rows, **more), lanes=lanes, **parts)


def make_retraining(
    payload: EvaluationContext,
    rows: RowSink,
    *,
    finalists: list[Architecture],
    seeds: int,
    **more: Any,
) -> SearchController:
    """Return the retraining of finalists, with this many seeds each."""
    return build_retraining(setup_of(payload, rows, **more), finalists, seeds)


class Recorded:
    """A search that remembers how many trials were running at a time at most.

    Attributes:
        most: The largest number of running trials.
    """

    def __init__(self, search: SearchController) -> None:
        self._search = search
        self.most = 0

    def next(self) -> Job | None:
        """Return the next job, or None where there is none now."""
        job = self._search.next()
        self.most = max(self.most, len(self._search.live))
        return job

    def __getattr__(self, name: str) -> Any:
        return getattr(self._search, name)


def search(
    sampler: Sampler,
    evaluator: Evaluator,
    rows: Table,
    *,
    trials: int | None = None,
    view: DataView | None = None,
    **more: Any,
) -> Any:
    """Return a search on the toys that appends to ``rows``; ``more`` replaces its parts.

    Args:
        sampler: The sampler.
        evaluator: The evaluator.
        rows: The receiver of rows.
        trials: The number of trials; None for no limit.
        view: The data; None for :class:`~raynas.testing.toys.ToyData`.
        **more: ``space``, ``scheduler``, ``bounds``, ``limits``, ``folder`` and others.

    Returns:
        A :class:`Recorded` search, which a runner takes.
    """
    payload = EvaluationContext(
        more.pop("space", None) or ToySpace(), evaluator, view or ToyData().search_view(0)
    )
    settings: dict[str, Any] = {
        "sampler": sampler,
        "fallback": Random(),
        "scheduler": NoStopping(),
        "limits": SearchLimits(trials=trials),
        "run": "test",
        "stage": "search",
        "arm": sampler.name,
        "objectives": (Objective(),),
        "seed": 0,
        **more,
    }
    return Recorded(make_search(payload, rows, **settings))
