from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from raynas.core import Measurement, UserError
from raynas.training import Recipe, load_network, save_network
from raynas.training.checkpoint import TrainingProgress, load_checkpoint, save_checkpoint
from raynas.training.loop import make_optimizer

IDENTITY = {"label": "a", "seed": 1, "recipe": {"lr": 0.1}}


class Tied(nn.Module):
    """Two layers with one weight, and an integer buffer without dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
        self.second.weight = self.first.weight
        self.norm = nn.BatchNorm1d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.second(self.first(x)))


def stepped(network: nn.Module, steps: int = 2) -> torch.optim.SGD:
    optimizer = make_optimizer(network, Recipe(epochs=1))
    for _ in range(steps):
        optimizer.zero_grad()
        network(torch.randn(4, 3)).square().sum().backward()
        optimizer.step()
    return optimizer


def progress(epoch: int) -> TrainingProgress:
    return TrainingProgress(epoch, IDENTITY, (Measurement(epoch, {"val_loss": 0.5 * epoch}, 1.5),))


def save(folder: Path, epoch: int, network: nn.Module) -> Path:
    return save_checkpoint(folder, progress(epoch), network, stepped(network))


def test_weights_momentum_and_state_come_back(tmp_path: Path) -> None:
    torch.manual_seed(1)  # with some weights all activations of a layer are 0
    network, again = Tied(), Tied()
    optimizer, fresh = stepped(network), make_optimizer(again, Recipe(epochs=1))
    path = save_checkpoint(tmp_path, progress(7), network, optimizer)
    assert load_checkpoint(tmp_path, IDENTITY, again, fresh) == progress(7)
    assert again.norm.num_batches_tracked == 2
    assert again.first.weight is again.second.weight
    for (name, a), b in zip(network.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b), name
        wanted = optimizer.state[a]["momentum_buffer"]
        assert torch.equal(wanted, fresh.state[b]["momentum_buffer"]), name
        assert wanted.abs().sum() > 0
    state = json.loads((path / "state.json").read_text())
    assert (state["epoch"], state["identity"]) == (7, IDENTITY)
    (entry,) = state["history"]
    assert entry == {"step": 7, "values": {"val_loss": 3.5}, "seconds": 1.5, "note": ""}


def test_nothing_there_is_none(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "none", IDENTITY, Tied()) is None


def test_the_last_two_stay(tmp_path: Path) -> None:
    (tmp_path / ".checkpoint-000002-1").mkdir()  # left by a killed writer
    for epoch in (1, 2, 10):
        save(tmp_path, epoch, Tied())
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == ["checkpoint-000002", "checkpoint-000010"]


def cut_weights(path: Path) -> None:
    content = (path / "weights.safetensors").read_bytes()
    (path / "weights.safetensors").write_bytes(content[: len(content) // 2])


def zero_weights(path: Path) -> None:
    """What some file systems leave of a file after a power cut."""
    size = (path / "weights.safetensors").stat().st_size
    (path / "weights.safetensors").write_bytes(b"\0" * size)


def flip_a_bit(path: Path) -> None:
    content = bytearray((path / "weights.safetensors").read_bytes())
    content[-1] ^= 1
    (path / "weights.safetensors").write_bytes(content)


def cut_state(path: Path) -> None:
    text = (path / "state.json").read_text()
    (path / "state.json").write_text(text[: len(text) // 2])


def remove_state(path: Path) -> None:
    (path / "state.json").unlink()


def other_json(path: Path) -> None:
    (path / "state.json").write_text("[]")


DAMAGES = [cut_weights, zero_weights, flip_a_bit, cut_state, remove_state, other_json]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_torn_checkpoint_is_ignored_for_the_one_before(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    good, bad, again = Tied(), Tied(), Tied()
    save(tmp_path, 1, good)
    damage(save(tmp_path, 2, bad))
    assert load_checkpoint(tmp_path, IDENTITY, again) == progress(1)
    assert torch.equal(good.first.weight, again.first.weight)
    save_checkpoint(tmp_path, progress(2), good, stepped(good), keep=1)  # takes its place
    assert load_checkpoint(tmp_path, IDENTITY, again) == progress(2)
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-000002"]


def test_a_later_torn_checkpoint_does_not_push_out_a_whole_one(tmp_path: Path) -> None:
    cut_state(save(tmp_path, 9, Tied()))
    save_checkpoint(tmp_path, progress(3), Tied(), stepped(Tied()), keep=1)
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-000003"]


def test_a_full_disk_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 1, Tied())

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save(tmp_path, 2, Tied())
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-000001"]
    assert load_checkpoint(tmp_path, IDENTITY, Tied()) == progress(1)


def test_another_trainings_checkpoint_is_refused(tmp_path: Path) -> None:
    save(tmp_path, 1, Tied())
    assert load_checkpoint(tmp_path, {"label": "a"}, Tied()) == progress(1)
    with pytest.raises(UserError, match=r"another training \(other recipe, seed\)"):
        load_checkpoint(tmp_path, {"label": "a", "seed": 2, "recipe": {}}, Tied())


def test_a_network_as_one_file(tmp_path: Path) -> None:
    network, again = Tied(), Tied()
    stepped(network)
    path = tmp_path / "new" / "best.safetensors"
    save_network(path, network, {"arch": "a|b", "accuracy": "91.2"})
    assert load_network(path, again) == {"arch": "a|b", "accuracy": "91.2"}
    x = torch.randn(5, 3)
    assert torch.equal(network.eval()(x), again.eval()(x))
    assert [p.name for p in path.parent.iterdir()] == ["best.safetensors"]


def test_unusable_network_files_are_user_errors(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    with pytest.raises(UserError, match="weights not found"):
        load_network(path, Tied())
    save_network(path, Tied())
    with pytest.raises(UserError, match="another network"):
        load_network(path, nn.Linear(3, 3))
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(UserError, match="not a complete safetensors file"):
        load_network(path, Tied())
