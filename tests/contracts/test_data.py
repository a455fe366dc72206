"""The suite that every data set passes. A new one is one line in ``SETS``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit" / "data"))
import fake_sets as fake

from raynas.data import (
    CIFAR10,
    CIFAR100,
    DATASETS,
    IDX,
    Arrays,
    Digits,
    FashionMNIST,
    ImageNet16,
    ImageSet,
    stand_in,
)
from raynas.testing.data import DatasetTestCase

REAL = FashionMNIST.source.find()

SETS: dict[str, Callable[[Path], ImageSet]] = {
    "digits": lambda _: Digits(),
    "idx": lambda folder: IDX(fake.write_idx(folder)),
    "idx plain": lambda folder: IDX(fake.write_idx(folder, zipped=False)),
    "idx without test": lambda folder: IDX(
        fake.write_idx(folder), test_images=None, test_labels=None
    ),
    "fashion-mnist": lambda folder: FashionMNIST(fake.write_idx(folder), verify=False),
    "fashion-mnist, real": lambda _: FashionMNIST(REAL and REAL.place),
    "cifar10 batches": lambda folder: CIFAR10(fake.write_cifar10(folder), verify=False),
    "cifar10 parquet": lambda folder: CIFAR10(fake.write_parquet(folder), verify=False),
    "cifar100 batches": lambda folder: CIFAR100(
        fake.write_cifar100(folder), verify=False, valid_share=0.25
    ),
    "imagenet16": lambda folder: ImageNet16(
        fake.write_imagenet16(folder), classes=20, verify=False
    ),
    "stand-in": lambda _: stand_in(ImageNet16(classes=4)),
    "arrays": lambda _: Arrays(*fake.images(100, 9, 3), *fake.images(30, 9, 3, seed=4)),
    "arrays without test": lambda _: Arrays(*fake.images(100, 9, 2)),
}


class TestDatasets(DatasetTestCase):
    @pytest.fixture(scope="class", params=SETS)
    @classmethod
    def dataset(
        cls, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
    ) -> ImageSet:
        if "real" in request.param and REAL is None:
            pytest.skip(f"no Fashion-MNIST: {FashionMNIST.source.command('DIR')}, RAYNAS_DATA=DIR")
        folder = tmp_path_factory.mktemp("set")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RAYNAS_CACHE", str(folder / "cache"))
            made = SETS[request.param](folder / "data")
            made.load("train")
            made.load("test")
        return made

    def test_every_set_is_registered_and_tried(self, dataset: ImageSet) -> None:
        assert DATASETS[dataset.name] is type(dataset)


def test_every_registered_set_is_tried_here() -> None:
    assert set(DATASETS) <= {name.split(",")[0].split(" ")[0] for name in SETS}


def test_every_set_says_what_it_is() -> None:
    for kind in DATASETS.values():
        assert kind.__doc__
        assert "(" not in kind.__doc__[: len(kind.__name__) + 1]  # not dataclass's own
