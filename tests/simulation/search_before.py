"""Drives the searches of revision c4bb21f with the same world, to see which faults it finds there.

``git worktree add /tmp/before c4bb21f``, then
``PYTHONPATH=/tmp/before python tests/simulate.py search_before --seeds 2000``.

The modules that the world imports did not exist then; these stand for them, and hand on to
``raynas.runners``.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

from raynas.runners.finals import Finals
from raynas.runners.order import OrderedSearch
from raynas.runners.retention import Checkpoints, Retention
from raynas.runners.search import Limits, Search
from raynas.runners.work import Payload, Work

import raynas.runners.base as base
from raynas.core import seed_for  # noqa: F401 - the revision is importable at all


@dataclass
class NumberPlan:
    """As ``Session._common`` and ``Session._first`` had it."""

    first: int
    gaps: Any
    taken: Any

    @classmethod
    def of(cls, past: Any, stored: Any) -> NumberPlan:
        own = [trial.number for trial in past]
        gaps = sorted(set(range(min(own), max(own))) - set(stored)) if own else ()
        return cls(max(stored, default=-1) + 1, gaps, set(stored))


@dataclass
class SearchSetup:
    payload: Any
    rows: Any
    stage: str
    arm: str
    objectives: Any
    seed: int
    past: Any
    numbers: Any
    keep: int
    folders: Any
    retention: Any

    def common(self) -> dict[str, Any]:
        return {
            "stage": self.stage, "arm": self.arm, "objectives": self.objectives,
            "seed": self.seed, "keep": self.keep, "folder": self.folders,
            "retention": self.retention, "past": self.past, "first_number": self.numbers.first,
            "gaps": self.numbers.gaps,
        }  # fmt: skip


@dataclass
class Source:
    """A work of then with the methods of now."""

    work: Any
    stale: set[int] = field(default_factory=set)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.work, name)

    @property
    def controller(self) -> Any:
        return self.work

    def next(self) -> Any:
        job = self.work.next()
        return None if job is None else Ticketed(job)

    def again(self, job: Any) -> None:
        self.work.again(job.trial)

    def restarted(self, job: Any) -> None:
        self.work.trials[job.trial].attempt = job.attempt


class Ticketed:
    """A job of then; it had no ticket."""

    def __init__(self, job: Any) -> None:
        self.job, self.ticket = job, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.job, name)


def build_search(setup: SearchSetup, **parts: Any) -> Source:
    return Source(Search(setup.payload, setup.rows, **parts, **setup.common()))


def build_ordered_search(setup: SearchSetup, *, lanes: int, **parts: Any) -> Source:
    own = {trial.number for trial in setup.past}
    before = [n for n in setup.numbers.taken - own if not own or n < min(own)]
    common = setup.common() | {"first_number": max(before, default=-1) + 1, "gaps": ()}
    return Source(OrderedSearch(setup.payload, setup.rows, lanes=lanes, **parts, **common))


def build_retraining(setup: SearchSetup, archs: Any, seeds: int) -> Source:
    return Source(Finals(setup.payload, setup.rows, finalists=archs, seeds=seeds, **setup.common()))


def _stand_in(name: str, **content: Any) -> None:
    module = ModuleType(f"raynas.search.{name}" if name else "raynas.search")
    vars(module).update(content)
    sys.modules[module.__name__] = module


_stand_in("")
_stand_in(
    "build", SearchSetup=SearchSetup, build_search=build_search,
    build_ordered_search=build_ordered_search, build_retraining=build_retraining,
)  # fmt: skip
_stand_in("checkpoints", CheckpointFolders=lambda folder, _mirror, _session: folder)
_stand_in("context", Limits=Limits, Payload=Payload)
_stand_in("numbers", NumberPlan=NumberPlan)
_stand_in("retention", Checkpoints=Checkpoints, Retention=Retention)
_stand_in("source", JobSource=Work)

from simulation import search_world  # noqa: E402


def _deliver(work: Source, job: Any, outcome: Any) -> bool:
    return base.deliver(work.work, job.trial, outcome)


search_world.deliver = _deliver
search_world.steps = lambda evaluator, arch, job: base.steps(evaluator, arch, job.job)
search_world.steps_of_many = lambda evaluator, tasks: base.steps_of_many(
    evaluator, [(arch, job.job) for arch, job in tasks]
)
search_world._next_attempt = lambda job: SimpleNamespace(
    **{**vars(job.job), "attempt": job.attempt + 1, "job": job.job}
)

run_seed, replay = search_world.run_seed, search_world.replay
