"""The whole comparison: the list of its runs, their execution, and the page of results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from raynas.apps.compare import protocols, table_values
from raynas.apps.compare.methods import PUBLISHED, SAMPLERS, SCHEDULERS, SEVERAL
from raynas.apps.compare.protocols import PROTOCOLS, WORKERS
from raynas.apps.compare.sections import PageSection, sections
from raynas.apps.compare.tasks import ComparisonTask, TaskResults, carry_out
from raynas.benchmarks.nasbench201 import DATASETS
from raynas.core import UserError, unknown_option

RESULTS, PAGE = "results.jsonl", "comparison.html"


@dataclass(frozen=True)
class ComparisonPlan:
    """The protocols, methods and seeds of a comparison.

    Attributes:
        protocols: Names of protocols; empty for all that the table can answer.
        methods: Samplers and schedulers by name; empty for all. A protocol takes those that it has.
        datasets: Names of data sets.
        seeds: Number of runs of a method.
        published_seeds: Number of runs of a method in the published protocol.

    Raises:
        UserError: A protocol, method or data set is not known.
        UserError: A number of seeds is smaller than 1.
    """

    protocols: tuple[str, ...] = ()
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
                    raise unknown_option(what, name, known)
        if min(self.seeds, self.published_seeds) < 1:
            raise UserError(f"{min(self.seeds, self.published_seeds)} seeds", expected="1 or more")

    def tasks(self) -> list[ComparisonTask]:
        """Return the runs, seed by seed.

        All methods have about equally many results when a comparison is stopped early.

        Returns:
            The runs, ordered by protocol and seed.
        """
        order = self.protocols or PROTOCOLS
        found = [task for protocol in order for task in self._tasks(protocol)]
        return sorted(found, key=lambda t: (order.index(t.protocol), t.seed))

    def _tasks(self, protocol: str) -> list[ComparisonTask]:
        datasets = DATASETS[:1] if protocol == "published" else self.datasets
        seeds = self.published_seeds if protocol == "published" else self.seeds
        return [
            ComparisonTask(
                protocol, dataset, method, protocols.settings(protocol, method), seed, workers
            )
            for dataset in datasets
            for method in self._methods(protocol)
            for workers in (WORKERS if protocol == "cluster" else (1,))
            for seed in range(seeds)
        ]

    def _methods(self, protocol: str) -> list[str]:
        known = {"published": PUBLISHED, "cluster": SCHEDULERS, "pareto": SEVERAL}
        return [m for m in known.get(protocol, SAMPLERS) if not self.methods or m in self.methods]


def compare(
    plan: ComparisonPlan,
    table: Path | None,
    folder: Path,
    jobs: int,
    told: Callable[[int, int], None],
    remark: Callable[[str], None] = lambda _: None,
) -> list[PageSection]:
    """Carry out the plan and keep the results in ``folder``; stored results are not computed again.

    Args:
        plan: The protocols, methods and seeds.
        table: A file, or None for the usual places.
        folder: Folder of the results.
        jobs: Number of processes.
        told: Called with the number of runs that are done and the number of all runs.
        remark: Called with sentences on the table and on results that it lacks.

    Returns:
        The sections of the comparison.

    Raises:
        UserError: There is no table.
        UserError: The table lacks what a named protocol needs.
        UserError: No protocol takes these methods.
        UserError: The folder cannot be written.
    """
    path = str(table.absolute()) if table is not None else None
    tasks = plan.tasks()
    if not tasks:
        raise UserError("nothing to compare: no protocol supports these methods")
    for line in table_values.table(path).remarks():
        remark(line)
    tasks = [
        replace(t, settings=protocols.settings(t.protocol, t.method, by))
        for t in _answerable(plan, tasks, path, remark)
        for by in [table_values.judged_by(path, t.dataset)]
    ]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be made: {error.strerror}") from error
    store = TaskResults(folder / RESULTS)
    return sections(carry_out(tasks, protocols.answer, path, store, jobs, told))


def _answerable(
    plan: ComparisonPlan,
    tasks: Sequence[ComparisonTask],
    path: str | None,
    remark: Callable[[str], None],
) -> list[ComparisonTask]:
    """Return the tasks that the table can answer; what it lacks is said before anything runs.

    Raises: UserError when the user names a protocol that it cannot answer, or none is left.
    """
    asked = list(dict.fromkeys((t.protocol, t.dataset) for t in tasks))
    lacks = {pair: found for pair in asked if (found := protocols.lacking(*pair, path))}
    if plan.protocols or len(lacks) == len(asked):
        for protocol, dataset in asked:
            protocols.check(protocol, dataset, path)
    if lacks:
        remark(f"left out: {_left_out(asked, lacks)}")
    return [t for t in tasks if (t.protocol, t.dataset) not in lacks]


def _left_out(
    asked: Sequence[tuple[str, str]], lacks: Mapping[tuple[str, str], tuple[str, ...]]
) -> str:
    """Return protocols and data sets that are left out, with what the table lacks for them."""
    parts: dict[str, list[str]] = {}
    for (protocol, dataset), found in lacks.items():
        others = [pair for pair in asked if pair[0] == protocol and pair not in lacks]
        name = f"{protocol} of {dataset}" if others else protocol
        parts.setdefault(f"no {' and no '.join(found)}", []).append(name)
    return "; ".join(
        f"{', '.join(dict.fromkeys(names))} (the table has {reason})"
        for reason, names in parts.items()
    )


def write(made: Sequence[PageSection], folder: Path, command: str) -> Path:
    """Write the page of a comparison.

    Args:
        made: The sections of the comparison.
        folder: Folder of the page.
        command: The command that made it, as text.

    Returns:
        The path of the page.
    """
    from raynas.apps.compare.page import write_page

    write_page(folder / PAGE, made, command)
    return folder / PAGE
