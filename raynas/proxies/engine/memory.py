"""Memory that goes from pass to pass without a detour through the kernel."""

from __future__ import annotations

import ctypes
import functools
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


@functools.cache
def keep_memory() -> None:
    """Let this process keep the memory of feature maps that are gone, for those to come.

    glibc hands blocks of this size back to the kernel, which clears each page before it gives it
    out again: a fifth of a pass of CIFAR images. The process stays as large as its largest pass
    made it. Done once; other C libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, 1 << 30)
        mallopt(_TRIM_THRESHOLD, 1 << 30)
