"""Weights know the images that they were trained on, and measure none of these."""

from __future__ import annotations

import io
import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from tiny_supernet import Tiny

from raynas.core import Job, RaynasError, UserError
from raynas.core.describe import fresh
from raynas.data import Arrays, Digits
from raynas.data.base import DataView, Images
from raynas.evaluators import FineTune, Inherited, Retrain, TrainSupernet
from raynas.evaluators.abilities import remarks_of
from raynas.evaluators.base import Evaluator
from raynas.experiment import Budget, Experiment, Finalists, RankingCheck, load
from raynas.pipeline import launch
from raynas.pipeline.checks import prepare
from raynas.runners.local import LocalRunner
from raynas.runners.ray import actor_worker
from raynas.runners.ray.actor_worker import ready_evaluator
from raynas.runners.ray.shared_context import SharedContext
from raynas.samplers import Random
from raynas.supernet.trained_on import ARRAY, TrainedOn
from raynas.supernet.weights import FILE, SHEET, read_trained_on, save_weights
from raynas.training import Recipe

pytestmark = pytest.mark.usefixtures("undrawn")

torch.set_num_threads(1)

SPACE = Tiny()
RECIPE = Recipe(epochs=1, batch_size=64, lr=0.01, flip=False)


def images(count: int, seed: int) -> Images:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (count, 8, 8, 1)).astype(np.uint8)
    return Images(pixels, np.arange(count, dtype=np.int64) % 4)


TRAIN, TEST = images(200, 0), images(40, 1)
DATA = Arrays(TRAIN.pixels, TRAIN.labels, TEST.pixels, TEST.labels, valid_share=0.2)


def weights_of(folder: Path, seen: Images | None, data: Arrays = DATA) -> Path:
    """Weights of the tiny supernet that say that they were trained on ``seen``."""
    view = data.search_view(0)
    torch.manual_seed(0)
    supernet = SPACE.supernet(view.input_shape, view.num_classes)
    return save_weights(folder, supernet, epoch=1, identity={}, images=seen).path


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return weights_of(tmp_path / "weights", DATA.search_view(0).train)


def both(weights: Path) -> list[Evaluator]:
    return [Inherited(calibration=32, weights=weights), FineTune(RECIPE, weights=weights)]


def checked(evaluator: Evaluator, view: DataView) -> None:
    made = fresh(evaluator)
    made.setup(SPACE, view)
    made.check(SPACE.extremes()[0])


def test_the_file_says_which_images_in_any_order(weights: Path) -> None:
    seen = DATA.search_view(0).train
    known = read_trained_on(weights)
    assert known is not None
    order = np.random.default_rng(5).permutation(len(seen))
    shuffled = TrainedOn.of(Images(seen.pixels[order], seen.labels[::-1]))
    assert known.digest == shuffled.digest
    fewer = TrainedOn.of(Images(seen.pixels[1:], seen.labels[1:]))
    changed = seen.pixels.copy()
    changed[7, 3, 3, 0] ^= 1
    assert len({known.digest, fewer.digest, TrainedOn.of(Images(changed, seen.labels)).digest}) == 3
    sheet = json.loads((weights.parent / SHEET).read_text())
    assert sheet["trained_on"] == {"images": 160, "digest": known.digest}


def test_a_training_leaves_its_images_with_the_weights(tmp_path: Path) -> None:
    view = DATA.search_view(3)
    training = TrainSupernet(RECIPE, look_images=8, look_calibration=8)
    training.setup(SPACE, view)
    list(training.evaluate(SPACE.extremes()[1], Job(0, 0, 1, workdir=tmp_path)))
    known = read_trained_on(tmp_path / "weights")
    assert known is not None
    assert known.digest == TrainedOn.of(view.train).digest


def test_weights_of_the_same_split_are_used(weights: Path) -> None:
    for evaluator in both(weights):
        checked(evaluator, DATA.search_view(0))
        checked(evaluator, DATA.final_view(0))  # its validation images may be trained on now
        assert evaluator.remarks() == ()


def test_weights_of_another_seed_are_refused_with_how_much_was_seen(weights: Path) -> None:
    view = DATA.search_view(1)
    seen = {image.tobytes() for image in DATA.search_view(0).train.pixels}
    count = sum(image.tobytes() in seen for image in view.held_out.pixels)
    assert count > 20  # nearly all of the 40
    for evaluator in both(weights):
        with pytest.raises(UserError) as told:
            checked(evaluator, view)
        share = rf"{count} of 40 ({100 * count / 40:.0f} %) of its validation images were trained"
        assert share in str(told.value)
        assert str(weights) in str(told.value)
        assert "\n" not in str(told.value)


def test_weights_of_other_data_or_of_a_part_are_refused(weights: Path, tmp_path: Path) -> None:
    other = Arrays(images(200, 9).pixels, TRAIN.labels, TEST.pixels, TEST.labels, valid_share=0.2)
    for evaluator in both(weights):
        with pytest.raises(UserError, match=r"160 of their 160 .* 0 of 40 \(0 %\)"):
            checked(evaluator, other.search_view(0))
        with pytest.raises(UserError, match="were trained on other images"):
            checked(evaluator, replace(DATA, subset=100).search_view(0))
    train = DATA.search_view(0).train
    part = weights_of(tmp_path / "part", Images(train.pixels[:90], train.labels[:90]))
    with pytest.raises(UserError, match=r"0 of their 90 .* 0 of 40"):
        checked(both(part)[0], DATA.search_view(0))


def test_weights_that_saw_test_images_train_no_finalist(tmp_path: Path) -> None:
    train = DATA.search_view(0).train
    pixels = np.concatenate([train.pixels, TEST.pixels[:10]])
    leaked = weights_of(tmp_path / "leaked", Images(pixels, np.zeros(170, np.int64)))
    for evaluator in both(leaked):
        with pytest.raises(UserError, match=r"10 of 40 \(25 %\) of its test images were trained"):
            checked(evaluator, DATA.final_view(0))


def test_an_image_that_a_set_has_twice_is_no_leak(tmp_path: Path) -> None:
    pixels = TEST.pixels.copy()
    pixels[0] = DATA.search_view(0).train.pixels[0]
    data = replace(DATA, test_images=pixels)
    twice = weights_of(tmp_path / "twice", data.search_view(0).train)
    for evaluator in both(twice):
        checked(evaluator, data.final_view(0))


def test_older_weights_are_used_with_a_remark(tmp_path: Path) -> None:
    older = weights_of(tmp_path / "older", None)
    assert read_trained_on(older) is None
    for evaluator in both(older):
        checked(evaluator, DATA.search_view(1))
        (remark,) = evaluator.remarks()
        assert "do not say which images they were trained on" in remark
        assert str(older) in remark
    assert remarks_of(Inherited()) == remarks_of(FineTune()) == remarks_of(Retrain()) == ()


def test_hashes_that_were_altered_are_refused(weights: Path) -> None:
    content = weights.read_bytes()
    place = content.index(b'hashes\\": \\"') + 15
    other = b"A" if content[place] != ord("A") else b"B"
    weights.write_bytes(content[:place] + other + content[place + 1 :])
    with pytest.raises(UserError, match=r"was altered: the images' hashes"):
        read_trained_on(weights)


# -- before a search begins ------------------------------------------------------------------------


def experiment(seed: int, evaluator: Evaluator, **more: object) -> Experiment:
    return Experiment(
        space=SPACE, data=DATA, evaluator=evaluator, sampler=Random(), seed=seed, baselines=(),
        budget=Budget(trials=2), **{"finalists": Finalists(top=0), **more},  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.mark.parametrize(
    "parts",
    [
        lambda of: (of[0], {}),
        lambda of: (of[1], {}),
        lambda of: (Retrain(RECIPE), {"ranking_check": RankingCheck(of[1], count=1)}),
    ],
)
def test_a_search_by_seen_images_does_not_begin(parts, weights: Path) -> None:
    for seed in (0, 1):
        evaluator, more = parts(both(weights))
        if seed == 0:
            prepare(experiment(seed, evaluator, **more))
            continue
        with pytest.raises(UserError, match="of its validation images were trained on"):
            prepare(experiment(seed, evaluator, **more))


@pytest.mark.parametrize("field", ["evaluator", "inherited"])
def test_finalists_that_begin_with_seen_test_images_are_refused_before_the_search(
    field: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Arrays, "final_view", None)  # no test image is looked at
    for name, seen, good in (
        ("train", DATA.search_view(1).train, True),
        ("valid, too", TRAIN, True),
        ("test, too", Images(np.concatenate([TRAIN.pixels, TEST.pixels]), TEST.labels), False),
    ):
        tuned = FineTune(RECIPE, weights=weights_of(tmp_path / name, seen))
        wanted = experiment(1, Retrain(RECIPE), finalists=Finalists(1, 1, **{field: tuned}))  # type: ignore[arg-type]
        if good:
            prepare(wanted)
        else:
            with pytest.raises(UserError, match="40 of their 240 are not among its 200"):
                prepare(wanted)


# -- machines that do not see the driver's folder --------------------------------------------------


class Store:
    """Ray's, as far as an evaluator sees it."""

    @staticmethod
    def get(kept: object) -> object:
        return kept


@pytest.mark.parametrize("place", [0, 1])
def test_a_worker_needs_no_file(
    place: int, weights: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What travels is pickled; then the folder is gone."""
    monkeypatch.setattr(actor_worker, "ray", Store)
    view, arch = DATA.search_view(0), SPACE.extremes()[1]
    evaluator = both(weights)[place]
    here = fresh(evaluator)
    here.setup(SPACE, view)
    expected = list(here.evaluate(arch, Job(0, 0, 1, workdir=tmp_path / "here")))
    version = evaluator.weights_version() or ""
    shared = SharedContext(SPACE, here, view, dict(evaluator.assets()), version)
    sent = pickle.dumps(shared)
    for file in weights.parent.iterdir():
        file.unlink()
    weights.parent.rmdir()
    received = pickle.loads(sent)
    assert received.assets[ARRAY].shape == (160,)
    worker = ready_evaluator(received)
    found = list(worker.evaluate(arch, Job(0, 0, 1, workdir=tmp_path / "there")))
    assert [m.values for m in found] == [m.values for m in expected]


def test_a_worker_refuses_seen_images_as_well(weights: Path, monkeypatch) -> None:
    monkeypatch.setattr(actor_worker, "ray", Store)
    for evaluator in both(weights):
        shared = SharedContext(SPACE, evaluator, DATA.search_view(1), dict(evaluator.assets()), "v")
        with pytest.raises(UserError, match="of its validation images were trained on"):
            next(iter(ready_evaluator(shared).evaluate(SPACE.extremes()[0], Job(0, 0, 1))))


def test_a_tune_worker_is_given_its_assets(weights: Path, monkeypatch) -> None:
    """Trainings go through Tune, whose workers looked for the driver's file."""
    from raynas.runners.ray import tune_worker

    monkeypatch.setattr(actor_worker, "ray", Store)
    monkeypatch.setattr(tune_worker.TrialActor, "_begin", lambda *_: None)
    monkeypatch.setattr(
        tune_worker.ray,
        "get_runtime_context",
        lambda: type("C", (), {"get_node_id": lambda _: "n"})(),
    )
    tuned = both(weights)[1]
    shared = SharedContext(SPACE, tuned, DATA.search_view(0), dict(tuned.assets()), "v")
    (weights.parent / FILE).unlink()
    actor = object.__new__(tune_worker.TrialActor)
    actor.setup({}, shared)
    assert actor._evaluator.initial_network(SPACE.extremes()[0], 0) is not None


def test_lost_assets_and_no_file_are_told_in_one_line(weights: Path, monkeypatch) -> None:
    import ray

    class Lost:
        exceptions = ray.exceptions

        @staticmethod
        def get(_kept: object) -> object:
            raise ray.exceptions.ObjectLostError("0" * 56, None, "")

    monkeypatch.setattr(actor_worker, "ray", Lost)
    tuned = both(weights)[1]
    (weights.parent / FILE).unlink()
    shared = SharedContext(SPACE, tuned, DATA.search_view(0), {"a": np.zeros(1)}, "v1")
    with pytest.raises(RaynasError, match="weights v1 are lost"):
        ready_evaluator(shared)


def test_the_remark_on_older_weights_is_shown_when_a_run_begins(tmp_path: Path) -> None:
    view = Digits(subset=100).search_view(0)
    for name, seen in (("older", None), ("newer", view.train)):
        folder = tmp_path / name
        supernet = SPACE.supernet(view.input_shape, view.num_classes)
        file = save_weights(folder, supernet, epoch=1, identity={}, images=seen).path
        (folder / "toy.py").write_text(_FILE.format(weights=str(file)))
        shown = io.StringIO()
        launch.start(
            load(folder / "toy.py"), folder / "run", lambda *_: LocalRunner(), overrides={},
            smoke=False, console=Console(file=shown, width=200),
        )  # fmt: skip
        assert ("do not say which images" in shown.getvalue()) == (name == "older")


_FILE = """
from pathlib import Path
from tiny_supernet import Tiny
from raynas.data import Digits
from raynas.evaluators import Inherited
from raynas.experiment import Budget, Experiment, Finalists
from raynas.samplers import Random

def experiment():
    return Experiment(
        space=Tiny(), data=Digits(subset=100), sampler=Random(), baselines=(), budget=Budget(2),
        evaluator=Inherited(calibration=16, weights=Path({weights!r})), finalists=Finalists(top=0),
    )
"""
