from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_supernet import Tiny, tiny_view
from torch import Tensor, nn

from raynas.core import Architecture, Job, RaynasError
from raynas.evaluators.train_supernet import TrainSupernet
from raynas.supernet.parallel import ALONE, ProcessGroup, device_of, together
from raynas.supernet.rules import Sandwich
from raynas.supernet.weights import load_weights
from raynas.training import Recipe
from raynas.training.loop import batch_starts

RECIPE = Recipe(epochs=2, batch_size=16, lr=0.1, crop_pad=1, flip=False, grad_clip=5.0)
PLAIN = Tiny(norms=False)


def evaluator(processes: int, space: Tiny = PLAIN) -> TrainSupernet:
    given = TrainSupernet(
        RECIPE, rule=Sandwich(random=1), processes=processes, look_random=1, look_images=40,
        look_calibration=32, checkpoint_seconds=0.0,
    )  # fmt: skip
    given.setup(space, tiny_view(train=63))  # the last batch has 15 images: shares of 8 and 7
    return given


def arch() -> Architecture:
    return PLAIN.extremes()[1]


def weights(folder: Path) -> dict[str, Tensor]:
    supernet = PLAIN.supernet((1, 8, 8), 4)
    load_weights(folder / "weights", supernet)
    return dict(supernet.named_parameters())


def test_two_processes_take_the_steps_of_one(tmp_path: Path) -> None:
    """Without batch norm the mean gradient of two halves is that of the whole batch."""
    jobs = [Job(0, seed=5, max_step=2, workdir=tmp_path / name) for name in ("one", "two")]
    one = list(evaluator(1).evaluate(arch(), jobs[0]))
    two = evaluator(2).evaluate(arch(), jobs[1])
    rows = [next(two)]
    (other,) = torch.multiprocessing.active_children()
    rows += two
    assert not other.is_alive()
    assert not torch.distributed.is_initialized()
    for a, b in zip(one, rows, strict=True):
        assert b.values == pytest.approx(dict(a.values), rel=1e-4, abs=1e-4)
    alone, joint = (weights(job.workdir) for job in jobs if job.workdir)
    for name, weight in alone.items():
        assert torch.allclose(weight, joint[name], rtol=1e-4, atol=1e-5), name
    start = PLAIN.supernet((1, 8, 8), 4)
    assert any(not torch.equal(w, dict(start.named_parameters())[n]) for n, w in joint.items())


def test_the_loss_of_a_process_is_an_error_and_ends_the_others(tmp_path: Path) -> None:
    longer = replace(evaluator(2), recipe=replace(RECIPE, epochs=200))
    longer.setup(PLAIN, tiny_view())
    training = longer.evaluate(arch(), Job(0, seed=5, max_step=200, workdir=tmp_path))
    next(training)
    (other,) = torch.multiprocessing.active_children()
    assert other.pid is not None
    os.kill(other.pid, signal.SIGKILL)
    with pytest.raises(RuntimeError):
        list(training)
    assert not torch.multiprocessing.active_children()
    assert not torch.distributed.is_initialized()


def drift(ranks: ProcessGroup, _: str) -> None:
    """The other side of the test below."""
    layer = nn.BatchNorm1d(2)
    for weight in ([1.0, float("nan")], [1.0, 2.0]):
        layer.running_mean.fill_(ranks.rank)
        with torch.no_grad():
            layer.weight.copy_(torch.tensor(weight))
        try:
            ranks.agree(layer)
        except RaynasError:
            return


def test_ranks_see_that_their_weights_differ_and_sum_what_they_have() -> None:
    with together(2, "cpu", drift) as ranks:
        layer = nn.BatchNorm1d(2)
        layer.weight.data = torch.tensor([1.0, float("nan")])
        ranks.agree(layer)  # what is no number is no difference
        layer.weight.data = torch.tensor([1.0, 2.5])
        with pytest.raises(RaynasError, match="weights of 2 ranks are no longer the same"):
            ranks.agree(layer)


def test_alone_nothing_is_exchanged() -> None:
    layer = nn.Linear(2, 2)
    layer.weight.grad = torch.ones(2, 2)
    ALONE.sum_gradients(layer.parameters())
    ALONE.agree(layer)
    assert ALONE.first
    assert torch.equal(layer.weight.grad, torch.ones(2, 2))
    assert layer.bias.grad is None


def test_ranks_share_every_image_of_a_batch() -> None:
    from raynas.training.augment import on_device
    from raynas.training.loop import batches, make_optimizer

    data, network = on_device(tiny_view(train=63), torch.device("cpu")), nn.Linear(1, 1)

    def shown(rank: int, size: int) -> Iterator[Any]:
        return batches(data, RECIPE, 1, 5, make_optimizer(network, RECIPE), rank, size)

    for (images, labels), *shares in zip(shown(0, 1), shown(0, 2), shown(1, 2), strict=True):
        (first, one), (second, two) = shares
        assert torch.equal(images[::2], first)
        assert torch.equal(images[1::2], second)
        assert torch.equal(labels[::2], one)
        assert torch.equal(labels[1::2], two)
    # a last batch that leaves a rank one image is left out
    assert list(batch_starts(35, 16, ranks=2)) == [0, 16]
    assert list(batch_starts(36, 16, ranks=2)) == [0, 16, 32]


def test_every_rank_has_a_gpu_of_its_own() -> None:
    assert [device_of("cuda", rank) for rank in range(2)] == ["cuda:0", "cuda:1"]
    assert device_of("cuda:2", 1) == "cuda:3"
    assert device_of("cpu", 1) == "cpu"
