"""What can be known of space, data and settings is told before anything is made or spent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from commands import experiment_file, raynas
from toys import Curves, ToyData, ToySpace

from raynas.core import Architecture, Choice, Job, Measurement, UserError
from raynas.data import Arrays, DataView, Images
from raynas.data.base import Dataset
from raynas.evaluators import Inherited, Retrain, TrainSupernet
from raynas.experiment import Experiment, Finalists
from raynas.pipeline.checks import prepare, remarks_on_batches
from raynas.samplers import BOHB, CMAES, Exhaustive, Listed, Random
from raynas.schedulers import ASHA
from raynas.training import Recipe

pytestmark = pytest.mark.usefixtures("undrawn")


def experiment(**parts: Any) -> Experiment:
    usual = {"space": ToySpace(), "data": ToyData(), "evaluator": Curves(), "sampler": Random()}
    return Experiment(**{**usual, "baselines": (), **parts})


def refused(**parts: Any) -> str:
    with pytest.raises(UserError) as raised:
        prepare(experiment(**parts))
    assert "\n" not in str(raised.value)
    return str(raised.value)


# -- spaces ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Commas(ToySpace):
    @property
    def choices(self) -> tuple[Choice, ...]:
        return (*super().choices, Choice("kernel", ("3,3", "5,5")))


@dataclass(frozen=True)
class Twins(ToySpace):
    @property
    def choices(self) -> tuple[Choice, ...]:
        return (*super().choices, Choice("norm", (None, "None")))


def test_options_that_are_not_read_back_are_told_before_the_search() -> None:
    assert "'3,3' of choice 'kernel' would not be read back" in refused(space=Commas())
    assert "two options of choice 'norm' have one text" in refused(space=Twins())


def test_nothing_is_made_for_such_a_space(tmp_path: Path) -> None:
    head = (
        "from raynas.core import Choice\n"
        "class Commas(ToySpace):\n"
        "    @property\n"
        "    def choices(self):\n"
        "        return (*super().choices, Choice('kernel', ('3,3', '5,5')))\n"
    )
    file = experiment_file(tmp_path / "toy.py", head, space="Commas()")
    found = raynas("run", file, "--local", "--output", tmp_path / "run")
    assert found.code == 2
    assert "'3,3' of choice 'kernel'" in " ".join(found.err.split())
    assert not (tmp_path / "run").exists()


# -- data --------------------------------------------------------------------------------------


def images(count: int, side: int = 4, classes: int = 3) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, side, side), dtype=np.uint8)
    return pixels, np.arange(count) % classes


def test_test_images_of_another_shape_or_class_are_told_before_the_search() -> None:
    train = images(60)
    other_shape = Arrays(*train, *images(20, side=5))
    assert "test images are (5, 5, 1), training images (4, 4, 1)" in refused(data=other_shape)
    higher = Arrays(*train, *images(20, classes=4))
    assert "largest test label is 3 with 3 classes" in refused(data=higher)
    for data in (other_shape, higher):  # nobody will look at them
        prepare(experiment(data=data, finalists=Finalists(top=0)))


@dataclass(frozen=True)
class Own(Dataset):
    """A user's own: views of any kind."""

    name: ClassVar[str] = "own"
    side: int = 4
    labels: int = 2
    classes: int = 2

    def view(self, name: Any, side: int, labels: int, classes: int) -> DataView:
        train = Images(np.zeros((8, 4, 4, 1), np.uint8), np.arange(8) % 2)
        held_out = Images(np.zeros((8, side, side, 1), np.uint8), np.arange(8) % labels)
        return DataView(train, held_out, name, classes, (0.0,), (255.0,))

    def search_view(self, seed: int) -> DataView:
        return self.view("val", 4, 2, 2)

    def final_view(self, seed: int) -> DataView:
        return self.view("test", self.side, self.labels, self.classes)


def test_a_data_set_of_any_kind_is_looked_at_whole() -> None:
    prepare(experiment(data=Own()))
    assert "own: test images for finalists are (5, 5, 1)" in refused(data=Own(side=5))
    assert "have labels up to 3, and the search knows 2 classes" in refused(data=Own(labels=4))
    assert "finalists have 3 classes, the search 2" in refused(data=Own(classes=3))


def test_a_search_is_not_given_the_test_images_that_were_looked_at() -> None:
    train, test = images(60), images(20)
    payload = prepare(experiment(data=Arrays(*train, *test)))
    shown = {image.tobytes() for part in (payload.view.train, payload.view.held_out)
             for image in part.pixels}  # fmt: skip
    assert shown == {image.tobytes() for image in train[0]}
    assert payload.view.held_out_name == "val"


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([1, 2, 3] * 20, "the 3 different labels 1, 2, 3 leave gaps between 0 and 3"),
        ([0, 1_000_000] * 30, "the 2 different labels 0, 1000000 leave gaps between 0 and 1000000"),
        ([0, 2] * 30, "num_classes=3 says that there are classes without images"),
    ],
)
def test_labels_that_leave_gaps_are_refused_with_the_cure(labels: list[int], words: str) -> None:
    message = refused(data=Arrays(images(60)[0], np.array(labels)))
    assert words in message
    assert "np.unique(labels, return_inverse=True)[1]" in message


def test_gaps_are_classes_where_the_data_say_so() -> None:
    data = Arrays(images(60)[0], np.array([1, 2, 3] * 20), num_classes=5)
    assert prepare(experiment(data=data)).view.num_classes == 5


def test_a_rare_class_counts_though_all_its_images_are_test_images() -> None:
    pixels, _ = images(50)
    for rare in range(50):  # wherever it lies, it is now in this part, now in that one
        labels = np.zeros(50, np.int64)
        labels[::2], labels[rare] = 1, 2
        data = Arrays(pixels, labels, test_share=0.8)
        assert data.search_view(0).num_classes == 3
        assert data.final_view(0).num_classes == 3


# -- samplers, schedulers, evaluators ----------------------------------------------------------


def test_samplers_and_schedulers_that_cannot_work_are_told_before_anything_is_trained() -> None:
    assert "no architecture" in refused(sampler=Listed())
    assert "unknown option for 'op'" in refused(baselines=(Listed(("x=1,y=1,op=d",)),))
    assert "ordered" in refused(baselines=(CMAES(),))
    assert "min_step = 5, and an evaluation has 4 steps" in refused(scheduler=ASHA(min_step=5))
    prepare(experiment(sampler=Exhaustive(), baselines=(BOHB(),), scheduler=ASHA(min_step=4)))


def test_looking_leaves_samplers_and_schedulers_as_they_are() -> None:
    given = experiment(sampler=BOHB(), scheduler=ASHA())
    prepare(given)
    assert not {"_space", "_rungs"} & (vars(given.sampler).keys() | vars(given.scheduler).keys())


@dataclass
class OnlyValidation(Curves):
    """Cannot serve finalists, and says so."""

    def check(self, arch: Architecture) -> None:
        assert self._view is not None
        if self._view.held_out_name == "test":
            raise UserError("no test values here")

    def evaluate(self, arch: Architecture, job: Job) -> Iterator[Measurement]:
        raise AssertionError("nothing is evaluated")


def test_what_trains_finalists_is_asked_before_the_search() -> None:
    assert refused(evaluator=OnlyValidation()) == "no test values here"
    given = Finalists(evaluator=OnlyValidation())
    assert refused(finalists=given) == "no test values here"
    prepare(experiment(evaluator=OnlyValidation(), finalists=Finalists(top=0)))


def test_batches_of_more_images_than_there_are_are_told() -> None:
    """Not refused: whole batches are a way to train, and runs that began so go on."""
    large = experiment(evaluator=Retrain(Recipe(epochs=1, batch_size=64)))
    assert remarks_on_batches(large, 64) == []
    (remark,) = remarks_on_batches(large, 63)
    assert "retrain: recipe.batch_size=64 is more than the 63 training images" in remark
    inherited = experiment(evaluator=Inherited(TrainSupernet(Recipe(batch_size=64))))
    assert "train_supernet: recipe" in remarks_on_batches(inherited, 9)[0]
    final = Finalists(evaluator=Retrain(Recipe(batch_size=128)))
    assert "128" in remarks_on_batches(experiment(finalists=final), 100)[0]


def test_more_calibration_images_than_there_are_is_told_before_the_supernet_is_trained() -> None:
    inherited = Inherited()
    view = replace(ToyData().search_view(0))
    inherited.setup(ToySpace(), view)
    with pytest.raises(
        UserError, match=r"calibration=2000; expected: up to the number of training images, 8"
    ):
        inherited.check(ToySpace().extremes()[1])
