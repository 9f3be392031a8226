"""Gives back to the system what the C library keeps of freed arrays, on a CPU.

The GNU C library serves arrays below a threshold, which grows to 32 MiB with what is freed, from heaps that it rarely
returns: a process that decodes, or that has compiled a large program, then holds hundreds of megabytes of nothing.
"""

import ctypes
import functools

_MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of malloc.h
_OWN_PAGES_FROM = 1 << 20  # bytes


@functools.cache
def _libc() -> ctypes.CDLL | None:
    """The C library, where it is GNU's."""
    try:
        libc = ctypes.CDLL(None)
    except (OSError, TypeError):  # no such thing on this system
        return None
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None


@functools.cache
def give_back_arrays() -> None:
    """From now on an array of a mebibyte or more has pages of its own, which go back when it is freed."""
    if (libc := _libc()) is not None:
        libc.mallopt(_MMAP_THRESHOLD, _OWN_PAGES_FROM)


def trim() -> None:
    """Gives back what is free now, as after a compilation."""
    if (libc := _libc()) is not None:
        libc.malloc_trim(0)
