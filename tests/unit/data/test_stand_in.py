"""Random images in the place of files that are not there: what holds of them, and who gets them."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from unit.data import fake_sets as fake

from raynas.core import UserError
from raynas.core.describe import describe, fingerprint
from raynas.data import (
    CIFAR10,
    CIFAR100,
    IDX,
    Arrays,
    DeclaredImages,
    Digits,
    FashionMNIST,
    ImageNet16,
    Images,
    ImageSet,
    Part,
    StandIn,
    available,
    stand_in,
)
from raynas.data.abilities import data_remarks, declared_images
from raynas.data.files import DataNotFound, not_found


@dataclass(frozen=True)
class Leaves(ImageSet):
    """Declares 40 + 12 images of 8 x 6, of which there is no file."""

    name = "leaves"
    folder: str | None = field(default=None, kw_only=True)

    @property
    def declared(self) -> DeclaredImages:
        return DeclaredImages("Leaves", (8, 6, 3), 4, 40, 12)

    def load(self, part: Part) -> Images:
        raise not_found("Leaves", [Path("/nowhere")], "collect some", self.folder)


@pytest.fixture(autouse=True)
def nothing_to_find(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYNAS_CACHE", "off")
    monkeypatch.delenv("RAYNAS_DATA", raising=False)


def test_views_have_the_declared_shape_and_the_counts_of_the_set() -> None:
    made = available(Leaves(valid_share=0.25))
    view = made.search_view(0)
    assert view.input_shape == (3, 8, 6)
    assert (view.num_classes, len(view.train), len(view.held_out)) == (4, 30, 10)
    final = made.final_view(0)
    assert (len(final.train), len(final.held_out), final.held_out_name) == (40, 12, "test")
    made.check_test_images(view, 0)
    small = available(Leaves(subset=20, test_subset=8))
    assert (len(small.search_view(0).train), len(small.final_view(0).held_out)) == (18, 8)
    assert np.bincount(final.train.labels).tolist() == [10] * 4


def test_images_differ_and_are_the_same_in_every_process() -> None:
    view = stand_in(Leaves()).final_view(0)
    every = [*view.train.pixels, *view.held_out.pixels]
    assert len({pixels.tobytes() for pixels in every}) == 52
    again = pickle.loads(pickle.dumps(stand_in(Leaves()))).final_view(0)
    assert np.array_equal(view.train.pixels, again.train.pixels)
    assert view.train.pixels.std() == pytest.approx(74, abs=5)  # all grey levels alike


def test_it_is_said_in_one_line_with_shape_and_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    made = available(Leaves())
    (line,) = made.remarks()
    assert line == (
        "Leaves: random images stand in (8 x 6 x 3, 4 classes, 40 training and 12 test images, as "
        "it declares): sizes, costs and times hold, accuracies and scores of images mean nothing. "
        "Leaves not found (looked in: /nowhere); collect some"
    )
    monkeypatch.setattr(Leaves, "load", lambda *_: Images(*fake.images(40, 8, 3, 4)))
    assert made.remarks()[0].endswith("Its files are here now: what begins anew uses them")
    assert available(Leaves()) == Leaves()
    assert data_remarks(Leaves()) == ()


def test_it_is_another_data_set_in_every_fingerprint() -> None:
    assert fingerprint(describe(stand_in(Leaves()))) != fingerprint(describe(Leaves()))
    assert describe(stand_in(Leaves()))["of"]["class"] == "Leaves"
    more = stand_in(Leaves(subset=20))
    assert fingerprint(describe(more)) != fingerprint(describe(stand_in(Leaves())))


def test_a_folder_that_is_named_must_have_the_files(tmp_path: Path) -> None:
    for named in (
        Leaves(folder="/here"),
        CIFAR10(tmp_path),
        CIFAR100(tmp_path),
        FashionMNIST(tmp_path),
        ImageNet16(tmp_path),
    ):
        with pytest.raises(UserError, match="not found") as told:
            available(named)
        assert not isinstance(told.value, DataNotFound)


def test_damaged_and_incomplete_files_are_no_missing_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYNAS_DATA", str(fake.write_cifar10(tmp_path)))
    with pytest.raises(UserError, match="has MD5"):
        available(CIFAR10())
    (tmp_path / "cifar-10-batches-py" / "test_batch").unlink()
    with pytest.raises(UserError, match="is missing"):
        available(CIFAR10())
    kept = available(CIFAR100())
    assert isinstance(kept, StandIn)


def test_what_declares_nothing_has_no_stand_in(tmp_path: Path) -> None:
    own = Arrays(*fake.images(20))
    for dataset in (Digits(), own, IDX(tmp_path)):
        assert available(dataset) is dataset
        with pytest.raises(UserError, match="does not declare its images"):
            stand_in(dataset)


def test_shipped_sets_declare_what_their_files_have(tmp_path: Path) -> None:
    every: list[ImageSet] = [
        CIFAR10(fake.write_cifar10(tmp_path / "10"), verify=False),
        CIFAR100(fake.write_cifar100(tmp_path / "100"), verify=False),
        ImageNet16(fake.write_imagenet16(tmp_path / "16"), classes=20, verify=False),
    ]
    for dataset in every:
        view, declared = dataset.search_view(0), declared_images(dataset)
        assert declared is not None
        assert view.train.pixels.shape[1:] == declared.shape
        assert view.num_classes == declared.num_classes
    counts = {
        type(dataset).__name__: (d.shape, d.num_classes, d.train, d.test)
        for dataset in (CIFAR10(), CIFAR100(), FashionMNIST(), ImageNet16())
        if (d := declared_images(dataset))
    }
    assert counts == {
        "CIFAR10": ((32, 32, 3), 10, 50_000, 10_000),
        "CIFAR100": ((32, 32, 3), 100, 50_000, 10_000),
        "FashionMNIST": ((28, 28, 1), 10, 60_000, 10_000),
        "ImageNet16": ((16, 16, 3), 120, 151_700, 6_000),
    }
