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
    Problem,
    Trial,
    TrialState,
)
from raynas.schedulers import ASHA, NoStopping, Scheduler, schedulers

MAKERS = {
    "asha": ASHA,
    "asha, factor 2 from step 2": lambda: ASHA(min_step=2, factor=2),
    "asha to step 4": lambda: ASHA(max_step=4),
    "none": NoStopping,
}
MAX_STEP = 9
ONE = (Objective("val_accuracy"),)
TWO = (Objective("val_accuracy"), Objective("latency_ms", "min"))
ARCH = Architecture("toy", (("a", 1),), "a=1")


def problem(objectives=ONE) -> Problem:
    return Problem(objectives, MAX_STEP, 0, "run-1")


class Search:
    """Feeds (trial number, a, b) events to a scheduler, one step of the trial for each."""

    def __init__(self, scheduler: Scheduler, stride: int = 1) -> None:
        self.scheduler = scheduler
        self.stride = stride
        self.trials: dict[int, Trial] = {}
        self.decisions: list[tuple[int, int, Decision]] = []

    def feed(self, events) -> None:
        for number, a, b in events:
            trial = self.trials.setdefault(number, Trial(number, ARCH, ARCH))
            if trial.state.ended:
                continue
            step = min(trial.step + self.stride, MAX_STEP)
            trial.measurements.append(Measurement(step, {"val_accuracy": a, "latency_ms": b}))
            decision = self.scheduler.decide(trial)
            self.decisions.append((number, step, decision))
            if step == MAX_STEP:
                trial.state = TrialState.COMPLETE
            elif decision is Decision.STOP:
                trial.state = TrialState.STOPPED


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
    half.trials = copy.deepcopy(whole.trials)
    half.scheduler.replay(sorted(half.trials.values(), key=lambda t: t.number))
    assert half.scheduler.rungs() == whole.scheduler.rungs()

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
        before = len(search.decisions)
        search.feed([event])
        if len(search.decisions) > before:
            rungs = search.scheduler.rungs()
            assert search.scheduler.decide(search.trials[event[0]]) is search.decisions[-1][2]
            assert search.scheduler.rungs() == rungs


@pytest.mark.parametrize("name", MAKERS)
def test_the_first_trial_alone_is_never_stopped(name):
    search = Search(MAKERS[name]())
    search.scheduler.setup(problem())
    search.feed([(0, 1.0, 1.0)] * MAX_STEP)
    assert search.trials[0].state is TrialState.COMPLETE
    assert all(d is Decision.CONTINUE for _, _, d in search.decisions)


@pytest.mark.parametrize("name", MAKERS)
def test_setup_again_forgets_everything(name):
    events = [(n, float(n % 3), 0.0) for n in range(9)] * 4
    search = Search(MAKERS[name]())
    search.scheduler.setup(problem())
    search.feed(events)
    again = Search(search.scheduler)
    again.scheduler.setup(problem())
    assert sum(r.reached for r in again.scheduler.rungs()) == 0
    again.feed(events)
    assert again.decisions == search.decisions
