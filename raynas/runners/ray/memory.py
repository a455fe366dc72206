"""This module measures the memory that a worker takes of its device, and limits it."""

from __future__ import annotations

import faulthandler
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from raynas.runners.placement import CONTEXT, ResourceRequest

_STDERR = 2


class PeakMemory:
    """A measurement of the most memory that this process has had since a moment.

    On a GPU it is what torch has reserved, and the context. The main memory of a process may never
    shrink, so there a peak is known only if it is higher than all before.

    Args:
        device: A torch name, such as ``cpu`` or ``cuda``.
        share: The worker's share of the device; its limit is set.
    """

    def __init__(self, device: str, share: ResourceRequest) -> None:
        self._device, self._before = device, _resident()
        if device != "cpu":
            _clear(device, share)

    def bytes(self) -> int:
        """Return the most memory since this object was made.

        Returns:
            Bytes; 0 if it is not known.
        """
        if self._device == "cpu":
            now = _resident()
            return now if now > self._before else 0
        import torch

        return torch.cuda.max_memory_reserved(self._device) + CONTEXT


def _clear(device: str, share: ResourceRequest) -> None:
    """Free the memory that torch does not use, and set the limit of the share."""
    import torch

    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    if share.limit:
        total = torch.cuda.get_device_properties(device).total_memory
        fraction = min(share.gpus, 1.0) - CONTEXT / total
        torch.cuda.set_per_process_memory_fraction(max(fraction, 0.01), device)


def _resident() -> int:
    """Return the most bytes of main memory that this process has ever had."""
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@contextmanager
def watched(patience: float | None) -> Iterator[None]:
    """End this process if the code in this context takes too long.

    It works wherever the code hangs: the watch is a thread in C, which does not need the
    interpreter. The traceback of the code that hung is written to stderr.

    Args:
        patience: Seconds; None sets no limit.

    Yields:
        None.
    """
    if patience is None:
        yield
        return
    faulthandler.dump_traceback_later(patience, exit=True, file=_STDERR)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
