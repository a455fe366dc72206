"""This module decides how much of a device a trial gets.

It goes by the bytes that the shapes of its network predict, and by the peaks seen so far. A
trial's share holds what it is predicted to need, so trials that share a device fit on it together.
Shares are powers of two: a worker is used again only by a trial with an equal share.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

#: the smallest share of a GPU, and of main memory in bytes
SMALLEST, SMALLEST_MEMORY = 1 / 16, 2**28
#: what a process takes beside its tensors, until something was seen: of a GPU (its context), of
#: main memory (Python, torch, Ray). Both are assumptions, and are taken rather large.
CONTEXT, PROCESS = 600 * 10**6, 700 * 10**6
#: peak bytes per byte that the shapes predict, until something was seen: an assumption, too
_SLOPE = 1.5
#: room beyond the largest peak that was seen
_MARGIN = 1.1
_LEAST_SLOPE, _MOST_SLOPE, _KEPT = 0.25, 4.0, 256


@dataclass(frozen=True)
class DeviceKind:
    """A kind of GPU of a cluster, with its memory.

    Attributes:
        bytes: Memory of each.
        count: How many of them the cluster has.
        kind: Ray's name of the kind; empty for any.
    """

    bytes: int
    count: float = 1.0
    kind: str = ""


@dataclass(frozen=True)
class ResourceRequest:
    """The share of a machine's devices that a trial gets.

    Attributes:
        gpus: The share of one GPU of ``kind``, or a number of whole ones.
        memory: Bytes of main memory to reserve in Ray; 0 for none.
        kind: Ray's name of the kind of GPU; empty for any.
        limit: True if the process may not take more of its GPU than its share.
    """

    gpus: float = 0.0
    memory: int = 0
    kind: str = ""
    limit: bool = False

    def bundle(self, cpus: float) -> dict[str, float]:
        """Return the share as Ray's resources.

        Args:
            cpus: CPU cores for the trial.

        Returns:
            Amounts by Ray's names.

        Example:
            >>> ResourceRequest(gpus=0.25, memory=2**28).bundle(cpus=2.0)
            {'CPU': 2.0, 'GPU': 0.25, 'memory': 268435456}
        """
        found = {"CPU": cpus, "GPU": self.gpus}
        if self.memory:
            found["memory"] = self.memory
        if self.kind:
            found[f"accelerator_type:{self.kind}"] = 0.001
        return found

    def in_words(self, device: str) -> str:
        """Return the memory that there was on a device, for a message.

        Args:
            device: A torch name, such as ``cpu`` or ``cuda``.

        Returns:
            Words with GB, such as "a whole GPU (80 GB)".
        """
        if device == "cpu":
            return f"{(self.memory or _machine_memory()) / 1e9:.3g} GB of memory"
        import torch

        total = torch.cuda.get_device_properties(device).total_memory / 1e9
        if not 0 < self.gpus < 1:
            return f"a whole GPU ({total:.3g} GB)"
        return f"{self.gpus:g} of a GPU ({self.gpus * total:.3g} GB)"


def _machine_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def gpu_share(needed: float, device: int) -> float:
    """Return the smallest power of two of a GPU that holds the needed bytes.

    Args:
        needed: Bytes.
        device: Bytes of the GPU.

    Returns:
        From 1/16 to 1; 1 also if the GPU does not hold them.

    Example:
        >>> gpu_share(3e9, device=16 * 10**9)
        0.25
    """
    share = 1.0
    while share / 2 >= SMALLEST and needed <= share / 2 * device:
        share /= 2
    return share


def memory_share(needed: float, most: int) -> int:
    """Return the smallest power of two of bytes that holds the needed ones.

    Args:
        needed: Bytes.
        most: The largest result.

    Returns:
        Bytes, at least 2**28 unless ``most`` is less.

    Example:
        >>> memory_share(3e8, most=2**33) == 2**29
        True
    """
    share = SMALLEST_MEMORY
    while share < needed:
        share *= 2
    return min(share, most)


class MemoryFit:
    """A linear model of peak bytes by predicted bytes.

    The line lies above all peaks seen so far, with a margin of 10 %. It never falls with the
    prediction.

    Args:
        extra: Bytes at a prediction of 0, until a peak was seen.

    Example:
        >>> sizes = MemoryFit(extra=100)
        >>> sizes(1000)
        1600
        >>> sizes.saw(predicted=1000, peak=2000)
        >>> sizes(1000)
        2200
    """

    def __init__(self, extra: int) -> None:
        self._extra = extra
        self._seen: deque[tuple[float, float]] = deque(maxlen=_KEPT)

    def saw(self, predicted: int, peak: int) -> None:
        """Take note of a peak.

        Args:
            predicted: The bytes that the shapes of the network predict.
            peak: The most bytes that its process had.
        """
        self._seen.append((float(predicted), float(peak)))

    def __call__(self, predicted: int) -> int:
        """Return the bytes to expect.

        Args:
            predicted: The bytes that the shapes of the network predict.

        Returns:
            Bytes.
        """
        slope, extra = self._line()
        return math.ceil(extra + slope * predicted)

    def _line(self) -> tuple[float, float]:
        if not self._seen:
            return _SLOPE, float(self._extra)
        predicted, peaks = np.array(self._seen).T
        around = predicted - predicted.mean()
        spread = float(around @ around)
        slope = float(around @ peaks) / spread if spread > 0 else _SLOPE
        slope = min(max(slope, _LEAST_SLOPE), _MOST_SLOPE)
        extra = max(float((peaks - slope * predicted).max()), 0.0)
        return _MARGIN * slope, _MARGIN * extra


@dataclass
class MemoryModel:
    """The memory models of a run: one for GPUs, one for main memory.

    Attributes:
        gpu: Peak bytes on a GPU.
        memory: Peak bytes of main memory.
    """

    gpu: MemoryFit = field(default_factory=lambda: MemoryFit(CONTEXT))
    memory: MemoryFit = field(default_factory=lambda: MemoryFit(PROCESS))


class ResourceAllocator:
    """An allocator that gives each trial its share of GPUs or main memory.

    Args:
        fixed: The share of trials that are not fitted to their prediction.
        memory: Bytes of main memory: of the largest machine, and of all machines.
        devices: The GPUs to fit trials to; empty for none.
        fits_memory: True fits trials to the main memory if there are no ``devices``.
        learned: Memory models of an earlier stage; None begins new ones.
    """

    def __init__(
        self,
        fixed: ResourceRequest,
        memory: tuple[int, int],
        devices: tuple[DeviceKind, ...] = (),
        fits_memory: bool = False,
        learned: MemoryModel | None = None,
    ) -> None:
        self._fixed = fixed
        self._devices = tuple(sorted(devices, key=lambda device: device.bytes))
        self._largest, self._all = memory
        self._fits_memory = fits_memory and not devices
        self._learned = learned or MemoryModel()
        self._has: dict[int, ResourceRequest] = {}
        self._predicted: dict[int, int] = {}
        self._peaks: dict[int, int] = {}
        self._given: dict[int, float] = {}  # bytes of a GPU, or of main memory

    @property
    def asks(self) -> bool:
        """True if predictions of memory are used."""
        return bool(self._devices) or self._fits_memory

    @property
    def least_gpu(self) -> float:
        """The smallest share of a GPU that a trial gets.

        Returns:
            A share from 0 to 1, or a number of GPUs.
        """
        return SMALLEST if self._devices else self._fixed.gpus

    def place(self, number: int, predicted: int | None, more: bool = False) -> ResourceRequest:
        """Choose the share of a trial, and reserve it.

        Args:
            number: The number of the trial.
            predicted: The bytes that its network is predicted to need; None if that is not known.
            more: True if it ran out of memory: it gets twice as much, up to a whole device.

        Returns:
            The share.
        """
        if predicted is not None:
            self._predicted[number] = predicted
        if self._devices:
            share = self._of_gpu(number, predicted, more)
        elif self._fits_memory:
            share = self._of_memory(number, predicted, more)
        else:
            share = self._twice(self._fixed) if more else self._fixed
        self._has[number] = share
        return share

    def has_room(self, live: Collection[int]) -> bool:
        """Return True if another trial may fit beside the live ones.

        Trials that still wait for their share count as if they had it.

        Args:
            live: The numbers of the trials that have jobs; the shares of others are released.
        """
        here = set(live)
        self._has = {number: share for number, share in self._has.items() if number in here}
        if not self._has:
            return True
        if self._devices:
            return any(self._left(device) >= SMALLEST for device in self._devices)
        booked = sum(share.memory for share in self._has.values())
        return not self._fits_memory or booked + SMALLEST_MEMORY <= self._all

    def saw(self, number: int, peak: int, on_gpu: bool) -> None:
        """Take note of the memory that a trial has used.

        Args:
            number: The number of the trial.
            peak: The most bytes that its process has had so far; 0 if that is not known.
            on_gpu: True for memory of a GPU.
        """
        predicted = self._predicted.get(number)
        if predicted is not None and peak > self._peaks.get(number, 0):
            self._peaks[number] = peak
            (self._learned.gpu if on_gpu else self._learned.memory).saw(predicted, peak)

    def _of_gpu(self, number: int, predicted: int | None, more: bool) -> ResourceRequest:
        if predicted is None:
            return ResourceRequest(1.0, self._fixed.memory, self._devices[-1].kind, limit=True)
        needed = self._needed(number, self._learned.gpu(predicted), more)
        holds = [d for d in self._devices if needed <= d.bytes] or [self._devices[-1]]
        free = (d for d in holds if self._left(d) >= gpu_share(needed, d.bytes))
        device = next(free, holds[0])
        share = gpu_share(needed, device.bytes)
        self._given[number] = share * device.bytes
        return ResourceRequest(share, self._fixed.memory, device.kind, limit=True)

    def _of_memory(self, number: int, predicted: int | None, more: bool) -> ResourceRequest:
        if predicted is None:
            return self._fixed
        needed = self._needed(number, self._learned.memory(predicted), more)
        memory = memory_share(needed, self._largest)
        self._given[number] = memory
        return ResourceRequest(self._fixed.gpus, memory)

    def _needed(self, number: int, expected: float, more: bool) -> float:
        return max(expected, 2 * self._given.get(number, expected)) if more else expected

    def _left(self, device: DeviceKind) -> float:
        """Return how many GPUs of a kind are free; below 0 if trials wait for them."""
        return device.count - sum(s.gpus for s in self._has.values() if s.kind == device.kind)

    def _twice(self, share: ResourceRequest) -> ResourceRequest:
        gpus = max(share.gpus, min(2 * share.gpus, 1.0))
        return ResourceRequest(gpus, min(2 * share.memory, max(share.memory, self._largest)))


def largest_and_all(nodes: Collection[Mapping[str, float]]) -> tuple[int, int]:
    """Return the main memory of the largest machine, and of all.

    Args:
        nodes: The resources of each machine, as Ray names them.

    Returns:
        Two numbers of bytes.

    Example:
        >>> largest_and_all([{"CPU": 4, "memory": 8e9}, {"memory": 2e9}, {"CPU": 1}])
        (8000000000, 10000000000)
    """
    sizes = [int(node.get("memory", 0)) for node in nodes]
    return max(sizes, default=0), sum(sizes)
