from __future__ import annotations

from pathlib import Path

import fake_sets as fake
import numpy as np
import pytest

from raynas.core import UserError
from raynas.data import CIFAR10, CIFAR100, cifar

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data" / "cifar10"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAYNAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("RAYNAS_DATA", raising=False)
    return tmp_path / "cache"


def test_batches_in_order(tmp_path: Path) -> None:
    dataset = CIFAR10(fake.write_cifar10(tmp_path), verify=False)
    train = dataset.load("train")
    expected = [fake.images(40, 32, 3, seed=seed) for seed in range(5)]
    assert np.array_equal(train.pixels, np.concatenate([pixels for pixels, _ in expected]))
    assert np.array_equal(train.labels, np.concatenate([labels for _, labels in expected]))
    assert np.array_equal(dataset.load("test").pixels, fake.images(40, 32, 3, seed=5)[0])


def test_hundred_has_fine_labels(tmp_path: Path) -> None:
    dataset = CIFAR100(fake.write_cifar100(tmp_path) / "cifar-100-python", verify=False)
    view = dataset.final_view(0)
    assert view.num_classes == 100
    assert np.array_equal(view.train.labels, fake.images(400, 32, 3, 100)[1])


@pytest.mark.parametrize("below", ["", "plain_text", "cifar10/plain_text"])
def test_parquet_in_order(tmp_path: Path, below: str) -> None:
    fake.write_parquet(tmp_path / below)
    train = CIFAR10(tmp_path, verify=False).load("train")
    first, second = (fake.images(100, 32, 3, seed=seed) for seed in (0, 1))
    assert np.array_equal(train.pixels, np.concatenate([first[0], second[0]]))
    assert np.array_equal(train.labels, np.concatenate([first[1], second[1]]))


def test_parquet_of_hundred(tmp_path: Path) -> None:
    fake.write_parquet(tmp_path / "cifar100", "fine_label", 100)
    assert np.array_equal(
        CIFAR100(tmp_path, verify=False).load("test").labels, fake.images(100, 32, 3, 100, 2)[1]
    )


def test_no_picture_is_decoded_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from raynas.data import files

    fake.write_parquet(tmp_path)
    decoded: list[int] = []
    decode = cifar._decode_block

    def counting(*arguments: object) -> None:
        decoded.append(1)
        decode(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(cifar, "_decode_block", counting)
    one = CIFAR10(tmp_path, verify=False).load("train")
    two = CIFAR10(tmp_path, verify=False, subset=50).load("train")
    assert len(decoded) == 2  # one block for each of the two files
    assert two.pixels is one.pixels
    files._memory.clear()  # as in another process
    assert np.array_equal(CIFAR10(tmp_path, verify=False).load("train").pixels, one.pixels)
    assert len(decoded) == 2


def test_wrong_checksum(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data_batch_1 has MD5 \w{32}, its publisher") as info:
        CIFAR10(fake.write_cifar10(tmp_path)).search_view(0)
    assert "c99cafc152244af753f735de768cd75f" in str(info.value)
    assert "verify=False" in str(info.value)
    assert "\n" not in str(info.value)


def test_wrong_checksum_of_the_test_file_is_told_to_a_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import hashlib

    folder = fake.write_cifar100(tmp_path) / "cifar-100-python"
    right = hashlib.md5((folder / "train").read_bytes()).hexdigest()
    monkeypatch.setattr(CIFAR100, "md5", {**CIFAR100.md5, "train": right})
    with pytest.raises(UserError, match="test has MD5"):
        CIFAR100(tmp_path).search_view(0)


def test_wrong_number_of_images(tmp_path: Path) -> None:
    fake.write_parquet(tmp_path)
    with pytest.raises(UserError, match=r"200 train images, CIFAR-10 has 50000"):
        CIFAR10(tmp_path).search_view(0)


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch"])
def test_missing_batch(tmp_path: Path, name: str) -> None:
    (fake.write_cifar10(tmp_path) / "cifar-10-batches-py" / name).unlink()
    with pytest.raises(UserError, match=f"{name} is missing"):
        CIFAR10(tmp_path).search_view(0)


@pytest.mark.parametrize("dataset", [CIFAR10, CIFAR100])
def test_nothing_found(tmp_path: Path, dataset: type[CIFAR10]) -> None:
    with pytest.raises(UserError, match=r"CIFAR-100? not found .*RAYNAS_DATA") as info:
        dataset(tmp_path).search_view(0)
    assert str(tmp_path) in str(info.value)
    assert f"`raynas data get {dataset.name} --folder {tmp_path}` fetches it" in str(info.value)
    with pytest.raises(UserError, match=f"`raynas data get {dataset.name}` fetches it") as info:
        dataset().search_view(0)
    assert str(tmp_path / "cache" / "data") in str(info.value)


def test_batch_of_another_set(tmp_path: Path) -> None:
    pixels, labels = fake.images(5, 32, 3)
    fake.write_batch(tmp_path / "batch", pixels, {"fine_labels": labels.tolist()})
    with pytest.raises(UserError, match="has no 'labels'"):
        cifar.read_batches([tmp_path / "batch"], "labels")
    with pytest.raises(UserError, match=r"data has shape \(5, 3072\)"):
        cifar.read_batches([tmp_path / "batch"], "fine_labels", side=16)


def test_batch_with_a_label_too_few(tmp_path: Path) -> None:
    pixels, labels = fake.images(5, 32, 3)
    fake.write_batch(tmp_path / "batch", pixels, {"labels": labels[:4].tolist()})
    with pytest.raises(UserError, match="5 images but 4 labels"):
        cifar.read_batches([tmp_path / "batch"], "labels")


PICTURES = [fake.png(p) for p in fake.images(4, 32, 3)[0]]


@pytest.mark.parametrize(
    "bad", [PICTURES[0][:200], b"", b"text", fake.png(fake.images(1, 16, 3)[0][0])]
)
def test_picture_that_cannot_be_decoded(tmp_path: Path, bad: bytes) -> None:
    path = tmp_path / "x.parquet"
    fake.write_parquet_file(path, [*PICTURES[:2], bad, PICTURES[3]], np.arange(4), "label")
    with pytest.raises(UserError, match="picture in row 2 cannot be decoded") as info:
        cifar.read_parquet([path], "label")
    assert "\n" not in str(info.value)


def test_grey_pictures_get_three_channels(tmp_path: Path) -> None:
    grey = fake.images(2, 32)[0][..., 0]
    fake.write_parquet_file(tmp_path / "x", [fake.png(g) for g in grey], np.arange(2), "label")
    pixels = cifar.read_parquet([tmp_path / "x"], "label").pixels
    assert np.array_equal(pixels, np.repeat(grey[..., None], 3, axis=3))


def test_parquet_without_the_column(tmp_path: Path) -> None:
    path = fake.write_parquet(tmp_path) / "test-0.parquet"
    with pytest.raises(UserError, match="no column 'fine_label'"):
        cifar.read_parquet([path], "fine_label")


@pytest.mark.parametrize("keep", [0, 100, -100])
def test_parquet_cut_short(tmp_path: Path, keep: int) -> None:
    path = fake.write_parquet(tmp_path) / "test-0.parquet"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match="damaged or not a Parquet file") as info:
        cifar.read_parquet([path], "label")
    assert "\n" not in str(info.value)


@pytest.mark.skipif(not SHARED.is_dir(), reason="no ../shared/data/cifar10")
def test_the_real_test_split() -> None:
    test = CIFAR10(SHARED).load("test")
    assert test.pixels.shape == (10_000, 32, 32, 3)
    assert test.labels[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]  # as published
    assert np.bincount(test.labels).tolist() == [1000] * 10
    assert np.allclose(test.pixels.mean(axis=(0, 1, 2)), CIFAR10.statistics[0], atol=1.5)
