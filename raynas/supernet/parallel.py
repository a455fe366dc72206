"""Data-parallel training by processes that run the same subnets on different images.

Every rank draws the same subnets and shows them its share of each batch. Gradients are summed over
the ranks, so all take the same step from the same weights. Batch norm normalises by a rank's own
share of the batch, and running statistics are those of rank 0.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.multiprocessing.spawn import start_processes

from raynas.core import RaynasError

PATIENCE = timedelta(minutes=10)
"""The time that a rank waits for the others; only rank 0 measures subnets and writes weights."""


@dataclass(frozen=True)
class ProcessGroup:
    """The number of this process among those that train together; by default one trains alone.

    Attributes:
        rank: Number of this process, from 0.
        size: Number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """A flag that is True for rank 0."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Sum a tensor over the ranks, in place.

        Args:
            values: A tensor of the same shape on all ranks.

        Returns:
            The same tensor.
        """
        if self.size > 1:
            distributed.all_reduce(values)
        return values

    def sum_gradients(self, weights: Iterable[nn.Parameter]) -> None:
        """Replace gradients by their sums over the ranks.

        A weight without a gradient has none on any rank, since all ranks run the same subnets; it
        stays without one.

        Args:
            weights: The weights whose gradients are summed in place.
        """
        if self.size == 1:
            return
        found = [weight.grad for weight in weights if weight.grad is not None]
        if not found:
            return
        flat = self.sum(torch.cat([gradient.reshape(-1) for gradient in found]))
        sizes = [gradient.numel() for gradient in found]
        for gradient, total in zip(found, torch.split(flat, sizes), strict=True):
            gradient.copy_(total.view_as(gradient))

    def agree(self, network: nn.Module) -> None:
        """Take the buffers of rank 0 and check that all ranks hold the same weights.

        Args:
            network: Its buffers are changed in place.

        Raises:
            RaynasError: When the weights differ.
        """
        if self.size == 1:
            return
        for buffer in network.buffers():
            distributed.broadcast(buffer, 0)
        with torch.no_grad():
            mine = torch.cat([weight.reshape(-1) for weight in network.parameters()])
        theirs = mine.clone()
        distributed.broadcast(theirs, 0)
        # weights that are NaN on all ranks are equal here: divergence has its own message
        differ = (~torch.isclose(mine, theirs, rtol=0, atol=0, equal_nan=True)).sum().float()
        if self.sum(differ).item():
            raise RaynasError(f"the weights of {self.size} ranks are no longer the same")


ALONE = ProcessGroup()


@contextmanager
def joined(rank: int, size: int, meeting: Path, device: str) -> Iterator[ProcessGroup]:
    """Make the process ``rank`` of ``size`` for as long as the context lasts.

    NCCL connects GPUs, gloo other devices.

    Args:
        rank: Number of this process.
        size: Number of processes.
        meeting: A file that does not exist yet, in a folder that all ranks see.
        device: A torch device; only its kind matters.

    Yields:
        The ranks.
    """
    distributed.init_process_group(
        "nccl" if device.startswith("cuda") else "gloo",
        init_method=f"file://{meeting}",
        rank=rank,
        world_size=size,
        timeout=PATIENCE,
    )
    try:
        yield ProcessGroup(rank, size)
    finally:
        distributed.destroy_process_group()


def device_of(device: str, rank: int) -> str:
    """Return the device of one rank.

    Args:
        device: The device of rank 0, such as "cuda" or "cuda:2".
        rank: Number of the rank.

    Returns:
        The GPU ``rank`` numbers after that of rank 0; other devices as given.

    Example:
        >>> device_of("cuda", 1), device_of("cuda:2", 1), device_of("cpu", 1)
        ('cuda:1', 'cuda:3', 'cpu')
    """
    kind, _, number = device.partition(":")
    return f"{kind}:{int(number or 0) + rank}" if kind == "cuda" else device


@contextmanager
def together(
    size: int, device: str, other: Callable[..., None], *given: Any
) -> Iterator[ProcessGroup]:
    """Run this process as rank 0, and ``other`` in ``size - 1`` more processes.

    ``other`` is called with its ranks, its device and ``given``; both are pickled. The other
    processes end with this context, and with this process if it is killed.

    Args:
        size: Number of processes; 1 starts none.
        device: The device of rank 0.
        other: A function of a module, called in the other processes.
        *given: More arguments of ``other``.

    Yields:
        The ranks of this process.
    """
    if size == 1:
        yield ALONE
        return
    with tempfile.TemporaryDirectory(prefix="raynas-ranks-") as folder:
        meeting = Path(folder) / "meeting"
        others = start_processes(  # type: ignore[no-untyped-call]
            _run, (size, meeting, device, other, given), nprocs=size - 1, join=False, daemon=True,
            start_method="spawn",
        )  # fmt: skip
        try:
            with joined(0, size, meeting, device) as ranks:
                yield ranks
        finally:
            for process in others.processes:
                process.terminate()
                process.join()


def _run(
    index: int,
    size: int,
    meeting: Path,
    device: str,
    other: Callable[..., None],
    given: tuple[Any, ...],
) -> None:
    rank = index + 1
    with joined(rank, size, meeting, device) as ranks:
        other(ranks, device_of(device, rank), *given)
