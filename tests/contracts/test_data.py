"""What every data set must do. A new one is one line in ``SETS``."""

from __future__ import annotations

import dataclasses
import gc
import json
import pickle
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit" / "data"))
import fake_sets as fake

from raynas.core.describe import describe
from raynas.data import (
    CIFAR10,
    CIFAR100,
    DATASETS,
    IDX,
    Arrays,
    DataView,
    Digits,
    FashionMNIST,
    ImageNet16,
    Images,
    ImageSet,
    stand_in,
)

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


@pytest.fixture(scope="module", params=SETS)
def dataset(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    if "real" in request.param and REAL is None:
        pytest.skip(f"no Fashion-MNIST: {FashionMNIST.source.command('DIR')}, RAYNAS_DATA=DIR")
    folder = tmp_path_factory.mktemp("set")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYNAS_CACHE", str(folder / "cache"))
        made = SETS[request.param](folder / "data")
        made.load("train")
        made.load("test")
    return made


@pytest.fixture(autouse=True)
def no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYNAS_CACHE", "off")


def counted(*parts: Images) -> Counter[tuple[bytes, int]]:
    """How often each (image, label) is there."""
    return Counter(
        (pixels.tobytes(), int(label))
        for images in parts
        for pixels, label in zip(images.pixels, images.labels, strict=True)
    )


def equal(one: DataView, two: DataView) -> bool:
    return all(
        np.array_equal(getattr(a, name), getattr(b, name))
        for a, b in ((one.train, two.train), (one.held_out, two.held_out))
        for name in ("pixels", "labels")
    )


def reachable_arrays(root: object) -> list[np.ndarray[Any, Any]]:
    """Every array that one can get at from ``root``, bases of arrays too."""
    arrays, seen, open_objects = [], set(), [root]
    while open_objects:
        item = open_objects.pop()
        if id(item) in seen or isinstance(item, type):
            continue
        seen.add(id(item))
        if isinstance(item, np.ndarray):
            arrays.append(item)
            open_objects.append(item.base)
        open_objects.extend(gc.get_referents(item))
    return arrays


@pytest.mark.parametrize("kind", ["search", "final"])
def test_views_are_well_formed(dataset: ImageSet, kind: str) -> None:
    view = dataset.search_view(0) if kind == "search" else dataset.final_view(0)
    assert view.held_out_name == {"search": "val", "final": "test"}[kind]
    channels, height, width = view.input_shape
    assert len(view.mean) == len(view.std) == channels
    assert all(0 <= m <= 255 for m in view.mean)
    assert all(0 < s <= 255 for s in view.std)
    for images in (view.train, view.held_out):
        assert images.pixels.dtype == np.uint8
        assert images.labels.dtype == np.int64
        assert images.pixels.shape == (len(images), height, width, channels)
        assert images.pixels.flags.c_contiguous
        assert not images.pixels.flags.writeable
        assert not images.labels.flags.writeable
        assert images.labels.min() >= 0
        assert images.labels.max() < view.num_classes


def test_train_and_valid_are_all_training_images_once(dataset: ImageSet) -> None:
    search, final = dataset.search_view(3), dataset.final_view(3)
    assert counted(search.train, search.held_out) == counted(final.train)
    assert len(search.held_out) == round(dataset.valid_share * len(final.train))


def test_valid_holds_every_class_in_its_share(dataset: ImageSet) -> None:
    search, final = dataset.search_view(3), dataset.final_view(3)
    classes = search.num_classes
    valid = np.bincount(search.held_out.labels, minlength=classes)
    fair = np.bincount(final.train.labels, minlength=classes) * (
        len(search.held_out) / len(final.train)
    )
    assert np.all(np.abs(valid - fair) < 1)


def test_views_depend_on_the_seed_only(dataset: ImageSet) -> None:
    assert equal(dataset.search_view(1), dataset.search_view(1))
    assert not equal(dataset.search_view(1), dataset.search_view(2))
    assert equal(dataset.final_view(1), dataset.final_view(2))


def test_a_search_cannot_reach_a_test_image(dataset: ImageSet) -> None:
    search = dataset.search_view(0)
    final = dataset.final_view(0)
    arrays = reachable_arrays(search)
    own = [search.train.pixels, search.train.labels, search.held_out.pixels, search.held_out.labels]
    assert {id(a) for a in own} <= {id(a) for a in arrays}
    for array in arrays:  # each is one of the view's own, or the very same memory
        assert any(array.nbytes == a.nbytes and np.shares_memory(array, a) for a in own)
    for array in own:
        assert not np.shares_memory(array, final.held_out.pixels)
        assert not np.shares_memory(array, final.train.pixels)


def test_no_test_image_is_among_those_of_a_search(dataset: ImageSet) -> None:
    search, final = dataset.search_view(0), dataset.final_view(0)
    both = counted(search.train, search.held_out) & counted(final.held_out)
    everything = counted(dataset.load("train"), dataset.load("test"))
    assert all(everything[image] > 1 for image in both)  # only where the set itself repeats one


def test_a_search_asks_for_training_images_only(
    dataset: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, load = [], type(dataset).load

    def spy(self: ImageSet, part: Any) -> Images:
        asked.append(part)
        return load(self, part)

    monkeypatch.setattr(type(dataset), "load", spy)
    dataset.search_view(0)
    assert asked == ["train"]


def test_subsets_are_fair_and_fixed(dataset: ImageSet) -> None:
    small = dataclasses.replace(dataset, subset=40, test_subset=20)
    search, final = small.search_view(0), small.final_view(5)
    assert len(search.train) + len(search.held_out) == len(final.train) == 40
    assert len(final.held_out) == 20
    assert counted(search.train, search.held_out) == counted(final.train)
    assert not counted(final.train) - counted(dataset.load("train"))
    assert search.num_classes == dataset.search_view(0).num_classes
    whole = np.bincount(dataset.load("train").labels)
    taken = np.bincount(final.train.labels, minlength=len(whole))
    assert np.all(np.abs(taken - whole * (40 / whole.sum())) < 1)


def test_views_and_sets_travel_to_workers(dataset: ImageSet) -> None:
    view = dataset.search_view(0)
    buffers: list[pickle.PickleBuffer] = []
    content = pickle.dumps(view, protocol=5, buffer_callback=buffers.append)
    assert len(content) < 4096  # the images travel beside, without a copy
    assert equal(view, pickle.loads(content, buffers=buffers))
    there = pickle.loads(pickle.dumps(dataset))
    assert equal(there.search_view(0), view)


def test_description_is_data(dataset: ImageSet) -> None:
    description = json.loads(json.dumps(describe(dataset)))
    assert description["class"] == type(dataset).__name__
    other = dataclasses.replace(dataset, valid_share=0.33)
    assert describe(other) != describe(dataset)


def test_every_set_is_registered_and_tried(dataset: ImageSet) -> None:
    assert DATASETS[dataset.name] is type(dataset)


def test_every_registered_set_is_tried_here() -> None:
    assert set(DATASETS) <= {name.split(",")[0].split(" ")[0] for name in SETS}


def test_every_set_says_what_it_is() -> None:
    for kind in DATASETS.values():
        assert kind.__doc__
        assert "(" not in kind.__doc__[: len(kind.__name__) + 1]  # not dataclass's own
