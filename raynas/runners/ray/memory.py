"""How much memory a worker has taken, and how much it may take, of its device."""

from __future__ import annotations

import faulthandler
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from raynas.runners.placement import CONTEXT, Share

_STDERR = 2


class Peak:
    """The most memory that this process has had since now.

    On a GPU what torch has reserved, and the context. Main memory of a process never shrinks for
    sure, so there a peak is known only where it is higher than all before.
    """

    def __init__(self, device: str, share: Share) -> None:
        self._device, self._before = device, _resident()
        if device != "cpu":
            _clear(device, share)

    def bytes(self) -> int:
        """0 when it is not known."""
        if self._device == "cpu":
            now = _resident()
            return now if now > self._before else 0
        import torch

        return torch.cuda.max_memory_reserved(self._device) + CONTEXT


def _clear(device: str, share: Share) -> None:
    """Give back what is not used, and set the limit of the share."""
    import torch

    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    if share.limit:
        total = torch.cuda.get_device_properties(device).total_memory
        fraction = min(share.gpus, 1.0) - CONTEXT / total
        torch.cuda.set_per_process_memory_fraction(max(fraction, 0.01), device)


def _resident() -> int:
    """The most bytes of main memory that this process has ever had."""
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@contextmanager
def watched(patience: float | None) -> Iterator[None]:
    """What takes longer than ``patience`` seconds ends this process, wherever it hangs: the watch
    is a thread in C, which does not need the interpreter. Where it hung is written to stderr."""
    if patience is None:
        yield
        return
    faulthandler.dump_traceback_later(patience, exit=True, file=_STDERR)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
