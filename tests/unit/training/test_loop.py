from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from raynas.core import Measurement, TrainingDiverged, UserError
from raynas.data.base import DataView
from raynas.training import Recipe, loop, train
from raynas.training.loop import batch_starts, make_optimizer

RECIPE = Recipe(
    epochs=5, batch_size=16, lr=0.05, crop_pad=1, cutout=2, label_smoothing=0.1, grad_clip=5.0
)


def run(
    network: nn.Module, view: DataView, recipe: Recipe = RECIPE, **more: Any
) -> list[Measurement]:
    return list(train(network, view, recipe, **{"seed": 3, **more}))


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    x, y = a.state_dict(), b.state_dict()
    return x.keys() == y.keys() and all(torch.equal(x[k], y[k]) for k in x)


def values(rows: list[Measurement]) -> list[dict[str, float]]:
    return [dict(row.values) for row in rows]


def test_it_learns_and_measures_every_epoch(view: DataView, network: nn.Module) -> None:
    rows = run(network, view, replace(RECIPE, epochs=12, flip=False, cutout=0))
    assert [row.step for row in rows] == list(range(1, 13))
    assert all(
        row.values.keys() == {"train_loss", "train_accuracy", "val_loss", "val_accuracy"}
        for row in rows
    )
    assert rows[-1].values["val_accuracy"] > 80  # chance is 25
    assert rows[-1].values["val_loss"] < rows[0].values["val_loss"]
    assert all(row.seconds > 0 for row in rows)


def test_measurements_are_what_the_network_gives(view: DataView, network: nn.Module) -> None:
    last = run(network, view)[-1]
    pixels = torch.tensor(view.held_out.pixels).permute(0, 3, 1, 2).float()
    labels = torch.tensor(view.held_out.labels)
    with torch.no_grad():
        logits = network.eval()((pixels - 80) / 50)
    assert last.values["val_loss"] == pytest.approx(
        nn.functional.cross_entropy(logits, labels).item(), rel=1e-4
    )
    accuracy = 100 * (logits.argmax(1) == labels).float().mean().item()
    assert last.values["val_accuracy"] == pytest.approx(accuracy)


@pytest.mark.parametrize("cut", [1, 3, 4])
def test_in_one_go_and_in_pieces_ends_in_identical_weights(
    view: DataView, network_of: Callable[..., nn.Module], tmp_path: Path, cut: int
) -> None:
    whole, first, second = network_of(), network_of(), network_of(seed=99)
    rows = run(whole, view, workdir=tmp_path / "whole")

    torch.manual_seed(1)  # the process's own random state must not matter
    pieces = train(first, view, RECIPE, seed=3, workdir=tmp_path / "cut", checkpoint_seconds=0)
    head = [next(pieces) for _ in range(cut + 1)]
    pieces.close()  # type: ignore[attr-defined]
    torch.manual_seed(2)
    tail = run(second, view, workdir=tmp_path / "cut", checkpoint_seconds=0)

    # the epoch that was measured last had no checkpoint yet: it is trained again
    assert [row.step for row in tail] == list(range(cut + 1, 6))
    assert values(head[:cut] + tail) == values(rows)
    assert same_weights(whole, second)
    files = [tmp_path / f / "checkpoint-000005" / "weights.safetensors" for f in ("whole", "cut")]
    contents = [file.read_bytes() for file in files]
    assert b"momentum.0.weight" in contents[0]
    assert contents[0] == contents[1]  # momentum, too


def test_without_momentum_the_pieces_would_differ(
    view: DataView, network_of: Callable[..., nn.Module], tmp_path: Path
) -> None:
    """The test above can fail: the same weights without their momentum go another way."""
    network = network_of()
    steps = train(network, view, RECIPE, seed=3, workdir=tmp_path, checkpoint_seconds=0)
    for _ in range(3):
        next(steps)
    steps.close()  # type: ignore[attr-defined]
    from safetensors.torch import load_file, save

    from raynas.training import checkpoint

    path = tmp_path / "checkpoint-000002"
    kept = load_file(path / "weights.safetensors")
    bare = save({k: v for k, v in kept.items() if not k.startswith("momentum.")})
    (path / "weights.safetensors").write_bytes(bare)
    state = json.loads((path / "state.json").read_text())
    state["digest"] = checkpoint._digest(bare)
    (path / "state.json").write_text(json.dumps(state))
    whole, resumed = network_of(), network_of()
    run(whole, view)
    assert [row.step for row in run(resumed, view, workdir=tmp_path)] == [3, 4, 5]
    assert not same_weights(whole, resumed)


def test_seeds_differ_and_repeat(view: DataView, network_of: Callable[..., nn.Module]) -> None:
    a, b, c = network_of(), network_of(), network_of()
    assert values(run(a, view)) == values(run(b, view))
    run(c, view, seed=4)
    assert same_weights(a, b)
    assert not same_weights(a, c)


def test_the_process_is_left_as_it_was(view: DataView, network: nn.Module) -> None:
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    for _ in train(network, view, RECIPE, seed=3, threads=1, max_epoch=2):
        assert torch.get_num_threads() == threads
        assert torch.equal(torch.get_rng_state(), state)
    assert network.training is False


def test_shared_read_only_arrays_stay_as_they_are(view: DataView, network: nn.Module) -> None:
    copies = [a.copy() for s in (view.train, view.held_out) for a in (s.pixels, s.labels)]
    run(network, view)
    now = [a for s in (view.train, view.held_out) for a in (s.pixels, s.labels)]
    assert not any(a.flags.writeable for a in now)
    assert all(np.array_equal(a, b) for a, b in zip(now, copies, strict=True))


def test_checkpoints_come_by_time_and_at_the_end(
    view: DataView, network_of: Callable[..., nn.Module], tmp_path: Path
) -> None:
    steps = train(network_of(), view, RECIPE, seed=3, workdir=tmp_path, checkpoint_seconds=1e9)
    for row in steps:
        assert (list(tmp_path.glob("checkpoint-*")) != []) == (row.step == 5)
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-000005"]


def test_where_it_may_be_laid_aside_nothing_is_trained_twice(
    view: DataView, network_of: Callable[..., nn.Module], tmp_path: Path
) -> None:
    settings = {"seed": 3, "workdir": tmp_path, "checkpoint_seconds": 1e9, "pauses": (1, 2)}
    steps = train(network_of(), view, RECIPE, **settings)
    first = next(steps)
    steps.close()
    rest = list(train(network_of(), view, RECIPE, **settings))
    assert [row.step for row in rest] == list(range(1, RECIPE.epochs + 1))
    assert rest[0] == first  # with the seconds that it took then: read, not trained
    whole = list(train(network_of(), view, RECIPE, seed=3))
    assert [row.values for row in rest] == [row.values for row in whole]


def test_a_finished_training_repeats_its_last_measurement(
    view: DataView, network_of: Callable[..., nn.Module], tmp_path: Path
) -> None:
    """It may have been lost on its way; the reader knows by the step if it was not."""
    rows = run(network_of(), view, workdir=tmp_path)
    again = network_of(seed=99)
    assert run(again, view, workdir=tmp_path) == rows[-1:]


def test_a_shorter_training_is_the_beginning_of_the_longer_and_goes_on(
    view: DataView, network_of: Callable[..., nn.Module], tmp_path: Path
) -> None:
    rows = run(network_of(), view)
    assert values(run(network_of(), view, workdir=tmp_path, max_epoch=2)) == values(rows[:2])
    assert values(run(network_of(), view, workdir=tmp_path)) == values(rows[2:])


def test_test_images_are_measured_at_the_last_epoch_alone(
    view_of: Callable[..., DataView], network: nn.Module
) -> None:
    rows = run(network, view_of("test"), measure_every=0)
    assert [set(row.values) for row in rows[:-1]] == [{"train_loss", "train_accuracy"}] * 4
    assert {"test_loss", "test_accuracy"} < set(rows[-1].values)


def test_divergence_names_the_epoch(view: DataView, network: nn.Module) -> None:
    recipe = replace(RECIPE, lr=1e30, grad_clip=None)
    with pytest.raises(TrainingDiverged, match=r"epoch 1 of 5: .*loss is (nan|inf)"):
        run(network, view, recipe)


def test_divergence_leaves_the_checkpoint_before_it(
    view: DataView, network: nn.Module, tmp_path: Path
) -> None:
    steps = train(network, view, RECIPE, seed=3, workdir=tmp_path, checkpoint_seconds=0)
    next(steps), next(steps)  # epoch 1 is saved
    with torch.no_grad():
        network[0].weight.fill_(math.nan)  # type: ignore[index]
    with pytest.raises(TrainingDiverged, match="epoch 3"):
        next(steps)
    assert sorted(p.name for p in tmp_path.iterdir())[0] == "checkpoint-000001"


@pytest.mark.parametrize("epoch", [0, 6])
def test_an_epoch_beyond_the_recipe_is_refused(
    view: DataView, network: nn.Module, epoch: int
) -> None:
    with pytest.raises(UserError, match="expected: 1 to 5"):
        run(network, view, max_epoch=epoch)


def test_a_checkpoint_of_another_training_is_refused(
    view: DataView, network_of: Callable[..., nn.Module], tmp_path: Path
) -> None:
    run(network_of(), view, workdir=tmp_path, label="a", max_epoch=1)
    with pytest.raises(UserError, match="other label, seed"):
        run(network_of(), view, workdir=tmp_path, label="b", seed=5)


def test_a_last_batch_of_one_is_left_out() -> None:
    assert list(batch_starts(97, 16)) == [0, 16, 32, 48, 64, 80]
    assert list(batch_starts(98, 16))[-1] == 96
    assert list(batch_starts(96, 16))[-1] == 80
    assert list(batch_starts(1, 16)) == [0]


def test_norms_are_decayed_only_when_asked(network: nn.Module) -> None:
    for decay in (True, False):
        groups = make_optimizer(network, replace(RECIPE, decay_norms=decay)).param_groups
        assert [g["weight_decay"] for g in groups] == [5e-4, 5e-4 if decay else 0.0]
        assert all(p.ndim > 1 for p in groups[0]["params"])
        assert all(p.ndim <= 1 for p in groups[1]["params"])


def test_gradient_clip_bounds_the_step(
    view: DataView, network_of: Callable[..., nn.Module]
) -> None:
    network, before = network_of(), network_of()
    recipe = replace(RECIPE, epochs=1, batch_size=97, lr=1.0, weight_decay=0.0, grad_clip=1e-3)
    run(network, view, recipe)
    moved = sum(
        float((a - b).detach().square().sum())
        for a, b in zip(network.parameters(), before.parameters(), strict=True)
    )
    assert 0 < math.sqrt(moved) <= 1.01 * 1.9e-3  # one Nesterov step: (1 + 0.9) x the clip


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_in_bfloat16_and_resumed(
    view: DataView, network_of: Callable[..., nn.Module], tmp_path: Path
) -> None:
    recipe = replace(RECIPE, epochs=12, flip=False, cutout=0)
    run(network_of(), view, recipe, device="cuda", workdir=tmp_path, max_epoch=6)
    rows = run(network_of(seed=9), view, recipe, device="cuda", workdir=tmp_path)
    assert rows[0].step == 7
    assert rows[-1].values["val_accuracy"] > 80


def test_a_busy_machine_makes_an_epoch_no_dearer(
    view: DataView, network: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Searches are compared at equal seconds: waiting must not count."""
    real = loop.train_epoch

    def slow(*arguments: Any) -> dict[str, Any]:
        time.sleep(0.5)
        return real(*arguments)

    monkeypatch.setattr(loop, "train_epoch", slow)
    rows = run(network, view)
    assert 0 < sum(row.seconds for row in rows) < 0.5 * len(rows)
