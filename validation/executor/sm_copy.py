"""A Triton kernel that holds a number of SMs for a time and copies meanwhile. CUDA only."""

from typing import Any

import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import globaltimer

_BLOCK = 32768
_WARPS = 32
"""32 words for each of 1024 threads: 64 registers a thread, which is the whole register file of an
SM (sm_80, 90, 100). So one program takes one SM, and no other kernel finds room beside it."""


@triton.jit  # type: ignore[untyped-decorator]
def _kernel(source, target, words, nanoseconds, block: tl.constexpr):  # type: ignore[no-untyped-def]
    begin = globaltimer()
    first = tl.program_id(0) * block
    while first < words:
        at = first + tl.arange(0, block)
        inside = at < words
        tl.store(target + at, tl.load(source + at, mask=inside), mask=inside)
        # A program is never ahead of its time, so that the traffic is spread over all of it.
        due = first.to(tl.int64) * nanoseconds // words
        now = globaltimer()
        while now - begin < due:
            now = globaltimer()
        first += tl.num_programs(0) * block
    now = globaltimer()
    while now - begin < nanoseconds:
        now = globaltimer()


def hold_and_copy(source: Tensor, target: Tensor, sms: int, seconds: float) -> None:
    """Copy int32 `source` to `target` on `sms` SMs, taking `seconds`; on the current stream."""
    launch: Any = _kernel[(sms,)]
    words, nanoseconds = source.numel(), int(seconds * 1e9)
    launch(source, target, words, nanoseconds, block=_BLOCK, num_warps=_WARPS)
