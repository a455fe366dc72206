"""What one run is, and what came of it; both as plain data that outlive the process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from raynas.core import UserError

Answer = Callable[["Task", str | None], Mapping[str, Any]]


@dataclass(frozen=True, order=True)
class Task:
    """One run: ``protocol``, ``method`` and its settings' fingerprint, data set, seed, workers."""

    protocol: str
    dataset: str
    method: str
    settings: str
    seed: int
    workers: int = 1


@dataclass(frozen=True)
class Store:
    """Results as lines of JSON in ``path``. A line that was cut off is not there."""

    path: Path

    def read(self) -> dict[Task, dict[str, Any]]:
        """Raises: UserError when the file cannot be read."""
        found: dict[Task, dict[str, Any]] = {}
        if not self.path.exists():
            return found
        try:
            lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError as error:
            raise UserError(f"{self.path} cannot be read: {error.strerror}") from error
        for line in lines:
            try:
                row = json.loads(line)
                found[Task(**row["task"])] = row["result"]
            except (ValueError, KeyError, TypeError):
                continue
        return found

    def append(self, task: Task, result: Mapping[str, Any]) -> None:
        """A whole line or, where the disk is full, none that counts."""
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
    tasks: Sequence[Task],
    answer: Answer,
    table: str | None,
    store: Store,
    jobs: int,
    told: Callable[[int, int], None],
) -> dict[Task, dict[str, Any]]:
    """All results of ``tasks``: those in the store, and the others by ``jobs`` processes.

    Each is stored as soon as it is there; ``told`` hears how many of how many there are.
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
    tasks: Sequence[Task], answer: Answer, table: str | None, jobs: int
) -> Iterator[tuple[Task, Mapping[str, Any]]]:
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
    found: Mapping[Task, Mapping[str, Any]], **fields: Any
) -> Iterable[tuple[Task, Mapping[str, Any]]]:
    """The results of tasks with these fields."""
    for task, result in found.items():
        if all(getattr(task, name) == value for name, value in fields.items()):
            yield task, result
