"""The memory of the process."""

from __future__ import annotations

import ctypes
import sys

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> bool:
    """Lets the process keep the memory that it frees; call it before the first computation.

    On a CPU, XLA allocates the temporary memory of a step at its start and frees it at its end.
    glibc returns blocks of that size to the kernel, which clears them anew, page by page, at the
    next step: up to a quarter of a convolutional GAN's time. The peak of memory stays what it was.

    Returns:
      Whether the C library is one that can be told so, glibc; other ones are left as they are.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False
    # Threads share one arena: those of their own fetch every large block from the kernel.
    options = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1), (_M_ARENA_MAX, 1))
    return all([mallopt(option, value) for option, value in options])
