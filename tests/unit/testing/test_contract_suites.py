"""The suites of raynas.testing on parts of a third party.

The examples of the docstrings pass, and each defect makes the test fail that is named beside it.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections import defaultdict
from importlib import import_module
from pathlib import Path

import pytest

SUITES = {
    "spaces": ("OneLayer", "SearchSpaceTestCase", "space", "{}()"),
    "proxies": ("OnePlain", "ProxyTestCase", "proxy", "{}()"),
    "samplers": ("Shuffled", "SamplerTestCase, MultiObjectiveSamplerTestCase", "sampler", "{}"),
    "schedulers": ("FirstHalf", "SchedulerTestCase", "scheduler", "{}"),
    "evaluators": ("Widest", "EvaluatorTestCase", "new_evaluator", "{}()"),
    "data": ("Noise", "DatasetTestCase", "dataset", "{}()"),
    "runners": (
        "MyRunner", "RunnerTestCase", "make", "lambda **given: {}(Resources(**given))",
    ),
}  # fmt: skip


def example(suite: str) -> str:
    """Return the code of the example in the docstring of a suite's module."""
    doc = import_module(f"raynas.testing.{suite}").__doc__
    assert doc is not None
    return textwrap.dedent(doc.partition(".. code-block:: python\n")[2])


def broken(suite: str, body: str) -> str:
    """Return the example with a second part, which has a defect."""
    part, bases, fixture, value = SUITES[suite]
    return example(suite) + textwrap.dedent(
        """
        class Broken({part}):
        {body}


        class TestBroken({bases}):
            @pytest.fixture
            def {fixture}(self):
                return {value}
        """
    ).format(
        part=part, bases=bases, fixture=fixture, value=value.format("Broken"),
        body=textwrap.indent(textwrap.dedent(body).strip(), "    "),
    )  # fmt: skip


class Outcomes:
    """A plugin that keeps how each test ended."""

    def __init__(self) -> None:
        self.found: defaultdict[str, set[str]] = defaultdict(set)
        self.reasons: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.failed:
            name = report.nodeid.rpartition("::")[2].partition("[")[0]
            self.found[name].add(report.outcome)
            self.reasons.append(f"{name}: {report.longreprtext[-600:]}")


def run(folder: Path, code: str, *arguments: str) -> Outcomes:
    """Run a test file as a third party would, in this process."""
    file = folder / f"test_{folder.name.replace('-', '_')}.py"
    file.write_text(code)
    (folder / "pytest.ini").write_text("[pytest]\n")
    outcomes = Outcomes()
    known = set(sys.modules)
    pytest.main(
        [str(file), "-q", "-c", str(folder / "pytest.ini"), "-p", "no:cacheprovider", *arguments],
        plugins=[outcomes],
    )
    for name in set(sys.modules) - known:
        if name == file.stem:
            del sys.modules[name]
    return outcomes


@pytest.mark.parametrize("suite", SUITES)
def test_the_example_of_the_docs_passes_its_suite(suite: str, tmp_path: Path) -> None:
    outcomes = run(tmp_path, example(suite))
    bad = {name: how for name, how in outcomes.found.items() if how != {"passed"}}
    assert not bad, outcomes.reasons
    module = import_module(f"raynas.testing.{suite}")
    names = [name.strip() for name in SUITES[suite][1].split(",")]
    defined = {n for c in names for n in dir(getattr(module, c)) if n.startswith("test_")}
    assert set(outcomes.found) == defined


DEFECTS = [
    ("spaces", "test_sampling_reaches_every_option", """
        def sample(self, rng):
            return self.architecture({c.name: c.options[0] for c in self.choices})
        """),
    ("spaces", "test_sampling_follows_the_generator", """
        def sample(self, rng):
            import numpy as np
            return super().sample(np.random.default_rng())
        """),
    ("spaces", "test_canonical_is_idempotent_and_costs_no_more", """
        def canonical(self, arch):
            return next(iter(self.neighbors(arch)))
        """),
    ("spaces", "test_canonical_computes_the_same", """
        def canonical(self, arch):
            return self.architecture({**arch, "act": "ReLU"})
        """),
    ("spaces", "test_networks_have_the_shape_and_the_costs_that_the_space_says", """
        def costs(self, arch, input_shape=(3, 32, 32), num_classes=10):
            from dataclasses import replace
            found = super().costs(arch, input_shape, num_classes)
            return replace(found, macs=found.macs + 1)
        """),
    ("spaces", "test_networks_have_the_shape_and_the_costs_that_the_space_says", """
        def build(self, arch, input_shape=(3, 32, 32), num_classes=10):
            return super().build(arch, input_shape, num_classes + 1)
        """),
    ("spaces", "test_encoding_is_a_vector_that_tells_architectures_apart", """
        def encode(self, arch):
            return 0 * super().encode(arch)
        """),
    ("spaces", "test_text_values_and_architectures_come_back", """
        def format(self, values):
            return "width=2,act=ReLU"
        """),
    ("spaces", "test_mutation_changes_every_choice_and_one_at_a_time_by_default", """
        def mutate(self, arch, rng):
            return arch
        """),
    ("spaces", "test_neighbors_are_all_at_distance_one", """
        def neighbors(self, arch):
            return self.enumerate()
        """),
    ("spaces", "test_costs_leave_the_random_state", """
        def costs(self, arch, input_shape=(3, 32, 32), num_classes=10):
            import torch
            torch.rand(1)
            return super().costs(arch, input_shape, num_classes)
        """),
    ("proxies", "test_a_finite_score_or_a_reason_twice_the_same_and_nothing_is_changed", """
        calls = []

        def measure(self, probe):
            self.calls.append(1)
            return float(len(self.calls))
        """),
    ("proxies", "test_a_finite_score_or_a_reason_twice_the_same_and_nothing_is_changed", """
        def measure(self, probe):
            return float("nan")
        """),
    ("proxies", "test_a_finite_score_or_a_reason_twice_the_same_and_nothing_is_changed", """
        def measure(self, probe):
            import numpy as np
            return np.random.rand()
        """),
    ("proxies", "test_equal_images_have_no_score", """
        needs = Proxy.needs

        def measure(self, probe):
            return 1.0
        """),
    ("proxies", "test_it_is_a_frozen_value_of_settings_with_columns_that_are_scores", """
        __hash__ = None
        """),
    ("samplers", "test_proposals_are_of_the_space_and_new_up_to_isomorphism", """
        def ask(self, number):
            return self._distinct.fresh(number)

        def setup(self, space, problem):
            super().setup(space, problem)
            self._distinct.fresh = lambda number, fresh=self._distinct.fresh: fresh(0)
        """),
    ("samplers", "test_same_seed_same_proposals_another_seed_others", """
        def setup(self, space, problem):
            import dataclasses
            super().setup(space, dataclasses.replace(problem, seed=0))
        """),
    ("samplers", "test_setup_again_forgets_everything", """
        def setup(self, space, problem):
            if not hasattr(self, "_distinct"):
                super().setup(space, problem)
        """),
    ("samplers", "test_a_proposal_that_left_the_space_is_named", """
        def replay(self, trials):
            pass
        """),
    *[("samplers", name, """
        def setup(self, space, problem):
            super().setup(space, problem)
            self._count = 0

        def ask(self, number):
            self._count += 1
            return super().ask(self._count - 1)

        def replay(self, trials):
            pass
        """) for name in (
        "test_resumed_equals_uninterrupted",
        "test_resumed_with_two_objectives_equals_uninterrupted",
        "test_after_a_restart_one_worker_goes_on_as_if_undisturbed",
        "test_a_history_with_holes_is_taken_over",
        "test_running_trials_of_a_history_are_told_later",
    )],
    ("samplers", "test_an_exhausted_space_is_said_so_after_its_last_class", """
        def ask(self, number):
            from raynas.core import SpaceExhausted
            try:
                self._last = super().ask(number)
            except SpaceExhausted:
                pass
            return self._last
        """),
    *[("samplers", name, """
        def tell(self, trial):
            if trial.state.value != "COMPLETE":
                raise ValueError("a sampler must take every end of a trial")
        """) for name in (
        "test_a_search_in_which_nothing_completes_goes_on",
        "test_two_objectives_with_every_outcome",
    )],
    ("schedulers", "test_a_repeated_step_changes_nothing", """
        def setup(self, problem):
            super().setup(problem)
            self._calls = 0

        def decide(self, trial):
            self._calls += 1
            return Decision.STOP if self._calls % 2 == 0 else Decision.CONTINUE
        """),
    ("schedulers", "test_replay_gives_the_rungs_and_the_later_decisions", """
        def setup(self, problem):
            super().setup(problem)
            self._seen = set()

        def decide(self, trial):
            self._seen.add(trial.number)
            return Decision.STOP if len(self._seen) > 2 and trial.step < 9 else Decision.CONTINUE
        """),
    ("schedulers", "test_setup_again_forgets_everything", """
        def setup(self, problem):
            super().setup(problem)
            self._seen = getattr(self, "_seen", set())

        def decide(self, trial):
            self._seen.add(trial.number)
            return Decision.STOP if len(self._seen) > 2 and trial.step < 9 else Decision.CONTINUE
        """),
    *[("schedulers", name, """
        def decide(self, trial):
            return Decision.STOP
        """) for name in (
        "test_the_first_trial_alone_is_never_stopped",
        "test_a_search_comes_to_an_end_with_a_complete_trial",
        "test_trials_that_fail_keep_nobody_waiting",
    )],
    ("evaluators", "test_it_is_a_dataclass_with_a_name_and_metrics_before_setup", """
        @property
        def metrics(self):
            return (VAL_ACCURACY, VAL_ACCURACY)
        """),
    ("evaluators", "test_settings_survive_setup_replace_copy_and_pickle", """
        def setup(self, space, view):
            super().setup(space, view)
            self.max_step = 4
        """),
    ("evaluators", "test_steps_rise_to_the_last_with_all_metrics_finite", """
        def evaluate(self, arch, job):
            yield Measurement(1, {"val_accuracy": float("nan")})
        """),
    ("evaluators", "test_a_shorter_job_ends_at_its_own_last_step", """
        def evaluate(self, arch, job):
            from dataclasses import replace
            return super().evaluate(arch, replace(job, max_step=self.max_step))
        """),
    *[("evaluators", name, """
        count = 0

        def evaluate(self, arch, job):
            for step in range(1, job.max_step + 1):
                Broken.count += 1
                yield Measurement(step, {"val_accuracy": float(Broken.count)})
        """) for name in (
        "test_the_same_job_gives_the_same_and_another_seed_another",
        "test_who_iterates_may_stop_at_any_step",
        "test_a_second_attempt_reports_what_the_first_would_have",
        "test_what_was_kept_but_not_stored_is_told_again",
        "test_evaluations_may_be_interleaved",
    )],
    ("evaluators", "test_check_accepts_what_can_be_evaluated", """
        def check(self, arch):
            raise ValueError(arch.text)
        """),
    *[("data", name, """
        def search_view(self, seed):
            return self.final_view(seed)
        """) for name in (
        "test_views_are_well_formed",
        "test_train_and_valid_are_all_training_images_once",
        "test_no_test_image_is_among_those_of_a_search",
        "test_a_search_asks_for_training_images_only",
        "test_subsets_are_fair_and_fixed",
    )],
    *[("data", name, """
        def load(self, part):
            found = super().load(part)
            return Images(np.random.permutation(found.pixels), found.labels)
        """) for name in (
        "test_views_depend_on_the_seed_only",
        "test_views_and_sets_travel_to_workers",
    )],
    ("data", "test_description_is_data", """
        def __post_init__(self):
            object.__setattr__(self, "valid_share", 0.2)
        """),
    *[("runners", name, """
        def run(self, search):
            while (job := search.next()) is not None:
                pass
        """) for name in (
        "test_the_same_random_search_at_any_number_of_workers",
    )],
    ("runners", "test_evaluations_beside_a_search_come_back_in_order", """
        def evaluate(self, context, jobs, *more, **named):
            return list(super().evaluate(context, jobs, *more, **named))[::-1]
        """),
]  # fmt: skip


@pytest.mark.parametrize(
    ("suite", "test", "body"),
    [
        pytest.param(suite, test, body, id=f"{suite}-{test[5:60]}-{number}",
                     marks=[pytest.mark.long] if number % 3 else [])
        for number, (suite, test, body) in enumerate(DEFECTS)
    ],
)  # fmt: skip
def test_a_defect_is_caught(suite: str, test: str, body: str, tmp_path: Path) -> None:
    code = broken(suite, body)
    if "Proxy.needs" in body:
        code = code.replace(
            "class Broken(OnePlain):", "@dataclass(frozen=True)\nclass Broken(OnePlain):"
        )
    outcomes = run(tmp_path, code, "-k", f"TestBroken and {test}")
    assert set(outcomes.found) == {test}
    assert "failed" in outcomes.found[test], outcomes.reasons


def test_a_failed_assertion_of_a_suite_shows_its_values(tmp_path: Path) -> None:
    code = broken("spaces", "def mutate(self, arch, rng):\n    return arch")
    outcomes = run(tmp_path, code, "-k", "TestBroken and test_mutation")
    assert "Extra items in the right set" in outcomes.reasons[0]


def test_a_subclass_without_its_fixture_is_told_so(tmp_path: Path) -> None:
    code = example("spaces") + "\n\nclass TestNothing(SearchSpaceTestCase):\n    pass\n"
    outcomes = run(tmp_path, code, "-k", "TestNothing and test_settings")
    assert "define the fixture `space` in your subclass" in outcomes.reasons[0]


def test_the_package_and_the_toys_need_no_pytest() -> None:
    code = (
        "import sys; import raynas.testing, raynas.testing.toys, raynas.testing.searches;"
        "assert not {'pytest', 'hypothesis', 'torch', 'optuna', 'ray'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
