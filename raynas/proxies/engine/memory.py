"""Settings of the C library that let passes reuse memory without returning it to the kernel."""

from __future__ import annotations

import ctypes
import functools
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # from glibc's malloc.h


@functools.cache
def keep_memory() -> None:
    """Let this process keep the memory of freed feature maps for later feature maps.

    glibc returns blocks of this size to the kernel, which clears each page before it gives it out
    again: a fifth of the time of a pass of CIFAR images. The process stays as large as its largest
    pass made it. It is done once per process; other C libraries are left unchanged.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, 1 << 30)
        mallopt(_TRIM_THRESHOLD, 1 << 30)
