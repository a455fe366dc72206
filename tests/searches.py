"""Searches for tests, put together from keywords."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from raynas.core import Architecture, Job
from raynas.search.builder import (
    SearchSetup,
    build_ordered_search,
    build_retraining,
    build_search,
)
from raynas.search.checkpoints import CheckpointFolders
from raynas.search.context import EvaluationContext, RowSink
from raynas.search.controller import SearchController
from raynas.search.deterministic import DeterministicOrder
from raynas.search.trial_numbers import NumberPlan
from raynas.store.remote import RemoteFolder

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
    """What a search has in common with others of its run."""
    more["past"] = tuple(more.get("past", ()))
    own = {trial.number for trial in more["past"]}
    before = more.pop("first_number", 0)
    stored = own | set(range(before - 1, before)) - {-1}
    more.setdefault("numbers", NumberPlan.of(more["past"], stored))
    more.pop("gaps", None)
    folders = CheckpointFolders(folder, mirror, session)
    return SearchSetup(payload=payload, rows=rows, folders=folders, **more)


def make_search(payload: EvaluationContext, rows: RowSink, **more: Any) -> SearchController:
    parts = {name: more.pop(name) for name in _PARTS if name in more}
    return build_search(setup_of(payload, rows, **more), **parts)


def make_ordered(
    payload: EvaluationContext, rows: RowSink, *, lanes: int, **more: Any
) -> DeterministicOrder:
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
    return build_retraining(setup_of(payload, rows, **more), finalists, seeds)


class Recorded:
    """A search that remembers how many trials it had out at most."""

    def __init__(self, search: SearchController) -> None:
        self._search = search
        self.most = 0

    def next(self) -> Job | None:
        job = self._search.next()
        self.most = max(self.most, len(self._search.live))
        return job

    def __getattr__(self, name: str) -> Any:
        return getattr(self._search, name)
