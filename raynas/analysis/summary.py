"""Summary of a run in plain values, for the terminal and for the report's tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from raynas.analysis import formatting as words
from raynas.analysis import rung_counts, selection
from raynas.analysis import statistics as st
from raynas.analysis import supernets as sn
from raynas.core import Objective, TrialState
from raynas.core.failures import every_trial_failed, is_failure_message
from raynas.store.schema import FINAL, TRUTH, TUNED

if TYPE_CHECKING:
    import pyarrow as pa

    from raynas.store import RunFolder


@dataclass(frozen=True)
class TrialSummary:
    """One trial as a row of a table.

    Attributes:
        trial: Number of the trial.
        method: Name of the method that proposed it.
        arch: The architecture as text.
        arch_id: Id of the architecture.
        step: Last step measured.
        complete: False when the values are those of an unfinished trial.
        values: Objective -> value.
        params: Number of parameters; NaN where unknown.
        macs: Multiply-adds of one forward pass; NaN where unknown.
        test_mean: Mean test result of a finalist; else NaN.
        test_std: Standard deviation over a finalist's seeds; else NaN.
        test_n: Number of a finalist's seeds; else 0.
    """

    trial: int
    method: str
    arch: str
    arch_id: str
    step: int
    complete: bool
    values: Mapping[str, float]
    params: float
    macs: float
    test_mean: float = float("nan")
    test_std: float = float("nan")
    test_n: int = 0


@dataclass(frozen=True)
class MethodSummary:
    """The summary of one method of the search.

    Attributes:
        method: Name of the method.
        main: True for the main method.
        trials: Number of proposals.
        screened: Number of proposals that were screened out by their scores.
        rejected: Number of proposals that were rejected by bounds on costs.
        states: State -> number of trials, all five present; STOPPED ones are those of the
            scheduler.
        seconds: Worker seconds.
        best: Its best trial; None before the first result.
    """

    method: str
    main: bool
    trials: int
    screened: int
    rejected: int
    states: Mapping[str, int]
    seconds: float
    best: TrialSummary | None

    @property
    def started(self) -> int:
        """The number of trials that were not screened out."""
        return self.trials - self.screened

    @property
    def evaluated(self) -> int:
        """The number of trials that count for the budget, neither rejected nor screened out."""
        return self.started - self.rejected


@dataclass(frozen=True)
class RunSummary:
    """A run in plain values.

    Attributes:
        name: Name of the run.
        objectives: Objectives of the search.
        units: Metric -> unit.
        rows: Number of rows of the table.
        sessions: Number of starts of the run.
        budget: Number of trials asked for; None when unknown.
        methods: Methods of the search, the main one first.
        best: Best trial of the main method; None before the first result.
        front: With several objectives, the Pareto front of the main method; else empty.
        rungs: Counts of the rungs of all methods.
        finals: Number of trainings of finalists.
        finals_complete: Number of those that are complete.
        others: Stage beside search and finals -> number of its trials, and of those that are
            complete.
        training: Training of the supernet; None where there is none.
        elapsed: Seconds of wall time, without the pauses between sessions.
        worker_seconds: Seconds over all workers.
        last_time: Time of the last row, seconds since 1970; None without rows.
        failure: Statement that every trial of the search failed, with the reason; empty when one
            did not.
    """

    name: str
    objectives: tuple[Objective, ...]
    units: Mapping[str, str]
    rows: int
    sessions: int
    budget: int | None
    methods: tuple[MethodSummary, ...]
    best: TrialSummary | None
    front: tuple[TrialSummary, ...]
    rungs: tuple[rung_counts.RungCount, ...]
    finals: int
    finals_complete: int
    others: Mapping[str, tuple[int, int]]
    training: sn.SupernetTraining | None
    elapsed: float
    worker_seconds: float
    last_time: float | None
    failure: str = ""

    def show(self, metric: str, value: float) -> str:
        """Return a value of a metric with its unit, as text.

        Args:
            metric: Name of a column.
            value: The value.
        """
        return words.quantity(metric, value, self.units.get(metric, words.UNITS.get(metric, "")))


def summary(table: pa.Table, description: Mapping[str, Any]) -> RunSummary:
    """Summarise a run from its table alone, at any moment, also without rows.

    Args:
        table: The table of the run's store.
        description: The ``description`` of the run's run.json.

    Returns:
        The summary.

    Raises:
        UserError: The description was not written by raynas.
    """
    return summarise(st.load(table, description))


def summarise(run: st.RunStatistics) -> RunSummary:
    """Compute :func:`summary` of a loaded run.

    Args:
        run: The loaded run.
    """
    is_final, complete = run.trials.stage == FINAL, run.has_state(TrialState.COMPLETE)
    budget = (run.description.get("budget") or {}).get("trials")
    return RunSummary(
        name=str(run.description.get("name") or ""),
        objectives=run.objectives,
        units=run.units,
        rows=len(run.rows.owner),
        sessions=len(np.unique(run.rows.session)),
        budget=budget if isinstance(budget, int) else None,
        methods=tuple(_method(run, method) for method in run.methods),
        best=best(run),
        front=front(run),
        rungs=tuple(r for method in run.methods for r in rung_counts.rungs(run, method)),
        finals=int(is_final.sum()),
        finals_complete=int((is_final & complete).sum()),
        others={
            stage: (int(mine.sum()), int((mine & complete).sum()))
            for stage in (TRUTH, TUNED)
            if (mine := run.trials.stage == stage).any()
        },
        training=sn.training(run),
        elapsed=selection.wall_seconds(run),
        worker_seconds=float(run.rows.seconds.sum()),
        last_time=float(run.rows.time.max()) if len(run.rows.time) else None,
        failure=_failure(run),
    )


def _failure(run: st.RunStatistics) -> str:
    """Return in words that every trial of the search failed; empty when one did not."""
    failed = run.searching() & (run.has_state(TrialState.FAILED) | _unfit(run))
    open_ = run.has_state(TrialState.RUNNING)
    if (run.searching() & ~failed & ((run.trials.step > 0) | open_)).any():
        return ""
    return every_trial_failed([str(message) for message in run.trials.message[failed]])


def _unfit(run: st.RunStatistics) -> st.Bools:
    """Select INFEASIBLE trials whose evaluation failed, such as for memory, within all bounds."""
    told = [is_failure_message(str(message)) for message in run.trials.message]
    return np.asarray(run.has_state(TrialState.INFEASIBLE) & np.array(told, dtype=bool))


def _method(run: st.RunStatistics, method: str) -> MethodSummary:
    mine = run.searching(method)
    screened = run.screened_out(method)
    untouched = (run.trials.step == 0) & ~run.screened(method)
    rejected = mine & untouched & run.has_state(TrialState.INFEASIBLE) & ~_unfit(run)
    counts = Counter(run.trials.state[mine & ~screened])
    states = {s.value: counts.get(s.value, 0) for s in TrialState}
    index = selection.best(run, method)
    return MethodSummary(
        method, method == run.main, int(mine.sum()), int(screened.sum()), int(rejected.sum()),
        states, float(run.trials.seconds[mine].sum()),
        None if index is None else found(run, index, selection.finals(run)),
    )  # fmt: skip


def best(run: st.RunStatistics) -> TrialSummary | None:
    """Return the best trial of the main method.

    Args:
        run: The loaded run.

    Returns:
        The trial; None before the first result.
    """
    index = selection.best(run, run.main)
    return None if index is None else found(run, index, selection.finals(run))


def front(run: st.RunStatistics) -> tuple[TrialSummary, ...]:
    """Return the Pareto front of the main method over several objectives.

    Args:
        run: The loaded run.

    Returns:
        The best of the first objective first; empty with one objective.
    """
    if len(run.objectives) < 2:
        return ()
    final = selection.finals(run)
    chosen = selection.front(run, run.main, [(o.metric, o.sign) for o in run.objectives])
    return tuple(found(run, int(i), final) for i in chosen)


def front_or_trade_off(run: st.RunStatistics) -> tuple[TrialSummary, ...]:
    """Return the front of the main method; with one objective, that over it and ``params``.

    Args:
        run: The loaded run.

    Returns:
        The best of the first objective first; empty before the first complete trial.
    """
    if len(run.objectives) > 1 or not len(run.complete(run.main)):
        return front(run)
    first = run.objectives[0]
    metrics = [(first.metric, first.sign)]
    if first.metric not in st.COSTS and "params" in sn.costs_of(run):
        metrics.append(("params", -1.0))
    final = selection.finals(run)
    return tuple(found(run, int(i), final) for i in selection.front(run, run.main, metrics))


def top(run: st.RunStatistics, n: int = 10) -> tuple[TrialSummary, ...]:
    """Return the ``n`` best architectures of all methods and every finalist.

    Args:
        run: The loaded run.
        n: Number of architectures beside finalists.

    Returns:
        Trials ordered by the first objective on the validation images.
    """
    final = selection.finals(run)
    order = selection.ranked(run)
    chosen = [int(i) for k, i in enumerate(order) if k < n or run.trials.arch_id[i] in final]
    return tuple(found(run, i, final) for i in chosen)


def shown(summary: RunSummary, best: Sequence[TrialSummary]) -> list[TrialSummary]:
    """Return the trials whose architectures a report draws.

    Args:
        summary: The summary of the run.
        best: The best trials, of :func:`top`.
    """
    return [*([summary.best] if summary.best else []), *summary.front, *best]


def shown_architectures(folder: RunFolder) -> list[str]:
    """Return the architectures that the report of a run draws now.

    Args:
        folder: The folder of the run.

    Returns:
        Architectures as texts, each once.

    Raises:
        UserError: The store cannot be read.
    """
    from raynas.store import read

    run = st.load(read(folder), folder.info.description)
    return list(dict.fromkeys(f.arch for f in shown(summarise(run), top(run))))


def found(
    run: st.RunStatistics, index: int, final: Mapping[str, selection.FinalistResult]
) -> TrialSummary:
    """Return one trial with its costs and, for a finalist, its test result.

    Args:
        run: The loaded run.
        index: Index of the trial.
        final: Results of the finalists, of :func:`statistics.finals`.
    """
    t = run.trials
    test = final.get(t.arch_id[index])
    return TrialSummary(
        trial=int(t.number[index]),
        method=str(t.method[index]),
        arch=str(t.arch[index]),
        arch_id=str(t.arch_id[index]),
        step=int(t.step[index]),
        complete=t.state[index] == TrialState.COMPLETE.value,
        values={o.metric: float(t.values[o.metric][index]) for o in run.objectives},
        params=float(t.values["params"][index]),
        macs=float(t.values["macs"][index]),
        test_mean=test.mean if test else float("nan"),
        test_std=test.std if test else float("nan"),
        test_n=len(test.values) if test else 0,
    )


@dataclass(frozen=True)
class EndReason:
    """A reason for which trials of one stage ended.

    Attributes:
        state: State in which they ended.
        stage: Stage of the trials.
        message: The message that they share.
        count: Number of trials.
        examples: Numbers of the first few trials.
    """

    state: str
    stage: str
    message: str
    count: int
    examples: tuple[int, ...]


def reasons(run: st.RunStatistics, state: TrialState) -> list[EndReason]:
    """Group the trials that ended in one state by stage and message.

    Args:
        run: The loaded run.
        state: The state.

    Returns:
        Reasons, the most frequent first.
    """
    index = np.flatnonzero(run.has_state(state))
    groups: dict[tuple[str, str], list[int]] = {}
    for i in index:
        message = str(run.trials.message[i]).strip() or "no message was kept"
        groups.setdefault((str(run.trials.stage[i]), message), []).append(int(run.trials.number[i]))
    listed = [
        EndReason(state.value, stage, message, len(numbers), tuple(numbers[:5]))
        for (stage, message), numbers in groups.items()
    ]
    return sorted(listed, key=lambda r: (-r.count, r.message))


def counted(table: pa.Table, column: str) -> list[tuple[str, int]]:
    """Count the rows of each distinct value of a text column.

    Args:
        table: The table of the run's store.
        column: Name of the column.

    Returns:
        Pairs of value and number of rows, the most frequent first; empty values are left out.
    """
    pairs = table[column].value_counts().to_pylist()
    listed = [(str(p["values"] or ""), int(p["counts"])) for p in pairs]
    return sorted(((v, n) for v, n in listed if v), key=lambda p: (-p[1], p[0]))
