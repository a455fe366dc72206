from __future__ import annotations

from pathlib import Path

import fake_sets as fake
import numpy as np
import pytest

from raynas.core import UserError
from raynas.data import ImageNet16


def test_keeps_the_first_classes_and_counts_from_zero(tmp_path: Path) -> None:
    folder = fake.write_imagenet16(tmp_path, classes=20)
    view = ImageNet16(folder, classes=5, verify=False).final_view(0)
    assert view.num_classes == 5
    assert np.bincount(view.train.labels).tolist() == [20] * 5  # 10 files, 2 a class in each
    pixels, labels = fake.images(40, 16, 3, 20, seed=10)
    assert np.array_equal(view.held_out.pixels, pixels[labels < 5])
    assert np.array_equal(view.held_out.labels, labels[labels < 5])


def test_other_classes_from_the_same_files(tmp_path: Path) -> None:
    fake.write_imagenet16(tmp_path)
    five, ten = (ImageNet16(tmp_path, classes=n, verify=False).load("test") for n in (5, 10))
    assert (five.labels.max(), ten.labels.max()) == (4, 9)


def test_wrong_checksum(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="train_data_batch_1 has MD5"):
        ImageNet16(fake.write_imagenet16(tmp_path)).search_view(0)


@pytest.mark.parametrize("name", ["train_data_batch_10", "val_data"])
def test_missing_file(tmp_path: Path, name: str) -> None:
    (fake.write_imagenet16(tmp_path) / "ImageNet16" / name).unlink()
    with pytest.raises(UserError, match=f"{name} is missing"):
        ImageNet16(tmp_path, verify=False).search_view(0)


def test_nothing_found(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="ImageNet16 not found"):
        ImageNet16(tmp_path).search_view(0)


@pytest.mark.parametrize("classes", [1, 1001])
def test_bad_number_of_classes(classes: int) -> None:
    with pytest.raises(UserError, match="2 to 1000"):
        ImageNet16(classes=classes)


def test_files_without_the_classes(tmp_path: Path) -> None:
    folder = fake.write_imagenet16(tmp_path)
    for path in (folder / "ImageNet16").iterdir():
        fake.write_batch(path, fake.images(4, 16, 3)[0], {"labels": [900, 901, 902, 903]})
    with pytest.raises(UserError, match="no image has a label of 1 to 120"):
        ImageNet16(folder, verify=False).search_view(0)
