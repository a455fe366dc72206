from __future__ import annotations

import gzip
from pathlib import Path

import fake_sets as fake
import numpy as np
import pytest

from raynas.core import UserError
from raynas.core.describe import describe
from raynas.data import IDX, FashionMNIST
from raynas.data.idx import FILES, read_idx, read_pair

CONTENT = fake.idx_bytes(np.arange(24).reshape(2, 3, 4))


@pytest.mark.parametrize("shape", [(24,), (2, 3, 4), (1, 2, 3, 4)])
@pytest.mark.parametrize("zipped", [True, False])
def test_reads_what_was_written(tmp_path: Path, shape: tuple[int, ...], zipped: bool) -> None:
    array = np.arange(24, dtype=np.uint8).reshape(shape)
    path = tmp_path / "x"
    content = fake.idx_bytes(array)
    path.write_bytes(gzip.compress(content, mtime=0) if zipped else content)
    assert np.array_equal(read_idx(path), array)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(CONTENT, mtime=0)[:-12], "cut short or damaged"),
        (gzip.compress(CONTENT, mtime=0)[:-6] + b"\0" * 6, "cut short or damaged"),
        (CONTENT[:-1], r"holds 23 bytes of data, its header says 2 x 3 x 4 = 24"),
        (CONTENT + b"\0", "holds 25 bytes"),
        (CONTENT[:9], "not an IDX file"),
        (b"", "not an IDX file: it begins with nothing"),
        (b"\x89PNG" + CONTENT[4:], "not an IDX file: it begins with 89 50 4e 47"),
        (CONTENT[:2] + b"\x0d" + CONTENT[3:], "IDX type 0x0d"),
    ],
)
def test_bad_file(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as info:
        read_idx(path)
    assert str(path) in str(info.value)
    assert "\n" not in str(info.value)


def test_folder_instead_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Is a directory"):
        read_idx(tmp_path)


def test_images_and_labels_of_different_length(tmp_path: Path) -> None:
    pixels, labels = fake.images(10)
    (tmp_path / "images").write_bytes(fake.idx_bytes(pixels[..., 0]))
    (tmp_path / "labels").write_bytes(fake.idx_bytes(labels[:9]))
    with pytest.raises(UserError, match="10 images but 9 labels"):
        read_pair(tmp_path / "images", tmp_path / "labels")


def test_images_in_the_place_of_labels(tmp_path: Path) -> None:
    (tmp_path / "images").write_bytes(CONTENT)
    with pytest.raises(UserError, match=r"labels have shape \(2, 3, 4\)"):
        read_pair(tmp_path / "images", tmp_path / "images")


def test_own_names_and_plain_files(tmp_path: Path) -> None:
    fake.write_idx(tmp_path, zipped=False)
    (tmp_path / "sub").mkdir()
    moved = (tmp_path / FILES[0]).rename(tmp_path / "sub" / "pictures")
    assert len(IDX(tmp_path, "sub/pictures").final_view(0).train) == 200
    assert len(IDX("elsewhere", moved, *(tmp_path / f for f in FILES[1:])).load("train")) == 200
    assert len(IDX(tmp_path, "sub/pictures", FILES[1] + ".gz").load("train")) == 200


def test_without_test_files(tmp_path: Path) -> None:
    fake.write_idx(tmp_path)
    idx = IDX(tmp_path, test_images=None, test_labels=None, test_share=0.1)
    view = idx.final_view(0)
    assert (len(view.train), len(view.held_out)) == (180, 20)


def test_half_a_test_set() -> None:
    with pytest.raises(UserError, match="go together"):
        IDX(test_images=None)


def test_missing_test_file_is_told_to_a_search(tmp_path: Path) -> None:
    fake.write_idx(tmp_path)
    (tmp_path / (FILES[3] + ".gz")).unlink()
    for dataset in (IDX(tmp_path), FashionMNIST(tmp_path, verify=False)):
        with pytest.raises(UserError, match=f"{FILES[3]} is missing"):
            dataset.search_view(0)


def test_changed_file_is_read_again(tmp_path: Path) -> None:
    fake.write_idx(tmp_path)
    assert len(IDX(tmp_path).load("train")) == 200
    fake.write_idx(tmp_path, train=100)
    assert len(IDX(tmp_path).load("train")) == 100


def test_fashion_mnist_names_both_cures(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="apt-get install dataset-fashion-mnist") as info:
        FashionMNIST(tmp_path).search_view(0)
    assert "folder=" in str(info.value)
    assert str(tmp_path) in str(info.value)
    assert "\n" not in str(info.value)


def test_fashion_mnist_checks_the_content(tmp_path: Path) -> None:
    fake.write_idx(tmp_path / "fashion-mnist")
    with pytest.raises(UserError, match="publisher gives f4a8712d7a061bf5bd6d2ca38dc4d50a"):
        FashionMNIST(tmp_path).search_view(0)
    assert len(FashionMNIST(tmp_path, verify=False).load("test")) == 50


def test_fashion_mnist_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.write_idx(tmp_path / "fashion-mnist")
    monkeypatch.setenv("RAYNAS_DATA", str(tmp_path))
    assert len(FashionMNIST(verify=False).load("train")) == 200


def test_moving_the_files_makes_no_other_experiment() -> None:
    assert describe(FashionMNIST("/a")) == describe(FashionMNIST("/b"))
    assert describe(FashionMNIST(subset=10)) != describe(FashionMNIST(subset=20))
