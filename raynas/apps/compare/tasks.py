"""One run of a comparison and its result, both as plain data that are stored in a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from raynas.core import UserError

Result = dict[str, Any]
Answer = Callable[["ComparisonTask", str | None], Mapping[str, Any]]


@dataclass(frozen=True, order=True)
class ComparisonTask:
    """One run of a method.

    Attributes:
        protocol: Name of the protocol.
        dataset: Name of the data set.
        method: Name of the sampler or scheduler.
        settings: Fingerprint of the method's settings.
        seed: Seed of the run.
        workers: Number of simulated workers.
    """

    protocol: str
    dataset: str
    method: str
    settings: str
    seed: int
    workers: int = 1


@dataclass(frozen=True)
class TaskResults:
    """A file of results, with a line of JSON each.

    Incomplete lines are ignored.

    Attributes:
        path: The file.
    """

    path: Path

    def read(self) -> dict[ComparisonTask, dict[str, Any]]:
        """Read all results.

        Returns:
            Run -> its result; empty where there is no file.

        Raises:
            UserError: The file cannot be read.
        """
        found: dict[ComparisonTask, dict[str, Any]] = {}
        if not self.path.exists():
            return found
        try:
            lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError as error:
            raise UserError(f"{self.path} cannot be read: {error.strerror}") from error
        for line in lines:
            try:
                row = json.loads(line)
                found[ComparisonTask(**row["task"])] = row["result"]
            except (ValueError, KeyError, TypeError):
                continue
        return found

    def append(self, task: ComparisonTask, result: Mapping[str, Any]) -> None:
        """Append a result as one line; where the disk is full, the incomplete line does not count.

        Args:
            task: The run.
            result: Its result, as plain data.
        """
        line = json.dumps({"task": asdict(task), "result": result}, separators=(",", ":"))
        with self.path.open("a", encoding="utf-8") as file:
            if file.tell() and not self._ends_a_line():
                file.write("\n")
            file.write(line + "\n")

    def _ends_a_line(self) -> bool:
        with self.path.open("rb") as file:
            file.seek(-1, 2)
            return file.read() == b"\n"


def carry_out(
    tasks: Sequence[ComparisonTask],
    answer: Answer,
    table: str | None,
    store: TaskResults,
    jobs: int,
    told: Callable[[int, int], None],
) -> dict[ComparisonTask, dict[str, Any]]:
    """Return the results of ``tasks``, computing those that are not stored.

    Each result is stored as soon as it is computed.

    Args:
        tasks: The runs.
        answer: Computes the result of a run from the run and the file of the table.
        table: The file of the table; None for the usual places.
        store: The file of results.
        jobs: Number of processes.
        told: Called with the number of runs that are done and the number of all runs.

    Returns:
        Run -> its result.
    """
    found = store.read()
    todo = [task for task in tasks if task not in found]
    done = len(tasks) - len(todo)
    told(done, len(tasks))
    for task, result in _answers(todo, answer, table, jobs):
        store.append(task, result)
        found[task] = dict(result)
        done += 1
        told(done, len(tasks))
    return {task: found[task] for task in tasks}


def _answers(
    tasks: Sequence[ComparisonTask], answer: Answer, table: str | None, jobs: int
) -> Iterator[tuple[ComparisonTask, Mapping[str, Any]]]:
    if jobs == 1 or len(tasks) < 2:
        for task in tasks:
            yield task, answer(task, table)
        return
    with ProcessPoolExecutor(jobs) as pool:
        try:
            chunk = max(1, min(8, len(tasks) // (4 * jobs)))
            results = pool.map(answer, tasks, [table] * len(tasks), chunksize=chunk)
            yield from zip(tasks, results, strict=True)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def of(
    found: Mapping[ComparisonTask, Mapping[str, Any]], **fields: Any
) -> Iterable[tuple[ComparisonTask, Mapping[str, Any]]]:
    """Select the results of runs with some fields.

    Args:
        found: Run -> its result.
        **fields: Name of a field of :class:`ComparisonTask` -> its value.

    Yields:
        Pairs of run and result.
    """
    for task, result in found.items():
        if all(getattr(task, name) == value for name, value in fields.items()):
            yield task, result
