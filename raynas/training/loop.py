"""The training loop: from a network and a view to one measurement per epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from raynas.core import Measurement, TrainingDiverged, UserError, seed_for
from raynas.core.describe import describe
from raynas.data.base import DataView
from raynas.layers.kernels import safe_kernels
from raynas.training.augment import (
    DeviceImages,
    DeviceView,
    as_input,
    augmented,
    check_augmentation,
    draw_epoch,
    on_device,
)
from raynas.training.checkpoint import TrainingProgress, load_checkpoint, save_checkpoint
from raynas.training.recipe import Recipe

HELD_OUT_BATCH = 1024


def train(
    network: nn.Module,
    view: DataView,
    recipe: Recipe,
    *,
    seed: int,
    device: str = "cpu",
    workdir: Path | None = None,
    max_epoch: int | None = None,
    threads: int = 1,
    checkpoint_seconds: float = 10.0,
    measure_every: int = 1,
    label: str = "",
    pauses: Collection[int] = (),
    stored: int | None = None,
) -> Iterator[Measurement]:
    """Train ``network`` in place up to ``max_epoch``.

    With a ``workdir`` a checkpoint is written once ``checkpoint_seconds`` have passed since the
    last one, and always at the last epoch. A later call with the same arguments continues from
    there and yields the epochs that follow. An epoch's checkpoint is written when the reader asks
    for the next epoch, so no measurement is lost when a worker stops. The checkpoint of the last
    epoch is written before its measurement is yielded, and a call that finds nothing left to do
    yields this measurement again. The same holds for the epochs in ``pauses``.

    All randomness comes from (seed, epoch): on a CPU, n epochs in one call or in several calls end
    in the same weights.

    Args:
        network: (n, channels, height, width) float32 -> logits (n, classes).
        view: The training and held-out images, uint8.
        recipe: Optimizer, schedule and augmentations.
        seed: Of the order and the augmentation of images, and of what the network draws. It also
            identifies the checkpoints.
        device: A torch device, such as "cpu" or "cuda:0".
        workdir: Folder of the checkpoints; None writes none.
        max_epoch: The epoch to stop after; None takes all epochs of the recipe.
        threads: CPU threads of torch during an epoch.
        checkpoint_seconds: Seconds between two checkpoints.
        measure_every: Held-out images are measured at every epoch that is a multiple of this
            number, and at the last one; 0 measures at the last one only.
        label: Text of the architecture; it identifies the checkpoints.
        pauses: Epochs after which the reader may not continue for a long time.
        stored: The last epoch whose measurement the reader knows. Later epochs that were trained
            before are yielded again. None means that the reader knows all.

    Yields:
        One measurement per epoch: ``train_loss``, ``train_accuracy`` and, under the view's name
        ``val_`` or ``test_``, ``loss`` and ``accuracy`` of the held-out images. Losses are in nats,
        accuracies in percent. Epochs at which held-out images are not measured lack their metrics.

    Raises:
        TrainingDiverged: At the end of an epoch with a value that is not finite.
        UserError: When ``max_epoch`` is beyond the recipe.
        UserError: When the recipe's augmentation does not fit the images.
        UserError: When the checkpoint is of another training.
    """
    last = last_epoch(recipe, max_epoch)
    check_augmentation(recipe, view)
    place = torch.device(device)
    data = on_device(view, place)
    network.to(place)
    if recipe.channels_last:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = make_optimizer(network, recipe)

    def one_epoch(epoch: int) -> dict[str, float]:
        with safe_kernels(network, place):
            values = train_epoch(network, optimizer, data, recipe, epoch, seed)
        if epoch == last or (measure_every and epoch % measure_every == 0):
            held_out = measure(network, data.held_out, data, recipe)
            values |= {f"{view.held_out_name}_{k}": v for k, v in held_out.items()}
        return values

    yield from run_epochs(
        one_epoch,
        network,
        optimizer,
        last=last,
        identity={"label": label, "seed": seed, "recipe": describe(recipe, code=False)},
        place=place,
        workdir=workdir,
        threads=threads,
        checkpoint_seconds=checkpoint_seconds,
        pauses=pauses,
        stored=stored,
    )


def last_epoch(recipe: Recipe, max_epoch: int | None) -> int:
    """Return the epoch at which a training stops.

    Args:
        recipe: Its ``epochs`` are the upper limit.
        max_epoch: The epoch to stop after; None takes the recipe's last one.

    Returns:
        The epoch, counted from 1.

    Raises:
        UserError: When ``max_epoch`` is below 1 or beyond the recipe.
    """
    last = recipe.epochs if max_epoch is None else max_epoch
    if not 1 <= last <= recipe.epochs:
        raise UserError(
            f"cannot train to epoch {last}",
            expected=f"1 to {recipe.epochs}",
            hint="set the recipe's epochs: they fix its schedule",
        )
    return last


def run_epochs(
    one_epoch: Callable[[int], dict[str, float]],
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    last: int,
    identity: Mapping[str, Any],
    place: torch.device,
    workdir: Path | None,
    threads: int,
    checkpoint_seconds: float,
    writes: bool = True,
    at_end: Callable[[int], None] | None = None,
    pauses: Collection[int] = (),
    stored: int | None = None,
) -> Iterator[Measurement]:
    """Call ``one_epoch(1)``, ``one_epoch(2)``, ... up to ``last``, with checkpoints between them.

    The checkpoints and the randomness described at :func:`train` hold for every ``one_epoch`` that
    draws from torch's global state, which is seeded by ``identity["seed"]`` and the epoch, or from
    seeds of its own.

    Args:
        one_epoch: Trains one epoch (from 1) and returns its metrics.
        network: Stored in checkpoints.
        optimizer: Stored in checkpoints.
        last: The last epoch.
        identity: JSON data that identify the training; with the entry "seed".
        place: The device of the network.
        workdir: Folder of the checkpoints; None reads and writes none.
        threads: CPU threads of torch during an epoch.
        checkpoint_seconds: Seconds between two checkpoints.
        writes: Whether this process writes the checkpoints that it reads.
        at_end: Called with the epoch of the weights before the last measurement is yielded.
        pauses: Epochs whose checkpoint is written before their measurement is yielded.
        stored: The last epoch whose measurement the reader knows; None means all.

    Yields:
        One measurement per epoch.

    Raises:
        TrainingDiverged: At the end of an epoch with a value that is not finite.
        UserError: When the checkpoint is of another training.
    """
    seed = identity["seed"]
    progress = TrainingProgress(0, identity)
    if workdir is not None:
        progress = load_checkpoint(workdir, identity, network, optimizer) or progress
        if progress.epoch >= last and at_end is not None:
            at_end(progress.epoch)
        known = [row for row in progress.history if row.step <= last]
        untold = [row for row in known if stored is not None and row.step > stored]
        again = progress.epoch >= last or progress.epoch in pauses
        yield from untold or (known[-1:] if again else [])
    saved = time.monotonic()

    for epoch in range(progress.epoch + 1, last + 1):
        began = _worked(place, threads)
        with _surroundings(place, threads, seed_for(seed, "epoch", epoch)):
            values = one_epoch(epoch)
        wrong = ", ".join(f"{k} is {v:g}" for k, v in values.items() if not math.isfinite(v))
        if wrong:
            raise TrainingDiverged(f"training diverged in epoch {epoch} of {last}: {wrong}")
        row = Measurement(epoch, values, _worked(place, threads) - began)
        progress = TrainingProgress(epoch, identity, (*progress.history, row))
        early = epoch == last or epoch in pauses
        if early and workdir is not None and writes:
            save_checkpoint(workdir, progress, network, optimizer)
            saved = time.monotonic()
        if epoch == last and at_end is not None:
            at_end(epoch)
        yield row
        due = time.monotonic() - saved >= checkpoint_seconds
        if due and not early and workdir is not None and writes:
            save_checkpoint(workdir, progress, network, optimizer)
            saved = time.monotonic()


def _worked(place: torch.device, threads: int) -> float:
    """Return a clock of seconds worked, in which work costs the same on a busy machine.

    On a CPU it is the processor time of this process divided by its threads, since searches are
    compared at equal cost; on a GPU it is wall-clock time.
    """
    return time.process_time() / max(threads, 1) if place.type == "cpu" else time.monotonic()


def train_epoch(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    data: DeviceView,
    recipe: Recipe,
    epoch: int,
    seed: int,
) -> dict[str, float]:
    """Train one epoch: one pass over the training images.

    No step waits for the device: sums are read at the end.

    Args:
        network: Trained in place, on the device of ``data``.
        optimizer: Of the network.
        data: The images.
        recipe: Batches, augmentation, loss and gradient clipping.
        epoch: Number of the epoch, from 1.
        seed: Of the order and the augmentation.

    Returns:
        ``train_accuracy`` in percent and ``train_loss`` in nats, means over the images shown.
    """
    loss_sum = torch.zeros((), device=data.mean.device)
    right = torch.zeros((), device=data.mean.device, dtype=torch.int64)
    shown = 0
    network.train()
    for images, labels in batches(data, recipe, epoch, seed, optimizer):
        with autocast(recipe, images.device):
            logits: Tensor = network(images)
            loss = F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if recipe.grad_clip is not None:
            nn.utils.clip_grad_norm_(network.parameters(), recipe.grad_clip)
        optimizer.step()
        loss_sum += loss.detach() * len(labels)
        right += (logits.detach().argmax(1) == labels).sum()
        shown += len(labels)
    return {
        "train_accuracy": 100 * right.item() / shown,
        "train_loss": loss_sum.item() / shown,
    }


def batches(
    data: DeviceView,
    recipe: Recipe,
    epoch: int,
    seed: int,
    optimizer: torch.optim.Optimizer,
    rank: int = 0,
    ranks: int = 1,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the augmented batches of one epoch, with the optimizer's learning rate set for each.

    Several processes can show an epoch together: each takes every ``ranks``-th image of every
    batch. A last batch that leaves one of them with fewer than two images is left out.

    Args:
        data: The images.
        recipe: Batch size, schedule and augmentation.
        epoch: Number of the epoch, from 1.
        seed: Of the order and the augmentation.
        optimizer: Its learning rate is set before each batch.
        rank: Number of this process, from 0.
        ranks: Number of processes.

    Yields:
        Images (b, channels, height, width) float32 and labels (b,) int64.
    """
    count, height, width, _ = data.train.pixels.shape
    generator = torch.Generator().manual_seed(seed_for(seed, "augment", epoch))
    draws = draw_epoch(count, height, width, recipe, generator).to(data.mean.device)
    starts = batch_starts(count, recipe.batch_size, ranks)
    for number, start in enumerate(starts):
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr_at((epoch - 1) * len(starts) + number, len(starts))
        shown = slice(start + rank, start + recipe.batch_size, ranks)
        yield augmented(data, draws, shown, recipe)


def measure(
    network: nn.Module, images: DeviceImages, data: DeviceView, recipe: Recipe
) -> dict[str, float]:
    """Measure a network on images without augmentation, in eval mode.

    Args:
        network: On the device of ``data``; left in eval mode.
        images: The images to measure on.
        data: Mean and deviation of the images.
        recipe: Memory format and precision.

    Returns:
        ``accuracy`` in percent and ``loss`` (cross entropy in nats).
    """
    network.eval()
    loss_sum = torch.zeros((), device=data.mean.device)
    right = torch.zeros((), device=data.mean.device, dtype=torch.int64)
    with torch.inference_mode():
        for start in range(0, len(images), HELD_OUT_BATCH):
            some = slice(start, start + HELD_OUT_BATCH)
            batch, labels = (
                as_input(data.normalise(images.pixels[some]), recipe),
                images.labels[some],
            )
            with autocast(recipe, batch.device):
                logits = network(batch)
            loss_sum += F.cross_entropy(logits.float(), labels, reduction="sum")
            right += (logits.argmax(1) == labels).sum()
    return {"accuracy": 100 * right.item() / len(images), "loss": loss_sum.item() / len(images)}


def make_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.SGD:
    """Make the SGD optimizer of a recipe; one-dimensional weights are a separate parameter group.

    Args:
        network: Its trainable parameters are optimised.
        recipe: Learning rate, momentum and weight decay.

    Returns:
        An optimizer with one or two parameter groups.
    """
    weights = [p for p in network.parameters() if p.requires_grad]
    plain = [p for p in weights if p.ndim <= 1]
    groups = [
        {"params": [p for p in weights if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": plain, "weight_decay": recipe.weight_decay if recipe.decay_norms else 0.0},
    ]
    return torch.optim.SGD(
        [group for group in groups if group["params"]],
        lr=recipe.lr,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        foreach=True,
    )


def batch_starts(count: int, batch_size: int, ranks: int = 1) -> range:
    """Return the first image number of each batch of an epoch.

    A last batch with one image per rank is left out: batch norm cannot train on one image. Which
    image is left out changes from epoch to epoch.

    Args:
        count: Number of training images.
        batch_size: Images per batch, over all ranks.
        ranks: Number of processes that share a batch.

    Returns:
        The numbers as a range.

    Example:
        >>> list(batch_starts(count=9, batch_size=4))
        [0, 4]
        >>> list(batch_starts(count=10, batch_size=4))
        [0, 4, 8]
    """
    return range(0, max(count - 2 * ranks + 1, 1), batch_size)


def autocast(recipe: Recipe, device: torch.device) -> AbstractContextManager[object]:
    """Return the precision context of one batch.

    Enter a new one for every batch: its cache of cast weights is outdated after an optimisation
    step.

    Args:
        recipe: Its ``amp`` allows or forbids bfloat16.
        device: The device of the network.

    Returns:
        A bfloat16 autocast on a GPU that computes bfloat16 in hardware and a recipe with "auto",
        else a context that does nothing.
    """
    if recipe.amp == "auto" and device.type == "cuda" and _computes_bfloat16():
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return nullcontext()


@cache
def _computes_bfloat16() -> bool:
    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


@contextmanager
def _surroundings(device: torch.device, threads: int, seed: int) -> Iterator[None]:
    """Set the process's threads and random state for one epoch, and restore them after it.

    It is never held across a yield: the reader of the measurements finds the process unchanged.
    """
    before = torch.get_num_threads()
    gpu = device.type == "cuda"
    fast = torch.backends.cudnn.flags(enabled=True, benchmark=True) if gpu else nullcontext()
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng(devices=[device] if gpu else []), fast:
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(before)
