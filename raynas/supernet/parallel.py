"""Data-parallel training: processes that run the same subnets on other images.

Every rank draws the same subnets and shows them its share of each batch; gradients are summed
over the ranks, so all take the same step from the same weights. Batch norm normalises by a rank's
own share of the batch, and running statistics are those of rank 0.
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
"""How long a rank waits for the others; measuring and writing weights is done by rank 0 alone."""


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together; the default is one that trains alone."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The sum of ``values`` over the ranks, in place."""
        if self.size > 1:
            distributed.all_reduce(values)
        return values

    def sum_gradients(self, weights: Iterable[nn.Parameter]) -> None:
        """Gradients become their sums over the ranks. Weights without one have none anywhere,
        since all ranks run the same subnets; they stay without."""
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
        """Take the buffers of rank 0 and see that all ranks hold the same weights.

        Raises: RaynasError when they do not.
        """
        if self.size == 1:
            return
        for buffer in network.buffers():
            distributed.broadcast(buffer, 0)
        with torch.no_grad():
            mine = torch.cat([weight.reshape(-1) for weight in network.parameters()])
        theirs = mine.clone()
        distributed.broadcast(theirs, 0)
        # a weight that is not a number is equal on all ranks, too: divergence has its own message
        differ = (~torch.isclose(mine, theirs, rtol=0, atol=0, equal_nan=True)).sum().float()
        if self.sum(differ).item():
            raise RaynasError(f"the weights of {self.size} ranks are no longer the same")


ALONE = Ranks()


@contextmanager
def joined(rank: int, size: int, meeting: Path, device: str) -> Iterator[Ranks]:
    """The process as ``rank`` of ``size`` for as long as the context lasts.

    ``meeting``: a file that does not exist yet, in a folder that all ranks see. NCCL on GPUs,
    else gloo.
    """
    distributed.init_process_group(
        "nccl" if device.startswith("cuda") else "gloo",
        init_method=f"file://{meeting}",
        rank=rank,
        world_size=size,
        timeout=PATIENCE,
    )
    try:
        yield Ranks(rank, size)
    finally:
        distributed.destroy_process_group()


def device_of(device: str, rank: int) -> str:
    """``cuda`` -> ``cuda:1`` for rank 1; a device with a number is rank 0's, the others follow."""
    kind, _, number = device.partition(":")
    return f"{kind}:{int(number or 0) + rank}" if kind == "cuda" else device


@contextmanager
def together(size: int, device: str, other: Callable[..., None], *given: Any) -> Iterator[Ranks]:
    """This process as rank 0, and ``other(ranks, device, *given)`` in ``size - 1`` more of them.

    ``other`` and ``given`` are pickled. The others end with this context, and with this process
    if it is killed.
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
