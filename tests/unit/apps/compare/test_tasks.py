"""Results are kept one by one: whatever ends the process, what was stored is not done again."""

from __future__ import annotations

from pathlib import Path

import pytest

from raynas.apps.compare.tasks import ComparisonTask, TaskResults, carry_out, of

TASKS = [
    ComparisonTask("trainings", "cifar10", method, "abc", s) for s in range(3) for method in "ab"
]
asked: list[ComparisonTask] = []


def answer(task: ComparisonTask, table: str | None) -> dict[str, object]:
    asked.append(task)
    return {"value": task.seed, "table": table}


def fails_at_the_third(task: ComparisonTask, table: str | None) -> dict[str, object]:
    if len(asked) == 2:
        raise KeyboardInterrupt
    return answer(task, table)


def carried(store: TaskResults, by=answer, jobs: int = 1) -> tuple[dict, list[tuple[int, int]]]:
    told: list[tuple[int, int]] = []
    asked.clear()
    found = carry_out(TASKS, by, "t", store, jobs, lambda *pair: told.append(pair))
    return found, told


def test_results_come_in_the_order_of_the_tasks_and_progress_counts_them(tmp_path: Path) -> None:
    found, told = carried(TaskResults(tmp_path / "r.jsonl"))
    assert list(found) == TASKS
    assert told == [(i, 6) for i in range(7)]
    assert {r["table"] for r in found.values()} == {"t"}


def test_processes_give_the_same(tmp_path: Path) -> None:
    alone, _ = carried(TaskResults(tmp_path / "a.jsonl"))
    two, _ = carried(TaskResults(tmp_path / "b.jsonl"), jobs=2)
    assert two == alone


def test_what_an_interrupt_left_is_not_done_again(tmp_path: Path) -> None:
    store = TaskResults(tmp_path / "r.jsonl")
    with pytest.raises(KeyboardInterrupt):
        carried(store, fails_at_the_third)
    _, told = carried(store)
    assert asked == TASKS[2:]
    assert told[0] == (2, 6)
    carried(store)
    assert asked == []


def test_a_line_that_was_cut_off_is_done_again_and_spoils_no_other(tmp_path: Path) -> None:
    store = TaskResults(tmp_path / "r.jsonl")
    carried(store)
    whole = store.path.read_bytes()
    for cut in (1, 20, 60):
        store.path.write_bytes(whole[:-cut])
        found, _ = carried(store)
        assert asked == (TASKS[-1:] if cut > 1 else [])
        assert len(store.read()) == len(found) == 6


def test_other_settings_are_other_tasks(tmp_path: Path) -> None:
    store = TaskResults(tmp_path / "r.jsonl")
    carried(store)
    assert ComparisonTask("trainings", "cifar10", "a", "other", 0) not in store.read()


def test_a_selection_by_fields(tmp_path: Path) -> None:
    found, _ = carried(TaskResults(tmp_path / "r.jsonl"))
    assert [t.seed for t, _ in of(found, method="b")] == [0, 1, 2]
    assert [t.method for t, _ in of(found, seed=1)] == ["a", "b"]
