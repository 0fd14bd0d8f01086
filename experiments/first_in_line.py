"""Lets a benchmark run before whatever else a Linux machine does, as far as the kernel allows."""

import ctypes
import os
import struct
from contextlib import suppress
from pathlib import Path

_SCHED_SETATTR = 314  # x86-64
_SLICE_NS = 200_000


def first_in_line() -> None:
    """Give this process and its children a session of their own with the highest weight.

    Short slices let a rank that wakes up run at once. Needs root; whatever is refused is left.
    """
    with suppress(OSError):
        os.setsid()
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text("-20")
    # size, SCHED_OTHER, flags, nice, priority, slice, deadline, period, utilisation
    attributes = struct.pack("IIQiIQQQII", 56, 0, 0, -10, 0, _SLICE_NS, 0, 0, 0, 0)
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).syscall(_SCHED_SETATTR, 0, ctypes.create_string_buffer(attributes), 0)
