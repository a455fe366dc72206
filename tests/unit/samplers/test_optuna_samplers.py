"""The traps of Optuna 5, one test each, by looking into the study."""

from __future__ import annotations

import inspect
import math
import subprocess
import sys
from dataclasses import dataclass
from typing import ClassVar

import optuna
import pytest
from optuna.trial import TrialState as OptunaState

from raynas.core import (
    Architecture,
    Bound,
    Choice,
    Measurement,
    Objective,
    SearchProblem,
    Trial,
    TrialState,
    UserError,
)
from raynas.samplers import CMAES, GP, NSGA2, TPE, OptunaRandom
from raynas.spaces.base import SearchSpace

MAX_STEP = 9
UP = (Objective("val_accuracy"),)
TWO = (Objective("val_accuracy"), Objective("macs", "min"))
BOUND = Bound("params", max=100.0)


@dataclass(frozen=True)
class Toy(SearchSpace):
    parts: tuple[Choice, ...] = (
        Choice("op", ("skip", "conv", "pool")),
        Choice("act", (True, False)),
        Choice("width", (8, 16, 32, 64), ordered=True),
        Choice("depth", tuple(range(1, 101)), ordered=True),  # so large that no draw repeats
        Choice("fixed", ("only",)),
    )
    name: ClassVar[str] = "toy"

    @property
    def choices(self) -> tuple[Choice, ...]:
        return self.parts

    def build(self, arch, input_shape=(3, 32, 32), num_classes=10):
        raise AssertionError("a sampler never builds a network")


ORDERED = Toy(tuple(Choice(f"w{i}", (1, 2, 3, 4, 5), ordered=True) for i in range(3)))
ALL = [TPE, NSGA2, GP, CMAES, OptunaRandom]


def start(sampler, space=None, objectives=UP, bounds=(), run="run-7", seed=0):
    sampler.setup(space or Toy(), SearchProblem(tuple(objectives), MAX_STEP, seed, run, bounds))
    return sampler


def study_of(sampler) -> optuna.Study:
    return sampler._study


def ask(sampler, number: int) -> Trial:
    arch = sampler.ask(number)
    return Trial(number, arch, arch)


def finish(trial: Trial, state: TrialState, *values: float, **extra) -> Trial:
    trial.state = state
    trial.measurements = [Measurement(i + 1, {"val_accuracy": v}) for i, v in enumerate(values)]
    trial.costs = extra.get("costs", {"macs": 10.0})
    trial.violations = extra.get("violations", {})
    return trial


def test_neither_package_nor_sampler_imports_optuna_or_torch_before_setup():
    code = (
        "import sys, raynas.samplers as s, raynas.schedulers; s.TPE(n_startup=3); s.samplers();"
        "assert not {'optuna', 'torch', 'ray'} & set(sys.modules), 'heavy import'"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


@pytest.mark.parametrize("make", ALL)
def test_the_study_bears_the_run_and_is_the_runs_own(make):
    first = start(make(), ORDERED, run="run-a")
    second = start(make(), ORDERED, run="run-b")
    first.ask(0)
    assert study_of(first).study_name == "run-a"
    assert study_of(second).study_name == "run-b"
    assert len(study_of(second).trials) == 0


def test_optuna_says_nothing_and_keeps_its_users_level(capfd):
    before = optuna.logging.get_verbosity()
    sampler = start(TPE(n_startup=2))
    for n in range(5):
        sampler.tell(finish(ask(sampler, n), TrialState.COMPLETE, 1.0 * n))
    assert optuna.logging.get_verbosity() == before
    out = capfd.readouterr()
    assert out.out + out.err == ""


def test_ordered_choices_are_integers_others_categories():
    sampler = start(TPE())
    sampler.ask(0)
    kinds = {n: type(d).__name__ for n, d in study_of(sampler).trials[0].distributions.items()}
    assert kinds == {
        "op": "CategoricalDistribution",
        "act": "CategoricalDistribution",
        "width": "IntDistribution",
        "depth": "IntDistribution",
        "fixed": "CategoricalDistribution",
    }


@pytest.mark.parametrize(
    ("make", "base", "left"),
    [
        # left to their defaults: what is deprecated, or a function that is Optuna's own
        (TPE, optuna.samplers.TPESampler,
         {"consider_prior", "prior_weight", "consider_magic_clip", "consider_endpoints", "gamma",
          "weights", "warn_independent_sampling", "constraints_func"}),
        (NSGA2, optuna.samplers.NSGAIISampler,
         {"constraints_func", "elite_population_selection_strategy", "child_generation_strategy",
          "after_trial_strategy"}),
        (GP, optuna.samplers.GPSampler, {"constraints_func"}),
        (CMAES, optuna.samplers.CmaEsSampler,
         {"x0", "sigma0", "restart_strategy", "inc_popsize", "source_trials"}),
    ],
)  # fmt: skip
def test_every_option_is_set_explicitly(make, base, left, monkeypatch):
    given = {}
    original = base.__init__

    def spy(self, **kwargs):
        given.update(kwargs)
        original(self, **kwargs)

    wanted = set(inspect.signature(base.__init__).parameters) - {"self", "args", "kwargs"}
    monkeypatch.setattr(base, "__init__", spy)
    start(make(), ORDERED).ask(0)
    assert set(given) == wanted - left


def every_ending(sampler) -> dict[str, Trial]:
    """One trial of every ending, told; name -> trial."""
    nan = math.nan
    endings = {
        "complete": (TrialState.COMPLETE, [1.0, 2.0, 3.0], {}),
        "stopped": (TrialState.STOPPED, [1.0, 1.5], {}),
        "failed": (TrialState.FAILED, [1.0], {}),
        "crashed at once": (TrialState.FAILED, [], {}),
        "nan": (TrialState.COMPLETE, [1.0, nan], {}),
        "infinite": (TrialState.COMPLETE, [1.0, math.inf], {}),
        "stopped on nan": (TrialState.STOPPED, [1.0, nan], {}),
        "rejected": (TrialState.INFEASIBLE, [], {"violations": {str(BOUND): 0.5}}),
        "out of memory": (TrialState.INFEASIBLE, [], {}),
        "out of memory later": (TrialState.INFEASIBLE, [1.0], {}),
        "too slow at the end": (
            TrialState.INFEASIBLE, [1.0] * MAX_STEP, {"violations": {str(BOUND): 0.5}}),
    }  # fmt: skip
    trials = {name: ask(sampler, n) for n, name in enumerate(endings)}
    for name, (state, values, extra) in endings.items():
        sampler.tell(finish(trials[name], state, *values, **extra))
    return trials


STATES = {
    "complete": "COMPLETE",
    "stopped": "PRUNED",
    "failed": "FAIL",
    "crashed at once": "FAIL",
    "nan": "FAIL",
    "infinite": "FAIL",
    "stopped on nan": "PRUNED",
    "rejected": "PRUNED",
    "out of memory": "PRUNED",
    "out of memory later": "PRUNED",
    "too slow at the end": "COMPLETE",
}


@pytest.mark.parametrize("objectives", [UP, TWO], ids=["one", "two"])
@pytest.mark.parametrize("make", [TPE, NSGA2, GP, OptunaRandom])
def test_every_ending_reaches_optuna_and_none_stays_running(make, objectives):
    sampler = start(make(), objectives=objectives, bounds=(BOUND,))
    every_ending(sampler)
    found = [t.state.name for t in study_of(sampler).trials]
    assert dict(zip(STATES, found, strict=True)) == STATES


def test_what_optuna_is_told_with_one_objective():
    sampler = start(TPE(), bounds=(BOUND,))
    every_ending(sampler)
    told = dict(zip(STATES, study_of(sampler).trials, strict=True))
    assert told["complete"].values == [3.0]
    assert told["complete"].intermediate_values == {1: 1.0, 2: 2.0, 3: 3.0}
    assert told["complete"].constraints == {str(BOUND): 0.0}
    assert told["stopped"].intermediate_values == {1: 1.0, 2: 1.5}
    assert told["stopped"].constraints == {str(BOUND): 0.0}
    assert told["stopped on nan"].intermediate_values == {1: 1.0}
    assert told["rejected"].constraints == {str(BOUND): 0.5}
    assert told["out of memory"].constraints == {str(BOUND): 0.0, "infeasible": 1.0}
    assert told["failed"].intermediate_values == {}


def test_what_optuna_is_told_with_two_objectives():
    sampler = start(TPE(), objectives=TWO, bounds=(BOUND,))
    every_ending(sampler)
    told = dict(zip(STATES, study_of(sampler).trials, strict=True))
    assert told["complete"].values == [3.0, 10.0]
    assert study_of(sampler).directions == [
        optuna.study.StudyDirection.MAXIMIZE,
        optuna.study.StudyDirection.MINIMIZE,
    ]
    assert told["stopped"].values is None
    assert told["stopped"].intermediate_values == {}
    assert 0 < told["stopped"].constraints["stopped"] < 1e-5


@pytest.mark.parametrize("objectives", [UP, TWO], ids=["one", "two"])
@pytest.mark.parametrize("make", [TPE, NSGA2, GP])
def test_replay_tells_the_same_as_tell(make, objectives):
    first = start(make(), objectives=objectives, bounds=(BOUND,))
    trials = list(every_ending(first).values())
    second = start(make(), objectives=objectives, bounds=(BOUND,))
    second.replay(trials)
    one, two = study_of(first).trials, study_of(second).trials
    fields = ["number", "state", "values", "params", "distributions", "intermediate_values",
              "constraints"]  # fmt: skip
    for field in fields:
        assert [getattr(t, field) for t in one] == [getattr(t, field) for t in two], field


@pytest.mark.parametrize("make", ALL)
def test_after_a_replay_only_live_trials_are_running(make):
    sampler = start(make(), ORDERED)
    trials = [ask(sampler, n) for n in range(6)]
    for trial in trials[:4]:
        sampler.tell(finish(trial, TrialState.COMPLETE, float(trial.number)))
    again = start(make(), ORDERED)
    again.replay(trials)
    study = study_of(again)
    assert sum(t.state is OptunaState.RUNNING for t in study.trials) == 2
    running = [t.params for t in study.trials if t.state is OptunaState.RUNNING]
    assert running == [{n: v - 1 for n, v in t.proposal.items()} for t in trials[4:]]
    for trial in trials[4:]:
        again.tell(finish(trial, TrialState.FAILED))
    assert not any(t.state is OptunaState.RUNNING for t in study.trials)


def test_a_repeated_draw_is_replaced_and_leaves_nothing_running():
    space = Toy((Choice("a", (1, 2, 3), ordered=True), Choice("b", ("x", "y"))))
    sampler = start(TPE(n_startup=1), space)
    seen: set[Architecture] = set()
    for n in range(6):
        trial = ask(sampler, n)
        seen.add(trial.arch)
        sampler.tell(finish(trial, TrialState.COMPLETE, 1.0))
    assert len(seen) == 6
    states = [t.state for t in study_of(sampler).trials]
    assert states.count(OptunaState.COMPLETE) == 6
    assert states.count(OptunaState.RUNNING) == 0


def test_tpe_ranks_stopped_trials_below_completed_ones_of_lower_value():
    """A high value at a low step must not count as good: the surrogate sees the final one."""
    from optuna.samplers._tpe.sampler import _split_trials

    sampler = start(TPE())
    high = finish(ask(sampler, 0), TrialState.STOPPED, 99.0)
    far = finish(ask(sampler, 1), TrialState.STOPPED, 1.0, 2.0, 3.0)
    done = finish(ask(sampler, 2), TrialState.COMPLETE, *[5.0] * MAX_STEP)
    for trial in (high, far, done):
        sampler.tell(trial)
    study = study_of(sampler)
    good = [{t.number for t in _split_trials(study, study.trials, n)[0]} for n in (1, 2)]
    assert good == [{2}, {1, 2}]


def test_tpe_with_two_objectives_ranks_stopped_trials_by_their_steps():
    from optuna.samplers._tpe.sampler import _split_trials

    sampler = start(TPE(), objectives=TWO, bounds=(BOUND,))
    early = finish(ask(sampler, 0), TrialState.STOPPED, 99.0)
    late = finish(ask(sampler, 1), TrialState.STOPPED, 1.0, 2.0, 3.0)
    broken = finish(ask(sampler, 2), TrialState.INFEASIBLE, violations={str(BOUND): 0.01})
    done = finish(ask(sampler, 3), TrialState.COMPLETE, *[5.0] * MAX_STEP)
    for trial in (early, late, broken, done):
        sampler.tell(trial)
    study = study_of(sampler)
    good = [{t.number for t in _split_trials(study, study.trials, n)[0]} for n in (1, 2, 3, 4)]
    assert good == [{3}, {1, 3}, {0, 1, 3}, {0, 1, 2, 3}]


def test_tpe_learns_a_bound_from_rejected_trials():
    space = Toy(tuple(Choice(f"w{i}", tuple(range(8)), ordered=True) for i in range(3)))
    sampler = start(TPE(n_startup=10), space, bounds=(Bound("macs", max=7.0),))
    rejected = []
    for n in range(60):
        trial = ask(sampler, n)
        total = float(sum(map(int, trial.arch.options)))
        over = {"macs <= 7": (total - 7) / 7}
        broken = total > 7
        rejected.append(broken)
        state = TrialState.INFEASIBLE if broken else TrialState.COMPLETE
        steps = [] if broken else [total] * MAX_STEP
        sampler.tell(finish(trial, state, *steps, violations=over))
    assert sum(rejected[-25:]) < sum(rejected[:25])


def test_nsga2_counts_generations_by_completed_trials_whatever_their_order():
    def proposals(order) -> list[Architecture]:
        sampler = start(NSGA2(population=4), objectives=TWO)
        trials = [ask(sampler, n) for n in range(8)]
        for n in order:
            arch = trials[n].arch
            value = float(arch["width"]) * int(arch["depth"])
            sampler.tell(
                finish(trials[n], TrialState.COMPLETE, value, costs={"macs": float(arch["width"])})
            )
        return [sampler.ask(n) for n in range(8, 12)]

    assert proposals(range(8)) == proposals([7, 2, 5, 0, 1, 6, 4, 3])


def test_cmaes_moves_towards_the_optimum():
    space = Toy(tuple(Choice(f"w{i}", tuple(range(9)), ordered=True) for i in range(4)))
    sampler = start(CMAES(), space)
    values = []
    for n in range(72):
        trial = ask(sampler, n)
        values.append(-float(sum((int(o) - 6) ** 2 for o in trial.arch.options)))
        sampler.tell(finish(trial, TrialState.COMPLETE, *[values[-1]] * MAX_STEP))
    assert sum(values[-24:]) / 24 > sum(values[:24]) / 24 + 5


def test_cmaes_names_the_choices_without_order_and_what_serves_instead():
    with pytest.raises(
        UserError, match=r"'toy': these choices are not ordered: op, act; .*use TPE"
    ):
        start(CMAES())


def test_cmaes_refuses_several_objectives():
    with pytest.raises(UserError, match="CMAES cannot serve 2 objectives; give one"):
        start(CMAES(), ORDERED, objectives=TWO)


def test_cmaes_says_how_to_install_what_it_needs(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"pip install 'raynas\[cmaes\]'"):
        start(CMAES(), ORDERED)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TPE(n_startup=0), "TPE: n_startup = 0; expected: 1 or more"),
        (lambda: TPE(candidates=0), "candidates = 0"),
        (lambda: NSGA2(population=1), "population = 1; expected: 2 or more"),
        (lambda: NSGA2(crossover=1.5), "crossover = 1.5; expected: 0 to 1"),
        (lambda: GP(n_startup=0), "n_startup = 0"),
        (lambda: CMAES(population=1), "population = 1"),
        (lambda: CMAES(n_startup=0), "n_startup = 0"),
    ],
)
def test_bad_settings_name_value_and_allowed(make, message):
    with pytest.raises(UserError, match=message):
        make()
