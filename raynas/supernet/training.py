"""The training of a supernet: the epochs of ``raynas.training``, with several subnets per step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel

from raynas.core import Architecture, Measurement, rng_for
from raynas.core.describe import describe
from raynas.data.base import DataView
from raynas.layers.kernels import safe_kernels
from raynas.spaces.supernet import Supernet
from raynas.supernet.calibration import calibration_batches, recalibrate
from raynas.supernet.parallel import ALONE, ProcessGroup
from raynas.supernet.rules import OpenOptions, Phase, Rule
from raynas.supernet.weights import save_weights
from raynas.training.augment import DeviceImages, DeviceView, check_augmentation, on_device
from raynas.training.loop import (
    autocast,
    batches,
    last_epoch,
    make_optimizer,
    measure,
    run_epochs,
)
from raynas.training.recipe import Recipe


@dataclass(frozen=True)
class Look:
    """Settings of the measurement of some subnets after every epoch, which shows the progress.

    Attributes:
        random: Number of drawn subnets beside the smallest and the largest, the same in all epochs.
        images: Number of validation images.
        calibration: Number of training images for batch norm's statistics.
    """

    random: int = 3
    images: int = 1000
    calibration: int = 512

    def subnets(self, reach: OpenOptions, seed: int) -> dict[str, list[Architecture]]:
        """Return the subnets to measure.

        Args:
            reach: The part of the space to draw from.
            seed: Of the draw.

        Returns:
            Kind ("smallest", "largest", "random") -> its subnets.
        """
        rng = rng_for(seed, "look")
        drawn = [reach.draw(rng) for _ in range(self.random)]
        return {"smallest": [reach.smallest], "largest": [reach.largest], "random": drawn}


class AveragedSupernet(nn.Module):
    """A supernet and the mean of its weights over the last epochs, if it is taken.

    Args:
        supernet: The supernet in training.
        averages: Whether a mean is kept.

    Attributes:
        supernet: The supernet in training.
        mean: The averaged model; None without averaging.
    """

    def __init__(self, supernet: Supernet, averages: bool) -> None:
        super().__init__()
        self.supernet = supernet
        self.mean = AveragedModel(supernet) if averages else None

    def take(self) -> None:
        """Add the current weights to the mean."""
        if self.mean is not None:
            self.mean.update_parameters(self.supernet)

    def begin_anew(self) -> None:
        """Discard the weights in the mean."""
        if self.mean is not None:
            self.mean.n_averaged.zero_()

    @property
    def served(self) -> Supernet:
        """The supernet that is measured and stored.

        Returns:
            The mean if weights were added to it, else the supernet in training.
        """
        taken = self.mean is not None and int(self.mean.n_averaged) > 0
        served: Supernet = self.mean.module if taken else self.supernet  # type: ignore[union-attr,assignment]
        return served


def train_supernet(
    supernet: Supernet,
    view: DataView,
    recipe: Recipe,
    rule: Rule,
    *,
    seed: int,
    phases: Sequence[Phase] = (),
    average: int = 1,
    look: Look | None = None,
    device: str = "cpu",
    workdir: Path | None = None,
    max_epoch: int | None = None,
    threads: int = 1,
    checkpoint_seconds: float = 10.0,
    stored: int | None = None,
    ranks: ProcessGroup = ALONE,
) -> Iterator[Measurement]:
    """Train ``supernet`` in place up to ``max_epoch``.

    With a ``workdir`` there are checkpoints as of ``raynas.training.train``, with the same
    guarantees, and before the last measurement ``workdir/weights`` is written.

    A weight that no loss of a step depends on is not changed in that step, neither by decay nor by
    momentum. The recipe's ``grad_clip`` bounds the gradient of a step, summed over its passes.

    Args:
        supernet: (n, *input_shape) float32 and an architecture -> logits (n, classes).
        view: The training and held-out images, uint8.
        recipe: Optimizer, schedule and augmentations.
        rule: Draws the subnets of each step.
        seed: Of images, subnets and what the network draws. It also identifies the checkpoints.
        phases: Epochs from which choices may have smaller options.
        average: Number of the recipe's last epochs over which weights are averaged. The mean is
            measured and stored, while the training continues with its own weights. 1 averages none.
        look: The subnets to measure after each epoch; None takes the default settings.
        device: A torch device, such as "cpu" or "cuda:0".
        workdir: Folder of checkpoints and weights; None writes none.
        max_epoch: The epoch to stop after; None takes all epochs of the recipe.
        threads: CPU threads of torch during an epoch.
        checkpoint_seconds: Seconds between two checkpoints.
        stored: The last epoch whose measurement the reader knows; later epochs that were trained
            before are yielded again. None means that the reader knows all.
        ranks: The processes that train together. Only the first measures subnets and writes files.

    Yields:
        One measurement per epoch: ``train_loss`` and ``train_accuracy`` over all passes, and
        ``smallest_accuracy``, ``largest_accuracy`` and ``random_accuracy`` of subnets on held-out
        images. Losses are in nats, accuracies in percent.

    Raises:
        TrainingDiverged: At the end of an epoch with a value that is not finite.
        UserError: When ``max_epoch`` is beyond the recipe.
        UserError: When the recipe's augmentation does not fit the images.
        UserError: When a phase opens no choice of the space.
        UserError: When the checkpoint is of another training.
    """
    last = last_epoch(recipe, max_epoch)
    check_augmentation(recipe, view)
    place = torch.device(device)
    data = on_device(view, place)
    supernet.to(place)
    if recipe.channels_last:
        supernet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    decayed = replace(recipe, decay_norms=recipe.decay_norms and rule.decays_norms)
    optimizer = make_optimizer(supernet, decayed)
    whole = AveragedSupernet(supernet, averages=average > 1)
    everything, look = OpenOptions.of(supernet.space), look or Look()
    shown = look.subnets(everything, seed)
    identity = {
        "seed": seed,
        "recipe": describe(recipe, code=False),
        "rule": describe(rule, code=False),
        "phases": describe(tuple(phases), code=False),
        "average": average,
        "ranks": ranks.size,
        "space": describe(supernet.space, code=False),
    }

    def one_epoch(epoch: int) -> dict[str, float]:
        if any(phase.sort and phase.epoch == epoch for phase in phases):
            supernet.sort_channels()
            optimizer.state.clear()  # momenta and mean have the channels in their old order
            whole.begin_anew()
        now = everything.opened(phases, epoch)
        with safe_kernels(supernet, place):
            values = train_epoch(supernet, optimizer, data, recipe, rule, now, epoch, seed, ranks)
        ranks.agree(supernet)
        if epoch > recipe.epochs - average:
            whole.take()
        if ranks.first:
            values |= accuracies(whole.served, shown, data, recipe, look, seed)
        return values

    def keep(epoch: int) -> None:
        if workdir is not None and ranks.first:
            save_weights(
                workdir / "weights",
                whole.served,
                epoch=epoch,
                identity=identity,
                images=view.train,
            )

    yield from run_epochs(
        one_epoch,
        whole,
        optimizer,
        last=last,
        identity=identity,
        place=place,
        workdir=workdir,
        threads=threads,
        checkpoint_seconds=checkpoint_seconds,
        stored=stored,
        writes=ranks.first,
        at_end=keep,
    )


def train_epoch(
    supernet: Supernet,
    optimizer: torch.optim.Optimizer,
    data: DeviceView,
    recipe: Recipe,
    rule: Rule,
    reach: OpenOptions,
    epoch: int,
    seed: int,
    ranks: ProcessGroup = ALONE,
) -> dict[str, float]:
    """Train one epoch: one pass over the training images.

    Args:
        supernet: Trained in place, on the device of ``data``.
        optimizer: Of the supernet.
        data: The images.
        recipe: Batches, augmentation, loss and gradient clipping.
        rule: Draws the subnets of each step.
        reach: The open part of the space.
        epoch: Number of the epoch, from 1.
        seed: Of images and subnets.
        ranks: The processes that train together.

    Returns:
        ``train_accuracy`` in percent and ``train_loss`` in nats, means over all passes and ranks.
    """
    rng = rng_for(seed, "passes", epoch)
    totals = torch.zeros(3, device=data.mean.device)  # loss, right answers, images shown
    supernet.train()
    for images, labels in batches(data, recipe, epoch, seed, optimizer, ranks.rank, ranks.size):
        optimizer.zero_grad(set_to_none=True)
        totals += _gradients(supernet, images, labels, recipe, rule, reach, rng, ranks)
        ranks.sum_gradients(supernet.parameters())
        if recipe.grad_clip is not None:
            nn.utils.clip_grad_norm_(supernet.parameters(), recipe.grad_clip)
        step_used(optimizer)
    loss, right, shown = ranks.sum(totals).tolist()
    return {"train_accuracy": 100 * right / shown, "train_loss": loss / shown}


def _gradients(
    supernet: Supernet,
    images: Tensor,
    labels: Tensor,
    recipe: Recipe,
    rule: Rule,
    reach: OpenOptions,
    rng: np.random.Generator,
    ranks: ProcessGroup,
) -> Tensor:
    """Add up the gradients of one step's passes; (3,) loss, right answers and images shown.

    The loss is the mean over the images of all ranks, whose shares may differ by one.
    """
    count = ranks.sum(torch.tensor(float(len(labels)), device=images.device))
    totals, answers = torch.zeros(3, device=images.device), None
    for one in rule.passes(reach, rng):
        _drop_out(supernet, on=not one.taught)
        with autocast(recipe, images.device):
            logits = supernet(images, one.arch)
            if one.taught:
                loss = F.cross_entropy(logits, answers, reduction="sum")  # type: ignore[arg-type]
            else:
                smooth = recipe.label_smoothing
                loss = F.cross_entropy(logits, labels, reduction="sum", label_smoothing=smooth)
        (loss / count).backward()  # type: ignore[no-untyped-call]
        if answers is None:
            answers = logits.detach().float().softmax(1)
        right = (logits.detach().argmax(1) == labels).sum()
        totals += torch.stack((loss.detach(), right, torch.full_like(right, len(labels))))
    _drop_out(supernet, on=True)
    return totals


def _drop_out(network: nn.Module, on: bool) -> None:
    for module in network.modules():
        if isinstance(module, nn.Dropout | nn.Dropout1d | nn.Dropout2d | nn.Dropout3d):
            module.train(on)


@torch.no_grad()
def step_used(optimizer: torch.optim.Optimizer) -> None:
    """Call ``optimizer.step()``, but keep weight and momentum where a gradient is exactly 0.

    Torch does not change weights without a gradient. Here the same holds for parts of a weight:
    channels and borders of kernels that no subnet of the step used.

    Args:
        optimizer: Of weights that have their gradients.
    """
    weights = [w for g in optimizer.param_groups for w in g["params"] if w.grad is not None]
    rests = [weight.grad == 0 for weight in weights]  # before: some optimizers change the gradient
    before = [weight.clone() for weight in weights]
    momenta = [optimizer.state[weight].get("momentum_buffer") for weight in weights]
    momenta = [None if momentum is None else momentum.clone() for momentum in momenta]
    optimizer.step()
    for weight, rest, old, momentum in zip(weights, rests, before, momenta, strict=True):
        weight.copy_(torch.where(rest, old, weight))
        buffer = optimizer.state[weight].get("momentum_buffer")
        if buffer is not None:
            still = torch.zeros_like(buffer) if momentum is None else momentum
            buffer.copy_(torch.where(rest, still, buffer))


def accuracies(
    supernet: Supernet,
    subnets: Mapping[str, Sequence[Architecture]],
    data: DeviceView,
    recipe: Recipe,
    look: Look,
    seed: int,
) -> dict[str, float]:
    """Measure the mean accuracy of each kind of subnets after recalibration of batch norms.

    Args:
        supernet: It is not changed.
        subnets: Kind -> subnets.
        data: The images.
        recipe: Memory format and precision.
        look: Numbers of validation and of calibration images.
        seed: Of the calibration images.

    Returns:
        ``KIND_accuracy`` -> percent.
    """
    some = DeviceImages(data.held_out.pixels[: look.images], data.held_out.labels[: look.images])
    calibration = calibration_batches(data, recipe, look.calibration, seed)

    def accuracy(arch: Architecture) -> float:
        network = supernet.extract(arch)
        recalibrate(network, calibration)
        return measure(network, some, data, recipe)["accuracy"]

    return {f"{kind}_accuracy": fmean(map(accuracy, archs)) for kind, archs in subnets.items()}
