"""Weights of a supernet on disk: whole, versioned, refused by name when they are anything else."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from raynas.core import TrainingDiverged, UserError
from raynas.spaces import ElasticResNet, NASBench201
from raynas.supernet.weights import FILE, SHEET, load_weights, save_weights

torch.set_num_threads(1)

SPACE = NASBench201(channels=3, cells=1)
SHAPE = (1, 6, 6)


def supernet(space=SPACE, shape=SHAPE, classes=4):
    return space.supernet(shape, classes)


@pytest.fixture
def saved(tmp_path):
    return save_weights(tmp_path, supernet(), epoch=7, identity={"recipe": ("a", 1), "seed": 3})


def refused(saved, other=None):
    """The one-line reason, which names the file; the supernet has stayed as it was."""
    other = other or supernet()
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    with pytest.raises(UserError) as error:
        load_weights(saved.path, other)
    assert str(saved.path) in str(error.value)
    assert "\n" not in str(error.value)
    assert all(torch.equal(other.state_dict()[name], t) for name, t in before.items())
    return str(error.value)


def test_weights_come_back_from_the_file_and_from_its_folder(tmp_path):
    source, target = supernet(), supernet()
    saved = save_weights(tmp_path, source, epoch=7, identity={"seed": 3})
    assert saved.path == tmp_path / FILE
    for path in (saved.path, tmp_path):
        assert load_weights(path, target) == saved
    for name, tensor in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], tensor)


def test_the_sheet_can_be_read_and_the_file_needs_it_not(saved):
    sheet = json.loads((saved.path.parent / SHEET).read_text())
    assert sheet["space"]["class"] == "NASBench201"
    assert (sheet["version"], sheet["epoch"]) == (saved.version, 7)
    assert sheet["identity"] == saved.identity == {"recipe": ["a", 1], "seed": 3}
    (saved.path.parent / SHEET).unlink()
    assert load_weights(saved.path, supernet()) == saved


def test_the_version_is_of_the_numbers_alone(tmp_path):
    source = supernet()
    first = save_weights(tmp_path / "a", source, epoch=1, identity={"seed": 1})
    second = save_weights(tmp_path / "b", source, epoch=2, identity={"seed": 2})
    assert first.version == second.version
    assert len(first.version) == 12
    source.body.classifier.bias.data[0] += 1e-6
    assert save_weights(tmp_path / "b", source, epoch=2, identity={}).version != first.version


@pytest.mark.parametrize("keep", [0, 4, 9, 400, -1])
def test_a_cut_file_is_refused(saved, keep):
    saved.path.write_bytes(saved.path.read_bytes()[:keep])
    assert "is not a complete safetensors file" in refused(saved)


@pytest.mark.parametrize("place", [-1, -2000])
def test_one_altered_bit_is_found(saved, place):
    content = bytearray(saved.path.read_bytes())
    content[place] ^= 1
    saved.path.write_bytes(content)
    assert f"was altered: its numbers do not match its version {saved.version}" in refused(saved)


def test_an_altered_head_is_refused(saved):
    content = saved.path.read_bytes()
    saved.path.write_bytes(content.replace(saved.version.encode(), b"0" * 12))
    assert "was altered" in refused(saved)
    saved.path.write_bytes(content.replace(b'\\"num_classes\\"', b'\\"num_glasses\\"'))
    assert "was altered" in refused(saved)


@pytest.mark.parametrize(
    ("text", "other", "reason"),
    [
        (b'\\"class\\"', b'\\"klass\\"', "of space None, not NASBench201"),
        (b'\\"space\\": {', b'\\"space\\":1,\\"\\":{', "was altered"),
    ],
)
def test_an_altered_description_is_refused(saved, text, other, reason):
    content = saved.path.read_bytes()
    assert text in content
    changed = content.replace(text, other)
    size = int.from_bytes(content[:8], "little") + len(changed) - len(content)
    saved.path.write_bytes(size.to_bytes(8, "little") + changed[8:])
    assert reason in refused(saved)


def test_foreign_files_are_refused(saved):
    save_file({"x": torch.ones(2)}, saved.path)
    assert "contains no supernet weights" in refused(saved)
    saved.path.write_text("these are no weights, but there are more than eight bytes")
    assert "is not a complete safetensors file" in refused(saved)
    saved.path.unlink()
    assert "supernet weights not found:" in refused(saved)


def test_a_file_of_another_format_is_refused(saved):
    content = saved.path.read_bytes()
    saved.path.write_bytes(content.replace(b'\\"format\\": 1', b'\\"format\\": 9'))
    assert "has format 9; expected: 1" in refused(saved)


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (lambda: supernet(replace(SPACE, channels=4)), "space.channels is 3 there, 4 here"),
        (lambda: supernet(classes=5), "num_classes is 4 there, 5 here"),
        (lambda: supernet(shape=(3, 6, 6)), "input_shape is [1, 6, 6] there, [3, 6, 6] here"),
        (lambda: supernet(ElasticResNet()), "of space NASBench201, not ElasticResNet"),
    ],
)
def test_weights_of_another_supernet_are_refused_with_the_difference(saved, other, reason):
    assert f"are of another supernet: {reason};" in refused(saved, other())


def test_tensors_that_do_not_fit_are_named(saved):
    other = supernet()
    other.body.classifier = torch.nn.Linear(3, 4)
    assert "body.classifier.weight is (4, 12) there, (4, 3) here" in refused(saved, other)


def test_weights_that_are_not_finite_are_neither_kept_nor_taken(saved, monkeypatch):
    broken = supernet()
    broken.body.classifier.weight.data[0, :2] = torch.nan
    broken.body.stem[1].running_var[0] = torch.inf
    with pytest.raises(TrainingDiverged, match=r"epoch 8: 2 of body\.class.*, 1 of body\.stem"):
        save_weights(saved.path.parent, broken, epoch=8, identity={})
    assert load_weights(saved.path, supernet()) == saved  # what was there is still there
    monkeypatch.setattr("raynas.supernet.weights._not_finite", lambda _: "")
    save_weights(saved.path.parent, broken, epoch=8, identity={})
    monkeypatch.undo()
    assert "are not all finite: 2 of body.classifier.weight, 1 of body.stem.1" in refused(saved)


def test_a_full_disk_leaves_the_older_weights(saved, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space left"):
            save_weights(saved.path.parent, supernet(), epoch=8, identity={})
    assert load_weights(saved.path, supernet()) == saved
    assert sorted(p.name for p in saved.path.parent.iterdir()) == [SHEET, FILE]
