"""What runners carry out: jobs go out, measurements come in, every result is stored at once.

A :class:`Work` is the one place that decides. Runners (this process, Ray Tune) only move jobs
to evaluators and measurements back, so the same experiment gives the same table on each.
"""

from __future__ import annotations

import contextlib
import math
import shutil
import time
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from raynas.core import (
    Architecture,
    Decision,
    Job,
    Measurement,
    Objective,
    Trial,
    TrialState,
    signed,
)
from raynas.core.pareto import pareto_order
from raynas.data.base import View
from raynas.evaluators.base import Evaluator
from raynas.runners.retention import Checkpoints, Retention
from raynas.schedulers.base import Rung
from raynas.spaces.base import SearchSpace
from raynas.store.remote import Remote, folder_name


@dataclass(frozen=True)
class Payload:
    """What every worker needs once: large arrays in it are shared, never copied per trial."""

    space: SearchSpace
    evaluator: Evaluator
    view: View


class Rows(Protocol):
    """Where rows go: the store's writer, or a list in tests."""

    def append(self, rows: Sequence[Mapping[str, Any]]) -> object: ...


@dataclass(frozen=True)
class Status:
    """What a live view shows; plain values, safe to read from another thread."""

    stage: str
    arm: str
    counts: Mapping[str, int]
    target: int | None
    running: tuple[tuple[int, str, int, float | None], ...]  # number, arch, step, objective
    best: tuple[int, str, float] | None  # number, arch, objective
    objective: Objective
    rungs: tuple[Rung, ...]
    rejected: int
    duplicates: int
    screened_out: int
    seconds: float
    max_seconds: float | None
    elapsed: float
    max_step: int
    progress: float = 0.0  # of the one trial of a work that has no other
    waits_for: str = ""  # all of it

    @property
    def ended(self) -> int:
        """Trials at rest that were evaluated: proposals beyond a bound do not count."""
        return sum(n for s, n in self.counts.items() if s != TrialState.RUNNING)

    @property
    def share(self) -> float:
        """How much of the budget is used, 0..1."""
        parts = [self.progress]
        if self.target:
            parts.append(self.ended / self.target)
        if self.max_seconds:
            parts.append(self.seconds / self.max_seconds)
        return min(max(parts), 1.0)


class Work(ABC):
    """A set of trials to be carried out by a runner.

    ``rows``: where results are written. ``past``: the stored trials of this stage and arm.
    ``first_number``: for the next trial; ``gaps``: numbers to give out before it, those of
    trials that a killed driver had started and never stored.
    ``folder``: holds a job's working folder, ``folder/000012`` for trial 12, or None;
    ``mirror``: where on shared storage these folders are kept, or None; ``retention``: which of
    them stay (default: those that are needed).
    ``weights``: version of the inherited weights, stored with every row.
    ``clock``: gives seconds; the runner's own where its time is simulated.
    """

    def __init__(
        self,
        payload: Payload,
        rows: Rows,
        *,
        stage: str,
        arm: str,
        objectives: tuple[Objective, ...],
        seed: int,
        first_number: int = 0,
        gaps: Iterable[int] = (),
        threads: int = 1,
        folder: Path | None = None,
        keep: int = 3,
        past: Iterable[Trial] = (),
        weights: str | None = None,
        mirror: Remote | None = None,
        retention: Retention | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.mirror, self.clock = mirror, clock
        self.retention = retention or Retention(Checkpoints(quota=0))
        self._joined = False
        self.payload, self.rows, self.weights = payload, rows, weights
        self.stage, self.arm = stage, arm
        self.objectives, self.seed = objectives, seed
        self.threads, self.folder, self.keep = threads, folder, keep
        self.trials: dict[int, Trial] = {t.number: t for t in past}
        self._next = max(first_number, max(self.trials, default=-1) + 1)
        self._gaps = deque(gaps)
        self.max_step = payload.evaluator.max_step
        self.spent = sum(t.seconds for t in self.trials.values())
        self.paid_by = {
            t.number: sum(self._price(t, m) for m in t.measurements) for t in self.trials.values()
        }
        self.paid = sum(self.paid_by.values())
        self.interrupted = False
        self.error: BaseException | None = None
        self.started = clock()
        self.waits_for = ""  # all of it, as its runner knows
        self.rejected = self.duplicates = self.screened_out = 0
        self._counts: Counter[str] = Counter(t.state for t in self.trials.values())
        self._live: dict[int, Trial] = {}
        self._paused: set[int] = set()  # by the scheduler; until a worker has them again
        self._unfinished = deque(t for t in self.trials.values() if not t.state.ended)
        for trial in self._unfinished:  # one that was only scored was never started
            trial.attempt += trial.step > 0 or was_short(trial)
        self._gathering = False
        self._new_rows: list[dict[str, Any]] = []
        self._new_ends: list[Trial] = []
        self._best: list[Trial] = []
        self._front: dict[int, tuple[float, ...]] = {}
        for trial in self.trials.values():
            if trial.state is TrialState.COMPLETE:
                self._rank(trial)

    # -- what runners call ---------------------------------------------------------------------

    def next(self) -> Job | None:
        """A job to start now, or None: see :attr:`done` whether to wait or to end."""
        if self.interrupted:
            return None
        self.join()
        self._review()
        trial = self._unfinished.popleft() if self._unfinished else self._begin()
        if trial is None and not self._live and self._paused:
            trial = self._last()
        if trial is None:
            return None
        self._paused.discard(trial.number)
        self._live[trial.number] = trial
        self.retention.enforce()
        return Job(
            trial=trial.number,
            seed=trial.seed,
            max_step=self.max_step,
            workdir=self._workdir(trial),
            threads=self.threads,
            attempt=trial.attempt,
            mirror=self._mirror(trial),
            pauses=self._pauses(),
            more_memory=was_short(trial),
            stored=trial.step,
        )

    def join(self) -> None:
        """Tell the retention who has checkpoints; ``next`` does it where it was not done."""
        if not self._joined:
            self._joined = True
            kept = self._kept_folders()
            ended = (t for t in self.trials.values() if self._may_keep(t))
            self.retention.join(self, [t for t in ended if folder_name(t.number) in kept])

    def _kept_folders(self) -> set[str]:
        """Names of the working folders that there are."""
        if self.folder is None or self.payload.evaluator.quick:
            return set()
        if self.mirror is not None:
            with contextlib.suppress(OSError):  # then they only cost room
                return {name.partition("/")[0] for name in self.mirror.names()}
            return set()
        return {place.name for place in self.folder.iterdir()} if self.folder.is_dir() else set()

    @property
    def done(self) -> bool:
        """Nothing runs and nothing more will be started."""
        return not self._live and (self.interrupted or not self._more())

    def arch(self, number: int) -> Architecture:
        return self.trials[number].arch

    def report(
        self, number: int, measurement: Measurement, *, host: str = "", device: str = "cpu"
    ) -> Decision:
        """Take a measurement, store it, decide. A step that is known already is not stored twice.

        A measurement of a trial at rest (a worker that came back from the dead), or of one that is
        paused (a worker that was ahead), changes nothing.
        """
        trial = self.trials[number]
        if trial.state.ended or number in self._paused:
            return Decision.STOP
        if measurement.step <= trial.step:
            return Decision.CONTINUE
        bad = measurement.bad_values(
            [
                o.metric
                for o in self.objectives
                if o.metric not in trial.costs and self._required(o, measurement)
            ]
        )
        if bad:
            shown = ", ".join(f"{n} is {measurement.values.get(n, 'missing')}" for n in bad)
            note = f": {measurement.note}" if measurement.note else ""
            self._spoil(
                trial, measurement, f"{shown} at step {measurement.step}{note}", host, device
            )
            return Decision.STOP
        trial.measurements.append(measurement)
        self._pay(trial, measurement)
        state, message = self._judge(trial)
        if was_short(trial) and not state.ended:
            message = trial.message  # a resume must know of it
        self._move(trial, state, message)
        self._write(trial, measurement, host, device)
        if state.ended:
            return Decision.STOP
        return Decision.PAUSE if number in self._paused else Decision.CONTINUE

    def complete(self, number: int) -> None:
        """The evaluator has nothing more to say."""
        trial = self.trials[number]
        if trial.state.ended or number in self._paused:
            return
        if trial.step == 0:
            self.fail(number, "the evaluator ended without a measurement")
        else:
            self._close(trial, TrialState.COMPLETE, "")

    def fail(self, number: int, message: str, *, infeasible: bool = False) -> None:
        """The trial crashed, diverged, or does not fit (``infeasible``)."""
        trial = self.trials[number]
        if not trial.state.ended and number not in self._paused:
            state = TrialState.INFEASIBLE if infeasible else TrialState.FAILED
            self._close(trial, state, _one_line(message))

    def no_memory(self, number: int, reason: str, room: str = "", *, last: bool = False) -> None:
        """The trial did not fit into the ``room`` that it had: it is started once more, with more,
        and is INFEASIBLE if that is not enough, or if there is no more (``last``). The first time
        is stored, too."""
        trial = self.trials[number]
        if trial.state.ended or number in self._paused:
            return
        message = f"{_SHORT}{f' with {room}' if room else ''}: {reason}"
        if last or was_short(trial):
            self.fail(number, message, infeasible=True)
            return
        trial.message = _one_line(message)
        self._write(trial, None, "", "")
        self.again(number)

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """What is reported within is stored by one append, which costs as much as one row.

        Trials that ended within are at rest, and the sampler hears of them, after it.
        """
        self._gathering = True
        try:
            yield
        finally:
            self._gathering = False
            self._settle()

    def again(self, number: int) -> None:
        """A trial's worker is gone: it is to be started again, from its checkpoint."""
        trial = self._live.pop(number, None)
        if trial is not None:
            trial.attempt += 1
            self._unfinished.append(trial)

    def requeue_live(self) -> None:
        """The runner lost its workers: what ran is to be started again."""
        for number in self.live:
            self.again(number)

    def interrupt(self) -> None:
        """Start nothing more; what runs stays RUNNING in the store, to be resumed."""
        self.interrupted = True

    @property
    def live(self) -> tuple[int, ...]:
        """Numbers of the trials that a worker has now."""
        return tuple(self._live)

    # -- what the parts of a run differ in -----------------------------------------------------

    @abstractmethod
    def _propose(self) -> Trial | None:
        """A new trial, or None when there is none to start now."""

    @abstractmethod
    def _more(self) -> bool:
        """Whether jobs may still come when nothing is running."""

    def _judge(self, trial: Trial) -> tuple[TrialState, str]:
        """The state after the trial's last measurement, and a message for a trial that ends."""
        ended = trial.step >= self.max_step
        return (TrialState.COMPLETE if ended else TrialState.RUNNING), ""

    def _required(self, objective: Objective, measurement: Measurement) -> bool:
        """Whether the measurement must carry a finite value of the objective."""
        return True

    def _told(self, trial: Trial) -> None:
        """The trial is at rest and stored."""

    def _review(self) -> None:
        """Move the paused trials that shall go on to ``_unfinished``."""

    def _pauses(self) -> tuple[int, ...]:
        """The steps at which trials may be paused."""
        return ()

    def _last(self) -> Trial | None:
        """Nothing runs and nothing is new: of the paused trials one to go on, or they end."""
        return None

    @property
    def timed(self) -> bool:
        """Whether something is timed while its trials run."""
        return False

    @property
    def target(self) -> int | None:
        return None

    @property
    def max_seconds(self) -> float | None:
        return None

    @property
    def breadth(self) -> int:
        """The most workers that could be busy at once, if there were as many."""
        trials = self.payload.space.size if self.target is None else self.target
        return max(trials - self.status().ended, 0)

    def rungs(self) -> tuple[Rung, ...]:
        return ()

    # -- common ground -------------------------------------------------------------------------

    def _begin(self) -> Trial | None:
        trial = self._propose()
        if trial is not None:
            self.trials[trial.number] = trial
            self._counts[TrialState.RUNNING] += 1
        return trial

    def _pay(self, trial: Trial, measurement: Measurement) -> None:
        self.spent += measurement.seconds
        price = self._price(trial, measurement)
        self.paid += price
        self.paid_by[trial.number] = self.paid_by.get(trial.number, 0.0) + price

    def _price(self, trial: Trial, measurement: Measurement) -> float:
        """What a measurement counts where arms are compared at equal cost."""
        return measurement.seconds

    def _number(self) -> int:
        if self._gaps:
            return self._gaps.popleft()
        self._next += 1
        return self._next - 1

    def _workdir(self, trial: Trial) -> Path | None:
        if self.folder is None or self.payload.evaluator.quick:
            return None  # what is quick may run ahead of the store: it must not leave traces
        return self.folder / folder_name(trial.number)

    def _mirror(self, trial: Trial) -> str:
        if self.mirror is None or self._workdir(trial) is None:
            return ""
        return self.mirror.below(folder_name(trial.number)).uri

    def _move(self, trial: Trial, state: TrialState, message: str) -> None:
        self._counts[trial.state] -= 1
        self._counts[state] += 1
        trial.state, trial.message = state, message

    def _close(self, trial: Trial, state: TrialState, message: str) -> None:
        self._move(trial, state, message)
        self._write(trial, None, "", "")

    def _spoil(
        self, trial: Trial, measurement: Measurement, message: str, host: str, device: str
    ) -> None:
        """The measurement lacks an objective: the trial failed, but what else it found is kept."""
        finite = {n: v for n, v in measurement.values.items() if not measurement.bad_values([n])}
        self._move(trial, TrialState.FAILED, _one_line(message))
        if finite:
            measurement = replace(measurement, values=finite)
            trial.measurements.append(measurement)
            self._pay(trial, measurement)
        self._write(trial, measurement if finite else None, host, device)

    def _end(self, trial: Trial) -> None:
        self._live.pop(trial.number, None)
        if trial.state is TrialState.COMPLETE:
            self._rank(trial)
        if self._may_keep(trial) and self._has_folder(trial):
            self.retention.rests(self, trial)
        else:
            self.discard(trial)
        self._told(trial)

    def _may_keep(self, trial: Trial) -> bool:
        """Whether checkpoints of a trial at rest may be of use: of the best here."""
        return any(trial is best for best in self._best)

    def _has_folder(self, trial: Trial) -> bool:
        """On shared storage it is taken for granted: a look there costs as much as removing it."""
        workdir = self._workdir(trial)
        return workdir is not None and (self.mirror is not None or workdir.is_dir())

    def _rank(self, trial: Trial) -> None:
        """Enter a COMPLETE trial among the best, and on the Pareto front."""
        values = self._score(trial)
        if not any(_dominates(other, values) for other in self._front.values()):
            self._front = {n: v for n, v in self._front.items() if not _dominates(values, v)}
            self._front[trial.number] = values
        candidates = [*self._best, trial]
        if len(self.objectives) == 1:
            order = sorted(
                range(len(candidates)),
                key=lambda i: (-self._score(candidates[i])[0], candidates[i].number),
            )
        else:
            order = list(pareto_order([self._score(t) for t in candidates]))  # type: ignore[arg-type]
        self._best = [candidates[i] for i in order[: self.keep]]

    def _score(self, trial: Trial) -> tuple[float, ...]:
        known = {o.metric: -o.sign * math.inf for o in self.objectives}
        return signed(self.objectives, {**known, **trial.values()})

    @property
    def best(self) -> tuple[Trial, ...]:
        """The ``keep`` best COMPLETE trials, best first (by Pareto rank for several objectives)."""
        return tuple(self._best)

    @property
    def unfinished(self) -> int:
        """Trials that run, wait to go on, or are to be resumed, as far as they keep anything."""
        if self.folder is None or self.payload.evaluator.quick:
            return 0
        return self._counts[TrialState.RUNNING]

    def leaders(self, top: int) -> Collection[int]:
        """Numbers of the trials whose checkpoints are worth more than those of others."""
        return ()

    def worth(self, trial: Trial) -> tuple[float, ...]:
        """Of a trial's checkpoints, beside others at rest: higher is better."""
        return trial.step, *self._score(trial), -trial.number

    def discard(self, trial: Trial) -> None:
        """Remove the working folder of a trial that will not be continued or exported."""
        workdir = self._workdir(trial)
        if workdir is not None:
            shutil.rmtree(workdir, ignore_errors=True)
        if workdir is not None and self.mirror is not None:
            with contextlib.suppress(OSError):  # it only costs room
                self.mirror.remove_folder(workdir.name)

    def _row(
        self, trial: Trial, measurement: Measurement | None, host: str, device: str
    ) -> dict[str, Any]:
        return {
            "stage": self.stage,
            "arm": self.arm,
            "trial": trial.number,
            "attempt": trial.attempt,
            "arch_id": trial.arch.id,
            "arch": trial.arch.text,
            "proposal": trial.proposal.text,
            "seed": trial.seed,
            "step": measurement.step if measurement else None,
            "state": trial.state.value,
            "message": trial.message or _one_line(measurement.note if measurement else "") or None,
            "seconds": measurement.seconds if measurement else 0.0,
            "params": trial.costs.get("params"),
            "macs": trial.costs.get("macs"),
            "layers": trial.costs.get("layers"),
            **({"host": host} if host else {}),
            "device": device,
            "weights": self.weights,
            **(dict(measurement.values) if measurement else {}),
        }

    def _write(self, trial: Trial, measurement: Measurement | None, host: str, device: str) -> None:
        self._new_rows.append(self._row(trial, measurement, host, device))
        if trial.state.ended:
            self._new_ends.append(trial)
        if not self._gathering:
            self._settle()

    def _settle(self) -> None:
        """Store what was reported, then let it have its consequences."""
        rows, ends, self._new_rows, self._new_ends = self._new_rows, self._new_ends, [], []
        if rows:
            self.rows.append(rows)
        for trial in ends:
            self._end(trial)

    def _costs(self, arch: Architecture) -> dict[str, float]:
        view = self.payload.view
        costs = self.payload.space.costs(arch, view.input_shape, view.num_classes)
        return {name: cost for name, cost in vars(costs).items() if cost is not None}

    def _shown(self) -> Trial | None:
        """The best trial so far by the first objective, for the live view."""
        front = self._front
        return self.trials[max(front, key=lambda n: (front[n][0], -n))] if front else None

    def status(self) -> Status:
        objective = self.objectives[0]
        best = self._shown()
        return Status(
            stage=self.stage,
            arm=self.arm,
            counts={s: n for s, n in self._counts.items() if n},
            target=self.target,
            running=tuple(
                (t.number, t.arch.text, t.step, t.values().get(objective.metric))
                for t in list(self._live.values())
            ),
            best=(best.number, best.arch.text, best.values()[objective.metric]) if best else None,
            objective=objective,
            rungs=self.rungs(),
            rejected=self.rejected,
            duplicates=self.duplicates,
            screened_out=self.screened_out,
            seconds=self.paid,
            max_seconds=self.max_seconds,
            elapsed=self.clock() - self.started,
            max_step=self.max_step,
            progress=self._progress(),
            waits_for=self.waits_for,
        )

    def _progress(self) -> float:
        """How far the trial is of which the whole work consists, 0..1; 0 where it has many."""
        return 0.0


def _dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Nowhere worse and somewhere better; higher is better."""
    return one != other and all(a >= b for a, b in zip(one, other, strict=True))


#: how the message of a trial begins that did not fit; of one that is not at rest: the first time
_SHORT = "out of memory"


def lacked_memory(trial: Trial) -> bool:
    """Whether it ran out of memory, or is tried again since it did."""
    return trial.message.startswith(_SHORT)


def was_short(trial: Trial) -> bool:
    """Whether this is the trial's second try, with more memory."""
    return not trial.state.ended and lacked_memory(trial)


def _one_line(text: str) -> str:
    return " ".join(text.split())[:500]
