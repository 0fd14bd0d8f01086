"""What a kernel costs: time alone, and what it takes from whatever runs beside it."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


class Cost(NamedTuple):
    """Cost of one kernel; every field is a float or an array of one common shape.

    `seconds` is the kernel's time alone on the GPU. `sm_seconds` <= `seconds` is the part
    that grows when SMs are taken away (tensor-core or instruction bound); `mem_bytes` is
    its device-memory traffic; `flops` its floating-point work. `load` is the number of equal
    thread blocks per SM of a kernel that runs in waves, zero where blocks share SMs evenly.
    """

    seconds: Array
    sm_seconds: Array
    mem_bytes: Array
    flops: Array
    load: Array
