from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_supernet import OPERATIONS, Tiny, tiny_view
from torch import Tensor, nn

from raynas.core import Measurement, TrainingDiverged, UserError
from raynas.spaces.supernet import Supernet
from raynas.supernet import training
from raynas.supernet.rules import (
    OpenOptions,
    Phase,
    Rule,
    Sandwich,
    SinglePath,
    StrictFairness,
    SubnetPass,
)
from raynas.supernet.training import AveragedSupernet, Look, step_used, train_supernet
from raynas.training import Recipe
from raynas.training.loop import make_optimizer

RECIPE = Recipe(epochs=4, batch_size=16, lr=0.1, crop_pad=1, flip=False, grad_clip=5.0)
LOOK = Look(random=1, images=40, calibration=32)


def make(seed: int = 0, space: Tiny | None = None) -> Supernet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return (space or Tiny()).supernet((1, 8, 8), 4)


def steps(supernet: Supernet, recipe: Recipe = RECIPE, **more: Any) -> Iterator[Measurement]:
    given = {"rule": SinglePath(), "seed": 3, "look": LOOK, "checkpoint_seconds": 0.0, **more}
    return train_supernet(supernet, tiny_view(), recipe, given.pop("rule"), **given)


def run(supernet: Supernet, recipe: Recipe = RECIPE, **more: Any) -> list[Measurement]:
    return list(steps(supernet, recipe, **more))


def state(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def values(rows: list[Measurement]) -> list[dict[str, float]]:
    return [dict(row.values) for row in rows]


@dataclass(frozen=True)
class Always(Rule):
    """One subnet, the same in every step."""

    text: str = "4-1-a-b"

    def passes(self, reach: OpenOptions, rng: np.random.Generator) -> list[SubnetPass]:
        return [SubnetPass(reach.space.architecture(self.text))]


@pytest.mark.parametrize(
    "rule", [SinglePath(), StrictFairness(), Sandwich()], ids=lambda rule: type(rule).__name__
)
def test_it_learns_and_measures_every_epoch(rule: Rule) -> None:
    rows = run(make(), replace(RECIPE, epochs=8), rule=rule)
    assert [row.step for row in rows] == list(range(1, 9))
    names = ["train_loss", "train_accuracy"]
    names += [f"{kind}_accuracy" for kind in ("smallest", "largest", "random")]
    assert all(set(row.values) == set(names) for row in rows)
    assert rows[-1].values["largest_accuracy"] > 70  # chance is 25
    assert rows[-1].values["train_loss"] < rows[0].values["train_loss"]


def test_unused_weights_do_not_move_at_all() -> None:
    """With momentum and decay on, and moved before: other channels, rims and operations rest."""
    supernet = make()
    run(supernet, rule=SinglePath())
    arch = supernet.space.architecture("4-1-a-b")
    before = state(supernet)
    run(supernet, rule=Always(arch.text))
    active, moved = supernet.active(arch), state(supernet)
    for name, _ in supernet.named_parameters():
        part = torch.zeros_like(before[name], dtype=torch.bool)
        if name in active:
            part[active[name]] = True
        still = before[name] == moved[name]
        assert still[~part].all(), name
        assert not still[part].all() or not part.any(), name
    assert 0 < len(active) < len(list(supernet.parameters()))


def test_ordinary_steps_would_move_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: a slice without gradient is decayed by torch's own step."""
    monkeypatch.setattr(training, "step_used", lambda optimizer: optimizer.step())
    with pytest.raises(AssertionError):
        test_unused_weights_do_not_move_at_all()


def test_momentum_of_an_unused_weight_waits() -> None:
    weight = nn.Parameter(torch.tensor([1.0, 1.0]))
    layer = nn.Module()
    layer.weight = weight
    optimizer = make_optimizer(layer, Recipe(epochs=1, lr=0.5, weight_decay=0.1, nesterov=False))
    other = nn.Parameter(torch.tensor([1.0]))
    alone = torch.optim.SGD([other], lr=0.5, momentum=0.9, weight_decay=0.1)
    for gradient in ([2.0, 0.0], [0.0, 0.0], [1.0, 0.0], [0.0, 3.0]):
        weight.grad = torch.tensor(gradient)
        held = weight.detach().clone()
        step_used(optimizer)
        assert torch.equal(weight == held, weight.grad == 0)
    for gradient in (2.0, 1.0):  # as if the steps without it had not been
        other.grad = torch.tensor([gradient])
        alone.step()
    assert weight[0].item() == other.item()
    assert weight[1].item() == pytest.approx(1.0 - 0.5 * (3.0 + 0.1))


def test_strict_fairness_gives_each_operation_one_update_a_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Counted where it happens: at the gradients that reach each operation, and at the steps."""
    supernet, seen, stepped = make(), Counter[str](), Counter[str]()
    operations = {
        name: weight
        for name, weight in supernet.named_parameters()
        if ".modules_of." in name and name.endswith("weight")
    }
    assert len(operations) == 2 * len(OPERATIONS)
    for name, weight in operations.items():
        weight.register_hook(lambda _, name=name: seen.update([name]))

    def count(optimizer: torch.optim.Optimizer) -> None:
        before = {name: weight.detach().clone() for name, weight in operations.items()}
        step_used(optimizer)
        stepped.update(n for n, w in operations.items() if not torch.equal(w, before[n]))
        assert set(seen.values()) == {1}
        seen.clear()

    monkeypatch.setattr(training, "step_used", count)
    run(supernet, replace(RECIPE, epochs=2), rule=StrictFairness())
    assert set(stepped.values()) == {8}  # 64 images in batches of 16, two epochs


def test_the_sandwich_learns_from_the_largest_ones_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    supernet, asked = make(space=Tiny(norms=False)), []
    real = supernet.forward
    largest = supernet.space.extremes()[1]
    # the largest one is sure of class 1, whatever the labels say: the others learn that
    sure = torch.tensor([0.0, 50.0, 0.0, 0.0])

    def answer(images: Tensor, arch: Any) -> Tensor:
        asked.append(arch)
        logits: Tensor = real(images, arch)
        return logits * 0 + sure if arch == largest else logits

    monkeypatch.setattr(supernet, "forward", answer)
    monkeypatch.setattr(training, "accuracies", lambda *_: {})
    recipe = replace(RECIPE, epochs=8, label_smoothing=0.1)
    run(supernet, recipe, rule=Sandwich(random=1))
    assert len(asked) == 8 * 4 * 3
    assert asked[::3] == [largest] * 32
    assert asked[2::3] == [supernet.space.extremes()[0]] * 32
    images = torch.randn(20, 1, 8, 8)
    with torch.no_grad():
        answers = real(images, supernet.space.extremes()[0]).softmax(1)
    assert answers[:, 1].min() > 0.8


def test_only_the_first_pass_drops_out(monkeypatch: pytest.MonkeyPatch) -> None:
    supernet, modes = make(space=Tiny(dropout=0.2)), []
    dropout = next(m for m in supernet.modules() if isinstance(m, nn.Dropout))
    norm = next(m for m in supernet.modules() if type(m).__name__ == "ElasticBatchNorm2d")
    supernet.register_forward_pre_hook(lambda *_: modes.append((dropout.training, norm.training)))
    monkeypatch.setattr(training, "accuracies", lambda *_: {})
    run(supernet, replace(RECIPE, epochs=1), rule=Sandwich(random=1))
    assert modes == 4 * [(True, True), (False, True), (False, True)]
    assert dropout.training


def test_the_sandwich_decays_neither_norms_nor_biases(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {}
    real = training.make_optimizer

    def spy(network: nn.Module, recipe: Recipe) -> torch.optim.SGD:
        found[rule] = [g["weight_decay"] for g in real(network, recipe).param_groups]
        return real(network, recipe)

    monkeypatch.setattr(training, "make_optimizer", spy)
    for rule in (Sandwich(), SinglePath()):
        run(make(), replace(RECIPE, epochs=1), rule=rule)
    assert found == {Sandwich(): [5e-4, 0.0], SinglePath(): [5e-4, 5e-4]}


def test_phases_keep_small_kernels_shut() -> None:
    supernet, taken = make(), set()
    supernet.register_forward_pre_hook(lambda _, given: taken.add(given[1]["s1_kernel"]))
    training_steps = steps(supernet, phases=(Phase(3, "kernel"),), look=LOOK)
    open_after = []
    for _ in training_steps:
        open_after.append(sorted(taken))
        taken.clear()
    assert open_after == [[3], [3], [1, 3], [1, 3]]
    with pytest.raises(UserError, match="no such choice"):
        run(supernet, phases=(Phase(1, "length"),))


def test_channels_are_sorted_before_widths_open(monkeypatch: pytest.MonkeyPatch) -> None:
    supernet, sorted_at, momenta = make(), [], []
    real = supernet.sort_channels
    monkeypatch.setattr(supernet, "sort_channels", lambda: (sorted_at.append(epoch), real()))

    def spy(given: torch.optim.Optimizer) -> None:
        momenta.append(len(given.state))
        step_used(given)

    monkeypatch.setattr(training, "step_used", spy)
    epoch = 1
    for row in steps(supernet, average=3, phases=(Phase(3, "width", sort=True),)):
        epoch = row.step + 1
    assert sorted_at == [3]
    assert [count == 0 for count in momenta] == [step in (0, 8) for step in range(16)]
    whole = AveragedSupernet(supernet, averages=True)
    whole.take()
    whole.begin_anew()
    assert whole.served is supernet


@pytest.mark.parametrize(("cut", "rule"), [(1, Sandwich()), (2, SinglePath()), (3, Sandwich())])
def test_in_one_go_and_in_pieces_ends_in_identical_weights(
    tmp_path: Path, cut: int, rule: Rule
) -> None:
    """Weights, momentum and the mean of the last three epochs, whose sum the cut goes through."""
    phases = (Phase(2, "kernel"), Phase(3, "width", sort=True))
    more = {"rule": rule, "average": 3, "phases": phases}
    whole, second = make(space=Tiny(dropout=0.1)), make(9, space=Tiny(dropout=0.1))
    rows = run(whole, workdir=tmp_path / "whole", **more)
    torch.manual_seed(1)  # the process's own random state must not matter
    pieces = steps(make(space=Tiny(dropout=0.1)), workdir=tmp_path / "cut", **more)
    head = [next(pieces) for _ in range(cut + 1)]
    pieces.close()  # type: ignore[attr-defined]
    torch.manual_seed(2)
    tail = run(second, workdir=tmp_path / "cut", **more)
    assert [row.step for row in tail] == list(range(cut + 1, 5))
    assert values(head[:cut] + tail) == values(rows)
    assert same(state(whole), state(second))
    for file in ("checkpoint-000004", "weights"):
        contents = [
            sorted(p.read_bytes() for p in (tmp_path / f / file).glob("*.safetensors"))
            for f in ("whole", "cut")
        ]
        assert contents[0] == contents[1] != []


def test_a_killed_process_is_gone_on_from(tmp_path: Path) -> None:
    script = Path(__file__).with_name("killed_training.py")
    child = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "cut")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    for line in child.stdout:
        if line.startswith("2"):  # the second epoch is measured, the third is under way
            time.sleep(0.02)
            os.kill(child.pid, signal.SIGKILL)
            break
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    whole, again = make(), make(9)
    rows = run(whole, workdir=tmp_path / "whole", average=3)
    tail = run(again, workdir=tmp_path / "cut", average=3)
    assert 1 < tail[0].step <= 4
    assert values(tail) == values(rows[tail[0].step - 1 :])
    assert same(state(whole), state(again))


def test_the_mean_is_that_of_the_last_epochs(tmp_path: Path) -> None:
    alone = make()
    after = [state(alone) for _ in steps(alone)]
    averaged = make()
    rows = run(averaged, average=3, workdir=tmp_path)
    differ = 0
    assert same(state(averaged), after[-1])  # the training goes on from its own weights
    (file,) = (tmp_path / "weights").glob("*.safetensors")
    kept = load_file(file)
    for name, weight in averaged.named_parameters():
        by_hand = sum(epoch[name].double() for epoch in after[1:]) / 3
        assert torch.allclose(kept[name].double(), by_hand, rtol=1e-5, atol=1e-6), name
        differ += not torch.equal(kept[name], weight)
    assert differ > 8
    assert rows[0].values == run(make())[0].values  # before the mean begins


def test_the_last_measurement_is_that_of_the_weights_kept(tmp_path: Path) -> None:
    from raynas.supernet.weights import load_weights
    from raynas.training.augment import on_device

    rows = run(make(), average=2, workdir=tmp_path)
    fresh = make(5)
    load_weights(tmp_path / "weights", fresh)
    data = on_device(tiny_view(), torch.device("cpu"))
    shown = LOOK.subnets(OpenOptions.of(fresh.space), seed=3)
    found = training.accuracies(fresh, shown, data, RECIPE, LOOK, seed=3)
    assert {k: v for k, v in rows[-1].values.items() if k in found} == found


def test_a_finished_training_writes_missing_weights_again(tmp_path: Path) -> None:
    import shutil

    rows = run(make(), workdir=tmp_path)
    (file,) = (tmp_path / "weights").glob("*.safetensors")
    before = file.read_bytes()
    shutil.rmtree(tmp_path / "weights")
    again = run(make(7), workdir=tmp_path)
    assert values(again) == values(rows[-1:])
    assert file.read_bytes() == before


def test_divergence_is_reported_and_leaves_no_weights(tmp_path: Path) -> None:
    recipe = replace(RECIPE, lr=1e20, grad_clip=None)
    with pytest.raises(
        TrainingDiverged, match=r"diverged in epoch \d of 4: train_loss is (nan|inf)"
    ):
        run(make(space=Tiny(norms=False)), recipe, workdir=tmp_path)
    assert not (tmp_path / "weights").exists()


def test_gradient_clip_bounds_the_step() -> None:
    supernet, before = make(), make()
    recipe = replace(RECIPE, epochs=1, batch_size=64, lr=1.0, weight_decay=0.0, grad_clip=1e-3)
    run(supernet, recipe, rule=Sandwich())
    moved = sum(
        float((a - b).detach().square().sum())
        for a, b in zip(supernet.parameters(), before.parameters(), strict=True)
    )
    assert 0 < math.sqrt(moved) <= 1.01 * 1.9e-3  # one Nesterov step: (1 + 0.9) x the clip


def test_checkpoints_of_another_training_are_refused(tmp_path: Path) -> None:
    run(make(), workdir=tmp_path, max_epoch=1)
    with pytest.raises(UserError, match="other average, rule"):
        run(make(), workdir=tmp_path, average=2, rule=Sandwich())
    with pytest.raises(UserError, match="expected: 1 to 4"):
        run(make(), max_epoch=5)


def test_measuring_subnets_leaves_the_supernet_alone() -> None:
    from raynas.training.augment import on_device

    supernet = make()
    before = state(supernet)
    data, shown = (
        on_device(tiny_view(), torch.device("cpu")),
        LOOK.subnets(OpenOptions.of(Tiny()), 1),
    )
    training.accuracies(supernet, shown, data, RECIPE, LOOK, 1)
    assert same(before, state(supernet))


def test_without_a_mean_the_supernet_itself_is_served() -> None:
    supernet = make()
    whole = AveragedSupernet(supernet, averages=True)
    assert whole.served is supernet
    whole.take()
    assert whole.served is not supernet
