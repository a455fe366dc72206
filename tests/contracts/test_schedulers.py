"""What every scheduler promises, checked on all of them through one suite."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given, settings
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
from raynas.schedulers import (
    ASHA,
    PASHA,
    CurvePrediction,
    Hyperband,
    NoStopping,
    PromotionASHA,
    Scheduler,
    SuccessiveHalving,
    schedulers,
)

MAKERS = {
    "asha": ASHA,
    "asha, factor 2 from step 2": lambda: ASHA(min_step=2, factor=2),
    "asha to step 4": lambda: ASHA(max_step=4),
    "promotion": PromotionASHA,
    "promotion, factor 2 to step 6": lambda: PromotionASHA(factor=2, max_step=6),
    "pasha": PASHA,
    "pasha, factor 2": lambda: PASHA(factor=2, epsilon=0.0),
    "hyperband": lambda: Hyperband(min_step=2),
    "hyperband, factor 2": lambda: Hyperband(factor=2, brackets=2),
    "halving": lambda: SuccessiveHalving(min_step=2),
    "halving of four": lambda: SuccessiveHalving(size=4, overlap=False),
    "curves": CurvePrediction,
    "curves, bold": lambda: CurvePrediction(best=1, confidence=0.5, enough=4),
    "none": NoStopping,
}
MAX_STEP = 9
ONE = (Objective("val_accuracy"),)
TWO = (Objective("val_accuracy"), Objective("latency_ms", "min"))
ARCH = Architecture("toy", (("a", 1),), "a=1")


def problem(objectives=ONE) -> SearchProblem:
    return SearchProblem(objectives, MAX_STEP, 0, "run-1")


class Search:
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

    def feed(self, events) -> None:
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


def test_the_suite_knows_every_scheduler():
    assert {make().name for make in MAKERS.values()} == set(schedulers())


values = st.integers(0, 6).map(float)  # few values, so that ties are common
streams = st.lists(st.tuples(st.integers(0, 9), values, values), max_size=80)


@pytest.mark.parametrize("objectives", [ONE, TWO], ids=["one", "two"])
@pytest.mark.parametrize("name", MAKERS)
@settings(max_examples=40, deadline=None, derandomize=True)
@given(events=streams, cut=st.integers(0, 80), stride=st.integers(1, 4))
def test_replay_gives_the_rungs_and_the_later_decisions(name, objectives, events, cut, stride):
    whole = Search(MAKERS[name](), stride)
    whole.scheduler.setup(problem(objectives))
    whole.feed(events[:cut])

    half = Search(MAKERS[name](), stride)
    half.scheduler.setup(problem(objectives))
    half.trials, half.waiting = copy.deepcopy(whole.trials), set(whole.waiting)
    half.scheduler.replay(sorted(half.trials.values(), key=lambda t: t.number))
    assert half.scheduler.rungs() == whole.scheduler.rungs()
    assert set(half.scheduler.paused()) == set(whole.scheduler.paused()) == whole.waiting

    made = len(whole.decisions)
    whole.feed(events[cut:])
    half.feed(events[cut:])
    assert half.decisions == whole.decisions[made:]
    assert half.scheduler.rungs() == whole.scheduler.rungs()


@pytest.mark.parametrize("name", MAKERS)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(events=streams)
def test_a_repeated_step_changes_nothing(name, events):
    search = Search(MAKERS[name]())
    search.scheduler.setup(problem())
    for event in events:
        search.feed([event])
        number, step, decision = search.decisions[-1]
        if step:  # not the end of a paused trial
            rungs = search.scheduler.rungs()
            assert search.scheduler.decide(search.trials[number]) is decision
            assert search.scheduler.rungs() == rungs


@pytest.mark.parametrize("name", MAKERS)
def test_the_first_trial_alone_is_never_stopped(name):
    search = Search(MAKERS[name]())
    search.scheduler.setup(problem())
    search.feed([(0, 1.0, 1.0)] * MAX_STEP)
    search.finish()
    assert search.trials[0].state is TrialState.COMPLETE
    assert all(d is not Decision.STOP for _, _, d in search.decisions)


@pytest.mark.parametrize("objectives", [ONE, TWO], ids=["one", "two"])
@pytest.mark.parametrize("name", MAKERS)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(events=streams, stride=st.integers(1, 4))
def test_a_search_comes_to_an_end_with_a_complete_trial(name, objectives, events, stride):
    search = Search(MAKERS[name](), stride)
    search.scheduler.setup(problem(objectives))
    search.feed(events)
    search.finish()
    assert all(t.state.ended or n in search.waiting for n, t in search.trials.items())
    if events:
        assert any(t.state is TrialState.COMPLETE for t in search.trials.values())


@pytest.mark.parametrize("name", MAKERS)
def test_trials_that_fail_keep_nobody_waiting(name):
    search = Search(MAKERS[name]())
    search.scheduler.setup(problem())
    search.feed([(n, float(n), 0.0) for n in range(8)])
    for number in range(0, 8, 2):
        if not search.trials[number].state.ended:
            search.waiting.discard(number)
            search.end(search.trials[number], TrialState.FAILED)
    search.finish()
    assert any(t.state is TrialState.COMPLETE for t in search.trials.values())


@pytest.mark.parametrize("name", MAKERS)
def test_setup_again_forgets_everything(name):
    events = [(n, float(n % 3), 0.0) for n in range(9)] * 6
    search = Search(MAKERS[name]())
    search.scheduler.setup(problem())
    search.feed(events)
    again = Search(search.scheduler)
    again.scheduler.setup(problem())
    assert not again.scheduler.paused()
    assert sum(r.reached for r in again.scheduler.rungs()) == 0
    again.feed(events)
    assert again.decisions == search.decisions
