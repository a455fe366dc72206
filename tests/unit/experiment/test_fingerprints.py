"""Fingerprints of whole experiments: those that are stored with runs stay what they are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from integration.drivers import experiment_file, run_here
from rich.console import Console

from raynas.core import UserError
from raynas.experiment import Experiment, load
from raynas.pipeline.launch import resume
from raynas.runners.local import LocalRunner
from raynas.store import RunFolder

pytestmark = pytest.mark.usefixtures("undrawn")

EXPERIMENTS = Path(__file__).parents[3] / "experiments"

#: as raynas 0.1 stored them, of whole experiments and of their smoke runs
BEFORE = {
    "cifar10": ("2677a01c3173", "d51005393df1"),
    "custom_data": ("8c03c3035f62", "f004293aabf7"),
    "custom_space": ("af00bbeeeb8c", "595b09f8b6a3"),
    "early_stopping": ("81741f7d55ec", "b61fedafa901"),
    "fashion_mnist": ("7dba627c1b8b", "8bd64ed851e3"),  # its smoke run has a rung at 1 since
    "many_budgets": ("a2f0093e5ea8", "1003f905e5cc"),
    "planning_nb201": ("1488a0ba7204", "1488a0ba7204"),
    "proxy_correlation_nb201": ("ebc46059865d", "4c1f0379bd0f"),
    "published_nb201": ("6ca413d97fb8", "6ca413d97fb8"),
    "quickstart": ("c15aa36401eb", "213a9164603a"),
    "sample_and_retrain": ("f4ea3b4e0e4d", "05d732dfe80e"),
    "screened_search": ("adbaac28dfb7", "9eadd2e00d62"),
    "screening_nb201": ("325257a8b26f", "becfd796f8fb"),
    "supernet_fashion_mnist": ("02fd20bc0ea9", "532f13801fa0"),
    "supernet_nb201_cifar10": ("589ee17536d0", "aa97caf5e593"),
    "zen_nas_cifar": ("250c2c36625f", "9cf59c13331b"),
    "zero_shot_nb201": ("14903e1d7851", "6a2410a74ce3"),
}
#: a whole number stands in a field of floats (--set gave another fingerprint), or a class of the
#: file's own (whose code did not count)
WRONG_BEFORE = {"fashion_mnist", "zen_nas_cifar", "custom_space"}


@pytest.mark.parametrize("name", BEFORE)
def test_plain_settings_keep_the_fingerprints_that_are_stored(name: str) -> None:
    for smoke, stored in zip((False, True), BEFORE[name], strict=True):
        experiment = load(EXPERIMENTS / f"{name}.py", smoke=smoke).experiment
        assert experiment.former_fingerprint == stored
        assert (experiment.fingerprint == stored) == (name not in WRONG_BEFORE)


def test_a_copy_of_the_file_elsewhere_is_the_same_experiment(tmp_path: Path) -> None:
    """As the run's folder keeps it, under another name."""
    shutil.copy(EXPERIMENTS / "custom_space.py", tmp_path / "experiment.py")
    first = load(EXPERIMENTS / "custom_space.py").experiment
    copy = load(tmp_path / "experiment.py", name=first.name).experiment
    assert copy.fingerprint == first.fingerprint
    text = (tmp_path / "experiment.py").read_text()
    for words, others in (("Pool2d(2)", "Pool2d(1)"), ('"relu": nn.ReLU', '"relu": nn.ELU')):
        assert words in text
        (tmp_path / "experiment.py").write_text(text.replace(words, others))
        edited = load(tmp_path / "experiment.py", name=first.name).experiment
        assert edited.fingerprint != first.fingerprint


def _set(value: object, path: str = "evaluator.recipe.lr") -> Experiment:
    return load(EXPERIMENTS / "quickstart.py", {path: value}).experiment


def test_a_number_in_the_file_and_by_set_is_the_same(tmp_path: Path) -> None:
    text = (EXPERIMENTS / "quickstart.py").read_text()
    for lr, momentum in (("1", "0"), ("1.0", "0.0")):
        file = tmp_path / "quickstart.py"
        file.write_text(text.replace("epochs=9,", f"epochs=9, lr={lr}, weight_decay={momentum},"))
        found = load(file).experiment
        by_set = load(
            EXPERIMENTS / "quickstart.py",
            {"evaluator.recipe.lr": 1, "evaluator.recipe.weight_decay": 0},
        ).experiment
        assert found.fingerprint == by_set.fingerprint
    assert _set(1).fingerprint != _set(2).fingerprint


def _begun_before(run: RunFolder, experiment: Experiment) -> None:
    """The run as raynas 0.1 would have begun it."""
    info = json.loads(run.run_file.read_text())
    info["fingerprint"] = experiment.former_fingerprint
    run.run_file.write_text(json.dumps(info))


def test_a_run_with_a_former_fingerprint_goes_on_and_no_other_does(tmp_path: Path) -> None:
    file = experiment_file(tmp_path, trials=2)
    run = run_here(file)
    experiment = load(file).experiment
    assert experiment.fingerprint != experiment.former_fingerprint  # toys are a user's classes
    assert run.info.fingerprint == experiment.fingerprint
    _begun_before(run, experiment)

    def go_on(**overrides: object) -> RunFolder:
        console = Console(quiet=True)
        return resume(
            run.path, lambda *_: LocalRunner(), more_trials=1, overrides=overrides, console=console
        )

    with pytest.raises(UserError, match="belongs to another experiment"):
        go_on(**{"evaluator.seconds": 0.001})
    assert go_on().info.fingerprint == experiment.former_fingerprint


def test_what_a_users_object_works_out_is_no_part_of_the_fingerprint(tmp_path: Path) -> None:
    """A space that is no dataclass keeps its choices when they are first asked for."""
    file = experiment_file(tmp_path, trials=2)
    space = """
from raynas.core import Choice
from raynas.spaces.base import SearchSpace

class Remembering(SearchSpace):
    name = "remembering"
    build, costs = ToySpace.build, ToySpace.costs

    @property
    def choices(self):
        if not hasattr(self, "kept"):
            self.kept = ToySpace().choices
        return self.kept
"""
    text = file.read_text()
    assert "space=ToySpace()" in text
    text = text.replace("space=ToySpace()", "space=Remembering()")
    file.write_text(text.replace("def experiment(", f"{space}\ndef experiment(", 1))
    used = load(file).experiment
    assert used.space.choices  # its attributes have changed, so the order matters
    assert used.fingerprint != load(file).experiment.fingerprint
    run = run_here(file)
    found = resume(run.path, lambda *_: LocalRunner(), more_trials=1, console=Console(quiet=True))
    assert found.info.fingerprint == run.info.fingerprint
    assert load(file).experiment.fingerprint == run.info.fingerprint
