"""The contract suite of schedulers.

Example: a test file for a scheduler of your own.

.. code-block:: python

    from dataclasses import dataclass, field
    from typing import ClassVar

    import pytest

    from raynas.core import Decision
    from raynas.schedulers import Scheduler
    from raynas.testing.schedulers import SchedulerTestCase


    @dataclass
    class FirstHalf(Scheduler):
        name: ClassVar[str] = "first_half"
        limit: int = 4

        def setup(self, problem):
            self._last = problem.max_step

        def decide(self, trial):
            late = trial.number >= self.limit and trial.step >= self._last // 2
            return Decision.STOP if late and trial.step < self._last else Decision.CONTINUE

        def replay(self, trials):
            pass

        def rungs(self):
            return []


    class TestFirstHalf(SchedulerTestCase):
        @pytest.fixture
        def scheduler(self):
            return FirstHalf
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raynas.core import (
    Architecture,
    Decision,
    Measurement,
    Objective,
    SearchProblem,
    Trial,
    TrialState,
)
from raynas.schedulers import Scheduler

MAX_STEP = 9
ONE = (Objective("val_accuracy"),)
TWO = (Objective("val_accuracy"), Objective("latency_ms", "min"))
ARCH = Architecture("toy", (("a", 1),), "a=1")

Events = Sequence[tuple[int, float, float]]
"""(Trial number, accuracy, latency) of each event."""

_VALUES = st.integers(0, 6).map(float)  # few values, so that ties are common
_STREAMS = st.lists(st.tuples(st.integers(0, 9), _VALUES, _VALUES), max_size=80)
_INHERITED = (HealthCheck.function_scoped_fixture, HealthCheck.differing_executors)


def _problem(objectives: tuple[Objective, ...] = ONE) -> SearchProblem:
    return SearchProblem(objectives, MAX_STEP, 0, "run-1")


class SimulatedTrials:
    """Feeds (trial number, a, b) events to a scheduler, one step of the trial for each.

    A trial that is told to go on is measured at once, with the values of the event, so that no
    cut falls between the two.
    """

    def __init__(self, scheduler: Scheduler, stride: int = 1) -> None:
        self.scheduler = scheduler
        self.stride = stride
        self.trials: dict[int, Trial] = {}
        self.waiting: set[int] = set()
        self.decisions: list[tuple[int, int, Decision]] = []

    def feed(self, events: Events) -> None:
        for number, a, b in events:
            if number in self.waiting:
                continue
            if number not in self.trials:
                number = len(self.trials)  # trials start in the order of their numbers
                self.trials[number] = Trial(number, ARCH, ARCH)
                self.scheduler.begin(self.trials[number])
            self.measure(self.trials[number], a, b)
            self.review(a, b)

    def measure(self, trial: Trial, a: float, b: float) -> None:
        if trial.state.ended:
            return
        step = min(trial.step + self.stride, MAX_STEP)
        trial.measurements.append(Measurement(step, {"val_accuracy": a, "latency_ms": b}))
        decision = self.scheduler.decide(trial)
        self.decisions.append((trial.number, step, decision))
        if step == MAX_STEP:
            self.end(trial, TrialState.COMPLETE)
        elif decision is Decision.STOP:
            self.end(trial, TrialState.STOPPED)
        elif decision is Decision.PAUSE:
            self.waiting.add(trial.number)

    def review(self, a: float, b: float, last: bool = False) -> bool:
        asked = False
        while verdicts := self.scheduler.review(last):
            asked = True
            for number, decision in verdicts:
                self.waiting.remove(number)
                self.decisions.append((number, 0, decision))
                if decision is Decision.STOP:
                    self.end(self.trials[number], TrialState.STOPPED)
            for number, decision in verdicts:
                if decision is Decision.CONTINUE:
                    self.measure(self.trials[number], a, b)
        return asked

    def end(self, trial: Trial, state: TrialState) -> None:
        trial.state = state
        self.scheduler.end(trial)

    def finish(self) -> None:
        """What runs goes on to its end, then what waits is reviewed for the last time."""
        while any(not t.state.ended and t.number not in self.waiting for t in self.trials.values()):
            self.feed([(n, float(n), 0.0) for n, t in self.trials.items() if not t.state.ended])
        while self.review(1.0, 1.0, last=True):
            self.finish()


class SchedulerTestCase:
    """What every scheduler does. A subclass defines the fixture ``scheduler``.

    Trials have nine steps. The scheduler gets one and two objectives.
    """

    @pytest.fixture
    def scheduler(self) -> Callable[[], Scheduler]:
        """Return a function that makes the scheduler to test."""
        raise NotImplementedError("define the fixture `scheduler` in your subclass")

    @pytest.mark.parametrize("objectives", [ONE, TWO], ids=["one", "two"])
    @settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=_INHERITED)
    @given(events=_STREAMS, cut=st.integers(0, 80), stride=st.integers(1, 4))
    def test_replay_gives_the_rungs_and_the_later_decisions(
        self,
        scheduler: Callable[[], Scheduler],
        objectives: tuple[Objective, ...],
        events: Events,
        cut: int,
        stride: int,
    ) -> None:
        """Replay gives the rungs and the later decisions."""
        whole = SimulatedTrials(scheduler(), stride)
        whole.scheduler.setup(_problem(objectives))
        whole.feed(events[:cut])

        half = SimulatedTrials(scheduler(), stride)
        half.scheduler.setup(_problem(objectives))
        half.trials, half.waiting = copy.deepcopy(whole.trials), set(whole.waiting)
        half.scheduler.replay(sorted(half.trials.values(), key=lambda t: t.number))
        assert half.scheduler.rungs() == whole.scheduler.rungs()
        assert set(half.scheduler.paused()) == set(whole.scheduler.paused()) == whole.waiting

        made = len(whole.decisions)
        whole.feed(events[cut:])
        half.feed(events[cut:])
        assert half.decisions == whole.decisions[made:]
        assert half.scheduler.rungs() == whole.scheduler.rungs()

    @settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=_INHERITED)
    @given(events=_STREAMS)
    def test_a_repeated_step_changes_nothing(
        self, scheduler: Callable[[], Scheduler], events: Events
    ) -> None:
        """A repeated step changes nothing."""
        search = SimulatedTrials(scheduler())
        search.scheduler.setup(_problem())
        for event in events:
            search.feed([event])
            number, step, decision = search.decisions[-1]
            if step:  # not the end of a paused trial
                rungs = search.scheduler.rungs()
                assert search.scheduler.decide(search.trials[number]) is decision
                assert search.scheduler.rungs() == rungs

    def test_the_first_trial_alone_is_never_stopped(
        self, scheduler: Callable[[], Scheduler]
    ) -> None:
        """The first trial alone is never stopped."""
        search = SimulatedTrials(scheduler())
        search.scheduler.setup(_problem())
        search.feed([(0, 1.0, 1.0)] * MAX_STEP)
        search.finish()
        assert search.trials[0].state is TrialState.COMPLETE
        assert all(d is not Decision.STOP for _, _, d in search.decisions)

    @pytest.mark.parametrize("objectives", [ONE, TWO], ids=["one", "two"])
    @settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=_INHERITED)
    @given(events=_STREAMS, stride=st.integers(1, 4))
    def test_a_search_comes_to_an_end_with_a_complete_trial(
        self,
        scheduler: Callable[[], Scheduler],
        objectives: tuple[Objective, ...],
        events: Events,
        stride: int,
    ) -> None:
        """A search comes to an end with a complete trial."""
        search = SimulatedTrials(scheduler(), stride)
        search.scheduler.setup(_problem(objectives))
        search.feed(events)
        search.finish()
        assert all(t.state.ended or n in search.waiting for n, t in search.trials.items())
        if events:
            assert any(t.state is TrialState.COMPLETE for t in search.trials.values())

    def test_trials_that_fail_keep_nobody_waiting(self, scheduler: Callable[[], Scheduler]) -> None:
        """Trials that fail keep nobody waiting."""
        search = SimulatedTrials(scheduler())
        search.scheduler.setup(_problem())
        search.feed([(n, float(n), 0.0) for n in range(8)])
        for number in range(0, 8, 2):
            if not search.trials[number].state.ended:
                search.waiting.discard(number)
                search.end(search.trials[number], TrialState.FAILED)
        search.finish()
        assert any(t.state is TrialState.COMPLETE for t in search.trials.values())

    def test_setup_again_forgets_everything(self, scheduler: Callable[[], Scheduler]) -> None:
        """Setup again forgets everything."""
        events = [(n, float(n % 3), 0.0) for n in range(9)] * 6
        search = SimulatedTrials(scheduler())
        search.scheduler.setup(_problem())
        search.feed(events)
        again = SimulatedTrials(search.scheduler)
        again.scheduler.setup(_problem())
        assert not again.scheduler.paused()
        assert sum(r.reached for r in again.scheduler.rungs()) == 0
        again.feed(events)
        assert again.decisions == search.decisions
