"""How much of a device a trial gets: by the bytes that its shapes predict, and what was seen.

A trial's share holds what it is predicted to need, so trials that share a device fit on it
together. Shares are powers of two: a worker is used again only by a trial with an equal share.
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
class Device:
    """``count`` GPUs of a cluster with ``bytes`` each. ``kind``: Ray's name; empty for any."""

    bytes: int
    count: float = 1.0
    kind: str = ""


@dataclass(frozen=True)
class Share:
    """What a trial gets. ``gpus``: of one of ``kind``, or whole ones; ``memory``: bytes of main
    memory in Ray's books, 0 for none. ``limit``: the process may not take more of its GPU."""

    gpus: float = 0.0
    memory: int = 0
    kind: str = ""
    limit: bool = False

    def bundle(self, cpus: float) -> dict[str, float]:
        """As Ray's resources."""
        found = {"CPU": cpus, "GPU": self.gpus}
        if self.memory:
            found["memory"] = self.memory
        if self.kind:
            found[f"accelerator_type:{self.kind}"] = 0.001
        return found

    def in_words(self, device: str) -> str:
        """The room that there was on ``device`` (a torch name), for a message."""
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
    """The smallest power of two of a device that holds ``needed`` of its bytes; a whole one where
    none does."""
    share = 1.0
    while share / 2 >= SMALLEST and needed <= share / 2 * device:
        share /= 2
    return share


def memory_share(needed: float, most: int) -> int:
    """The smallest power of two of bytes that holds ``needed``, but no more than ``most``."""
    share = SMALLEST_MEMORY
    while share < needed:
        share *= 2
    return min(share, most)


class Sizes:
    """Peak bytes from predicted ones: a line that lies above all that was seen.

    ``extra``: where it begins until something was seen. Never falls with the prediction.
    """

    def __init__(self, extra: int) -> None:
        self._extra = extra
        self._seen: deque[tuple[float, float]] = deque(maxlen=_KEPT)

    def saw(self, predicted: int, peak: int) -> None:
        self._seen.append((float(predicted), float(peak)))

    def __call__(self, predicted: int) -> int:
        """The bytes to expect."""
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
class Learned:
    """What runs have shown of sizes, of GPUs and of main memory."""

    gpu: Sizes = field(default_factory=lambda: Sizes(CONTEXT))
    memory: Sizes = field(default_factory=lambda: Sizes(PROCESS))


class Placer:
    """Gives out shares, and keeps the books of who has what.

    ``fixed``: what trials get where nothing is fitted. ``devices``: GPUs to fit trials to, if any.
    ``fits_memory``: without them, trials are fitted to the main memory. ``memory``: bytes of that,
    of the largest machine and of all.
    """

    def __init__(
        self,
        fixed: Share,
        memory: tuple[int, int],
        devices: tuple[Device, ...] = (),
        fits_memory: bool = False,
        learned: Learned | None = None,
    ) -> None:
        self._fixed = fixed
        self._devices = tuple(sorted(devices, key=lambda device: device.bytes))
        self._largest, self._all = memory
        self._fits_memory = fits_memory and not devices
        self._learned = learned or Learned()
        self._has: dict[int, Share] = {}
        self._predicted: dict[int, int] = {}
        self._peaks: dict[int, int] = {}
        self._given: dict[int, float] = {}  # bytes of a GPU, or of main memory

    @property
    def asks(self) -> bool:
        """Whether predictions are of any use."""
        return bool(self._devices) or self._fits_memory

    @property
    def least_gpu(self) -> float:
        """The smallest share of a GPU that it gives."""
        return SMALLEST if self._devices else self._fixed.gpus

    def place(self, number: int, predicted: int | None, more: bool = False) -> Share:
        """A share for trial ``number``. ``predicted``: None when that is not known.

        ``more``: it ran out of memory, so it gets twice as much, up to a whole device.
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
        """Whether another trial may fit beside those that are ``live``: what waits, waits first."""
        here = set(live)
        self._has = {number: share for number, share in self._has.items() if number in here}
        if not self._has:
            return True
        if self._devices:
            return any(self._left(device) >= SMALLEST for device in self._devices)
        booked = sum(share.memory for share in self._has.values())
        return not self._fits_memory or booked + SMALLEST_MEMORY <= self._all

    def saw(self, number: int, peak: int, on_gpu: bool) -> None:
        """The most bytes that the trial's process has had so far; 0 when that is not known."""
        predicted = self._predicted.get(number)
        if predicted is not None and peak > self._peaks.get(number, 0):
            self._peaks[number] = peak
            (self._learned.gpu if on_gpu else self._learned.memory).saw(predicted, peak)

    def _of_gpu(self, number: int, predicted: int | None, more: bool) -> Share:
        if predicted is None:
            return Share(1.0, self._fixed.memory, self._devices[-1].kind, limit=True)
        needed = self._needed(number, self._learned.gpu(predicted), more)
        holds = [d for d in self._devices if needed <= d.bytes] or [self._devices[-1]]
        free = (d for d in holds if self._left(d) >= gpu_share(needed, d.bytes))
        device = next(free, holds[0])
        share = gpu_share(needed, device.bytes)
        self._given[number] = share * device.bytes
        return Share(share, self._fixed.memory, device.kind, limit=True)

    def _of_memory(self, number: int, predicted: int | None, more: bool) -> Share:
        if predicted is None:
            return self._fixed
        needed = self._needed(number, self._learned.memory(predicted), more)
        memory = memory_share(needed, self._largest)
        self._given[number] = memory
        return Share(self._fixed.gpus, memory)

    def _needed(self, number: int, expected: float, more: bool) -> float:
        return max(expected, 2 * self._given.get(number, expected)) if more else expected

    def _left(self, device: Device) -> float:
        """Of the devices of a kind; below 0 when trials wait for it."""
        return device.count - sum(s.gpus for s in self._has.values() if s.kind == device.kind)

    def _twice(self, share: Share) -> Share:
        gpus = max(share.gpus, min(2 * share.gpus, 1.0))
        return Share(gpus, min(2 * share.memory, max(share.memory, self._largest)))


def largest_and_all(nodes: Collection[Mapping[str, float]]) -> tuple[int, int]:
    """Of the main memory in the resources of the machines, in bytes."""
    sizes = [int(node.get("memory", 0)) for node in nodes]
    return max(sizes, default=0), sum(sizes)
