"""The contract suite of data sets of images.

Example: a test file for a data set of your own.

.. code-block:: python

    from dataclasses import dataclass
    from typing import ClassVar

    import numpy as np
    import pytest

    from raynas.data import Images, ImageSet
    from raynas.testing.data import DatasetTestCase


    @dataclass(frozen=True)
    class Noise(ImageSet):
        name: ClassVar[str] = "noise"
        count: int = 100

        def load(self, part):
            rng = np.random.default_rng(len(part))
            pixels = rng.integers(0, 256, (self.count, 6, 6, 1), dtype=np.uint8)
            return Images(pixels, np.arange(self.count, dtype=np.int64) % 4)


    class TestNoise(DatasetTestCase):
        @pytest.fixture
        def dataset(self):
            return Noise()
"""

from __future__ import annotations

import dataclasses
import gc
import json
import pickle
from collections import Counter
from typing import Any

import numpy as np
import pytest

from raynas.core.describe import describe
from raynas.data import DataView, Images, ImageSet


class DatasetTestCase:
    """What every :class:`~raynas.data.ImageSet` does. A subclass defines the fixture ``dataset``.

    The set needs 40 training images, 20 test images and images that differ from each other.
    """

    @pytest.fixture
    def dataset(self) -> ImageSet:
        """Return the data set to test."""
        raise NotImplementedError("define the fixture `dataset` in your subclass")

    @pytest.fixture(autouse=True)
    def no_cache(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Switch the cache of decoded images off."""
        monkeypatch.setenv("RAYNAS_CACHE", "off")

    @pytest.mark.parametrize("kind", ["search", "final"])
    def test_views_are_well_formed(self, dataset: ImageSet, kind: str) -> None:
        """Views are well formed."""
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

    def test_train_and_valid_are_all_training_images_once(self, dataset: ImageSet) -> None:
        """Train and valid are all training images once."""
        search, final = dataset.search_view(3), dataset.final_view(3)
        assert _counted(search.train, search.held_out) == _counted(final.train)
        assert len(search.held_out) == round(dataset.valid_share * len(final.train))

    def test_valid_holds_every_class_in_its_share(self, dataset: ImageSet) -> None:
        """Valid holds every class in its share."""
        search, final = dataset.search_view(3), dataset.final_view(3)
        classes = search.num_classes
        valid = np.bincount(search.held_out.labels, minlength=classes)
        fair = np.bincount(final.train.labels, minlength=classes) * (
            len(search.held_out) / len(final.train)
        )
        assert np.all(np.abs(valid - fair) < 1)

    def test_views_depend_on_the_seed_only(self, dataset: ImageSet) -> None:
        """Views depend on the seed only."""
        assert _equal(dataset.search_view(1), dataset.search_view(1))
        assert not _equal(dataset.search_view(1), dataset.search_view(2))
        assert _equal(dataset.final_view(1), dataset.final_view(2))

    def test_a_search_cannot_reach_a_test_image(self, dataset: ImageSet) -> None:
        """A search cannot reach a test image."""
        search = dataset.search_view(0)
        final = dataset.final_view(0)
        arrays = _reachable_arrays(search)
        own: list[np.ndarray[Any, Any]] = [
            search.train.pixels,
            search.train.labels,
            search.held_out.pixels,
            search.held_out.labels,
        ]
        assert {id(a) for a in own} <= {id(a) for a in arrays}
        for array in arrays:  # each is one of the view's own, or the very same memory
            assert any(array.nbytes == a.nbytes and np.shares_memory(array, a) for a in own)
        for array in own:
            assert not np.shares_memory(array, final.held_out.pixels)
            assert not np.shares_memory(array, final.train.pixels)

    def test_no_test_image_is_among_those_of_a_search(self, dataset: ImageSet) -> None:
        """No test image is among those of a search."""
        search, final = dataset.search_view(0), dataset.final_view(0)
        both = _counted(search.train, search.held_out) & _counted(final.held_out)
        everything = _counted(dataset.load("train"), dataset.load("test"))
        assert all(everything[image] > 1 for image in both)  # only where the set itself repeats one

    def test_a_search_asks_for_training_images_only(
        self, dataset: ImageSet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A search asks for training images only."""
        asked, load = [], type(dataset).load

        def spy(self: ImageSet, part: Any) -> Images:
            asked.append(part)
            return load(self, part)

        monkeypatch.setattr(type(dataset), "load", spy)
        dataset.search_view(0)
        assert asked == ["train"]

    def test_subsets_are_fair_and_fixed(self, dataset: ImageSet) -> None:
        """Subsets are fair and fixed."""
        small = dataclasses.replace(dataset, subset=40, test_subset=20)
        search, final = small.search_view(0), small.final_view(5)
        assert len(search.train) + len(search.held_out) == len(final.train) == 40
        assert len(final.held_out) == 20
        assert _counted(search.train, search.held_out) == _counted(final.train)
        assert not _counted(final.train) - _counted(dataset.load("train"))
        assert search.num_classes == dataset.search_view(0).num_classes
        whole = np.bincount(dataset.load("train").labels)
        taken = np.bincount(final.train.labels, minlength=len(whole))
        assert np.all(np.abs(taken - whole * (40 / whole.sum())) < 1)

    def test_views_and_sets_travel_to_workers(self, dataset: ImageSet) -> None:
        """Views and sets travel to workers."""
        view = dataset.search_view(0)
        buffers: list[pickle.PickleBuffer] = []
        content = pickle.dumps(view, protocol=5, buffer_callback=buffers.append)
        assert len(content) < 4096  # the images travel beside, without a copy
        assert _equal(view, pickle.loads(content, buffers=buffers))
        there = pickle.loads(pickle.dumps(dataset))
        assert _equal(there.search_view(0), view)

    def test_description_is_data(self, dataset: ImageSet) -> None:
        """Description is data."""
        description = json.loads(json.dumps(describe(dataset)))
        assert description["class"] == type(dataset).__name__
        other = dataclasses.replace(dataset, valid_share=0.33)
        assert describe(other) != describe(dataset)


def _counted(*parts: Images) -> Counter[tuple[bytes, int]]:
    """How often each (image, label) is there."""
    return Counter(
        (pixels.tobytes(), int(label))
        for images in parts
        for pixels, label in zip(images.pixels, images.labels, strict=True)
    )


def _equal(one: DataView, two: DataView) -> bool:
    return all(
        np.array_equal(getattr(a, name), getattr(b, name))
        for a, b in ((one.train, two.train), (one.held_out, two.held_out))
        for name in ("pixels", "labels")
    )


def _reachable_arrays(root: object) -> list[np.ndarray[Any, Any]]:
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
