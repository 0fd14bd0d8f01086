"""Triton kernels of a quantised all-reduce: quantise, sum and requantise, dequantise. CUDA only.

The bytes are those of `Quantiser`: for each rank the elements of its part, then a bf16 scale for
every group of elements. One program works on one group.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_ROUNDING: tl.constexpr = tl.constexpr(12582912.0)
"""1.5 x 2^23: adding it and taking it away rounds to the nearest integer, halves to even. The
casts then round nothing, so that every device and torch give the same bytes."""

_SUBNORMAL: tl.constexpr = tl.constexpr(24576.0)
"""1.5 x 2^14: the same to multiples of 2^-9, the steps of fp8 below its smallest normal 2^-6."""


@triton.jit  # type: ignore[untyped-decorator]
def _stored(values, scales, packed, largest, whole: tl.constexpr, inside):  # type: ignore[no-untyped-def]
    """Store a group in one byte an element, and its scale."""
    highest = tl.max(tl.abs(values), 0)
    bits = (highest / largest).to(tl.int32, bitcast=True)
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & -65536  # to the nearest bf16, halves to even
    scale = bits.to(tl.float32, bitcast=True)
    steps = values / tl.maximum(scale, 1e-30)
    if whole:
        steps = (steps + _ROUNDING) - _ROUNDING
        bytes_ = tl.clamp(steps, -largest, largest).to(tl.int8).to(tl.uint8, bitcast=True)
    else:
        bits = steps.to(tl.int32, bitcast=True)
        bits = (bits + 0x7FFFF + ((bits >> 20) & 1)) & -1048576  # three bits after the first
        near = (steps + _SUBNORMAL) - _SUBNORMAL
        steps = tl.where(tl.abs(steps) < 0.015625, near, bits.to(tl.float32, bitcast=True))
        clamped = tl.clamp(steps, -largest, largest)
        bytes_ = clamped.to(tl.float8e4nv).to(tl.uint8, bitcast=True)
    tl.store(packed, bytes_, mask=inside)
    tl.store(scales, scale.to(tl.bfloat16))


@triton.jit  # type: ignore[untyped-decorator]
def _loaded(scales, packed, whole: tl.constexpr, inside):  # type: ignore[no-untyped-def]
    """The values of a group in float32."""
    bytes_ = tl.load(packed, mask=inside, other=0)
    if whole:
        steps = bytes_.to(tl.int8, bitcast=True).to(tl.float32)
    else:
        steps = bytes_.to(tl.float8e4nv, bitcast=True).to(tl.float32)
    return steps * tl.load(scales).to(tl.float32)


@triton.jit  # type: ignore[untyped-decorator]
def _quantise(  # type: ignore[no-untyped-def]  # noqa: PLR0913, PLR0917
    source,
    packed,
    scales,
    elements,
    part,
    row,
    group,
    largest,
    whole: tl.constexpr,
    most: tl.constexpr,
):
    """Group `program 0` of the part of rank `program 1`; what lies beyond the message is 0."""
    at, inside = tl.arange(0, most), tl.arange(0, most) < group
    rank = tl.program_id(1).to(tl.int64)
    first = tl.program_id(0) * group
    index = rank * part + first + at
    values = tl.load(source + index, mask=inside & (index < elements), other=0.0).to(tl.float32)
    scale = scales + rank * (row // 2) + tl.program_id(0)
    _stored(values, scale, packed + rank * row + first + at, largest, whole, inside)


@triton.jit  # type: ignore[untyped-decorator]
def _sum(  # type: ignore[no-untyped-def]  # noqa: PLR0913, PLR0917
    received,
    received_scales,
    total,
    total_scales,
    ranks,
    row,
    group,
    largest,
    whole: tl.constexpr,
    most: tl.constexpr,
):
    """Group `program 0` of all ranks' contributions, summed and quantised again."""
    at, inside = tl.arange(0, most), tl.arange(0, most) < group
    first = tl.program_id(0) * group
    values = tl.zeros((most,), tl.float32)
    for rank in range(ranks):
        scale = received_scales + rank * (row // 2) + tl.program_id(0)
        values += _loaded(scale, received + rank * row + first + at, whole, inside)
    _stored(values, total_scales + tl.program_id(0), total + first + at, largest, whole, inside)


@triton.jit  # type: ignore[untyped-decorator]
def _dequantise(  # type: ignore[no-untyped-def]  # noqa: PLR0913, PLR0917
    packed,
    scales,
    target,
    elements,
    part,
    row,
    group,
    whole: tl.constexpr,
    most: tl.constexpr,
):
    """Group `program 0` of the part of rank `program 1`, into the message."""
    at, inside = tl.arange(0, most), tl.arange(0, most) < group
    rank = tl.program_id(1).to(tl.int64)
    first = tl.program_id(0) * group
    scale = scales + rank * (row // 2) + tl.program_id(0)
    values = _loaded(scale, packed + rank * row + first + at, whole, inside)
    index = rank * part + first + at
    tl.store(target + index, values.to(target.dtype.element_ty), mask=inside & (index < elements))


class FusedCodec:
    """The three kernels; see `Codec`."""

    def __init__(self, dtype: torch.dtype, largest: float, group: int) -> None:
        self._group, self._largest = group, largest
        self._constants: Any = {
            "whole": dtype == torch.int8,
            "most": triton.next_power_of_2(group),
        }

    def quantise(self, message: Tensor, ranks: int) -> Tensor:
        """See `Codec`."""
        unit = ranks * self._group
        part = -(-message.numel() // unit) * self._group
        row = part + 2 * (part // self._group)
        packed = torch.empty(ranks, row, dtype=torch.uint8, device=message.device)
        launch: Any = _quantise[(part // self._group, ranks)]
        launch(
            message,
            packed,
            _scales(packed, part),
            message.numel(),
            part,
            row,
            self._group,
            self._largest,
            **self._constants,
        )
        return packed

    def total(self, received: Tensor) -> Tensor:
        """See `Codec`."""
        ranks, row = received.shape
        part = self._part(row)
        total = torch.empty(row, dtype=torch.uint8, device=received.device)
        launch: Any = _sum[(part // self._group,)]
        launch(
            received,
            _scales(received, part),
            total,
            _scales(total, part),
            ranks,
            row,
            self._group,
            self._largest,
            **self._constants,
        )
        return total

    def restore(self, gathered: Tensor, message: Tensor) -> None:
        """See `Codec`."""
        ranks, row = gathered.shape
        part = self._part(row)
        launch: Any = _dequantise[(part // self._group, ranks)]
        launch(
            gathered,
            _scales(gathered, part),
            message,
            message.numel(),
            part,
            row,
            self._group,
            **self._constants,
        )

    def _part(self, row: int) -> int:
        return row * self._group // (self._group + 2)


def _scales(packed: Tensor, part: int) -> Tensor:
    """The scales of the first rank; the other ranks' lie a row further each."""
    return packed.view(-1)[part:].view(torch.bfloat16)
