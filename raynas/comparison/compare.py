"""The whole comparison: which runs there are, carrying them out, and showing them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from raynas.benchmarks.nasbench201 import DATASETS
from raynas.comparison import protocols
from raynas.comparison.methods import PUBLISHED, SAMPLERS, SCHEDULERS, SEVERAL
from raynas.comparison.protocols import PROTOCOLS, WORKERS
from raynas.comparison.sections import Section, sections
from raynas.comparison.tasks import Store, Task, carry_out
from raynas.core import UserError, one_of

RESULTS, PAGE = "results.jsonl", "comparison.html"


@dataclass(frozen=True)
class Plan:
    """What to compare. ``seeds``: runs of a method; ``published_seeds``: in that protocol.

    ``methods``: samplers and schedulers by name, empty for all; a protocol takes those it has.
    Raises: UserError for names that there are not.
    """

    protocols: tuple[str, ...] = PROTOCOLS
    methods: tuple[str, ...] = ()
    datasets: tuple[str, ...] = DATASETS
    seeds: int = 100
    published_seeds: int = 500

    def __post_init__(self) -> None:
        for what, names, known in (
            ("protocol", self.protocols, PROTOCOLS),
            ("method", self.methods, (*SAMPLERS, *SCHEDULERS)),
            ("data set", self.datasets, DATASETS),
        ):
            for name in names:
                if name not in known:
                    raise one_of(what, name, known)
        if min(self.seeds, self.published_seeds) < 1:
            raise UserError(f"{min(self.seeds, self.published_seeds)} seeds", allowed="1 or more")

    def tasks(self) -> list[Task]:
        """Seed by seed, so that all methods have about equally many when it is cut short."""
        found = [task for protocol in self.protocols for task in self._tasks(protocol)]
        return sorted(found, key=lambda t: (self.protocols.index(t.protocol), t.seed))

    def _tasks(self, protocol: str) -> list[Task]:
        datasets = DATASETS[:1] if protocol == "published" else self.datasets
        seeds = self.published_seeds if protocol == "published" else self.seeds
        return [
            Task(protocol, dataset, method, protocols.settings(protocol, method), seed, workers)
            for dataset in datasets
            for method in self._methods(protocol)
            for workers in (WORKERS if protocol == "cluster" else (1,))
            for seed in range(seeds)
        ]

    def _methods(self, protocol: str) -> list[str]:
        known = {"published": PUBLISHED, "cluster": SCHEDULERS, "pareto": SEVERAL}
        return [m for m in known.get(protocol, SAMPLERS) if not self.methods or m in self.methods]


def compare(
    plan: Plan, table: Path | None, folder: Path, jobs: int, told: Callable[[int, int], None]
) -> list[Section]:
    """Carry the plan out and keep the results in ``folder``; what is there is not done again.

    Raises: UserError when there is no table, or the folder cannot be written.
    """
    path = str(table.absolute()) if table is not None else None
    tasks = plan.tasks()
    if not tasks:
        raise UserError("nothing to compare: no protocol takes these methods")
    for protocol, dataset in dict.fromkeys((t.protocol, t.dataset) for t in tasks):
        protocols.check(protocol, dataset, path)  # what is missing is said before anything runs
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be made: {error.strerror}") from error
    store = Store(folder / RESULTS)
    return sections(carry_out(tasks, protocols.answer, path, store, jobs, told))


def write(made: Sequence[Section], folder: Path, command: str) -> Path:
    """The page; returns its path."""
    from raynas.comparison.page import write_page

    write_page(folder / PAGE, made, command)
    return folder / PAGE
