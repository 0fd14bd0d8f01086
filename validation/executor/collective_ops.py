"""Collectives of a program by their kind, plain or quantised; the same on NCCL and gloo.

A quantised all-reduce sends each rank's shard of the message to it (all-to-all), sums what
arrives, and gathers the sums; both ways in one byte per element with a 16-bit scale for every
128 elements of a row. Its mathematics is `Quantiser` applied to every summand and to the sum.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from importlib.util import find_spec
from math import gcd
from typing import Any, Final, Protocol, Self

import torch
import torch.distributed as dist
from torch import Tensor

from isotune.simulator.number_types import loses
from isotune.simulator.schedule import CommDtype

GROUP = 128
"""Elements that share a scale, where the rows are a multiple of it."""
_SCALE_BYTES = 2


InPlace = Callable[[Tensor], None]
"""Runs a collective on a contiguous tensor: returns, or leaves the current stream, when done."""
Collectives = Mapping[str, InPlace]
"""What runs each kind of collective."""


@dataclass(frozen=True)
class Quantiser:
    """One byte per element: int8, or the 4-bit-exponent fp8."""

    dtype: torch.dtype
    largest: float
    group: int = GROUP

    def over_rows(self, width: int) -> Self:
        """The quantiser whose groups do not straddle rows of this width."""
        return replace(self, group=gcd(self.group, width))

    def pack(self, values: Tensor) -> Tensor:
        """Bytes [..., elements + scales] of values [..., elements], a multiple of the group."""
        groups = values.unflatten(-1, (-1, self.group)).float()
        scale = (groups.abs().amax(-1, keepdim=True) / self.largest).bfloat16()
        steps = groups / scale.float().clamp_min(1e-30)
        if self.dtype == torch.int8:
            steps = steps.round()
        bytes_ = steps.clamp(-self.largest, self.largest).to(self.dtype).flatten(-2)
        return torch.cat((bytes_.view(torch.uint8), scale.flatten(-2).view(torch.uint8)), -1)

    def unpack(self, packed: Tensor) -> Tensor:
        """The values, in float32, that `pack` stored."""
        elements = packed.shape[-1] * self.group // (self.group + _SCALE_BYTES)
        values, scale = packed.split((elements, packed.shape[-1] - elements), -1)
        groups = values.view(self.dtype).float().unflatten(-1, (-1, self.group))
        return (groups * scale.contiguous().view(torch.bfloat16).float()[..., None]).flatten(-2)


QUANTISERS = {
    "int8": Quantiser(torch.int8, 127.0),
    "fp8": Quantiser(torch.float8_e4m3fn, 448.0),
}


@dataclass(frozen=True)
class PlainAllReduce:
    """The library's all-reduce in the activations' own type."""

    group: Any = None

    def __call__(self, partial: Tensor) -> None:
        """Every rank ends with the same sum."""
        dist.all_reduce(partial, group=self.group)


@dataclass(frozen=True)
class ReduceScatter:
    """The library's reduce-scatter. A rank's own part of the message is summed, no other."""

    ranks: int
    group: Any = None

    def __call__(self, message: Tensor) -> None:
        """See `InPlace`."""
        padded, own = _parts(message, self.ranks, self.group)
        total = torch.empty_like(padded[own])
        _reduce_scatter(total, padded.view(-1), group=self.group)
        _put(message, own * total.numel(), total)


@dataclass(frozen=True)
class AllGather:
    """The library's all-gather of every rank's own part of the message."""

    ranks: int
    group: Any = None

    def __call__(self, message: Tensor) -> None:
        """See `InPlace`."""
        padded, own = _parts(message, self.ranks, self.group)
        gathered = torch.empty_like(padded)
        _all_gather(gathered.view(-1), padded[own].clone(), group=self.group)
        _put(message, 0, gathered.view(-1))


_all_gather: Any = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
_reduce_scatter: Any = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor


def _parts(message: Tensor, ranks: int, group: Any) -> tuple[Tensor, int]:
    """A message, padded, as one part per rank [ranks, elements], and which part is this rank's."""
    flat = message.view(-1)
    padded = torch.nn.functional.pad(flat, (0, -flat.numel() % ranks))
    return padded.view(ranks, -1), dist.get_rank(group)


def _put(message: Tensor, first: int, values: Tensor) -> None:
    """Store values in a message from its element `first` on, without what padding added."""
    place = message.view(-1)[first : first + values.numel()]
    place.copy_(values[: place.numel()])


class Codec(Protocol):
    """What a quantised all-reduce does to a message between its two exchanges.

    Packed bytes are [ranks, elements + scales], a rank's part of the message in each row.
    """

    def quantise(self, message: Tensor, ranks: int) -> Tensor:
        """The packed bytes of a flat message, padded to equal parts."""

    def total(self, received: Tensor) -> Tensor:
        """The packed sum of what all ranks sent of one part: one row."""

    def restore(self, gathered: Tensor, message: Tensor) -> None:
        """Store the values of all parts in a flat message."""


@dataclass(frozen=True)
class TorchCodec:
    """See `Codec`: in torch's ops, one launch each."""

    quantiser: Quantiser

    def quantise(self, message: Tensor, ranks: int) -> Tensor:
        """See `Codec`."""
        padding = -message.numel() % (ranks * self.quantiser.group)
        parts = torch.nn.functional.pad(message, (0, padding)).view(ranks, -1)
        return self.quantiser.pack(parts)

    def total(self, received: Tensor) -> Tensor:
        """See `Codec`."""
        return self.quantiser.pack(self.quantiser.unpack(received).sum(0))

    def restore(self, gathered: Tensor, message: Tensor) -> None:
        """See `Codec`."""
        message.copy_(self.quantiser.unpack(gathered).view(-1)[: message.numel()])


_FP8_CAPABILITY = (8, 9)
"""From which compute capability on a GPU has fp8 numbers."""


@cache
def codec_of(quantiser: Quantiser, device: torch.device) -> Codec:
    """Three kernels on a GPU with Triton; torch's ops elsewhere, and where scales lie unaligned."""
    fused = device.type == "cuda" and find_spec("triton") and quantiser.group % 2 == 0
    if fused and quantiser.dtype != torch.int8:
        fused = torch.cuda.get_device_capability(device) >= _FP8_CAPABILITY
    if not fused:
        return TorchCodec(quantiser)
    from isotune.validation.executor.quantise_kernels import FusedCodec

    return FusedCodec(quantiser.dtype, quantiser.largest, quantiser.group)


@dataclass(frozen=True)
class QuantisedAllReduce:
    """Quantise, exchange parts, sum and requantise the own part, gather, dequantise."""

    quantiser: Quantiser
    ranks: int
    group: Any = None

    def __call__(self, partial: Tensor) -> None:
        """Every rank ends with the same sum, up to rounding."""
        flat = partial.view(-1)
        codec = codec_of(self.quantiser.over_rows(partial.shape[-1]), partial.device)
        packed = codec.quantise(flat, self.ranks)
        received = torch.empty_like(packed)
        dist.all_to_all_single(received, packed, group=self.group)
        gathered = torch.empty_like(packed)
        _all_gather(gathered.view(-1), codec.total(received), group=self.group)
        codec.restore(gathered, flat)


def nccl_options(sms: int | None = None, timeout: timedelta | None = None) -> Any:
    """Options of an NCCL group: urgent, and holding so many SMs, or as many as NCCL likes.

    Before torch 2.8 NCCL's kernels ran on a stream of their own, which the priority of the
    calling stream did not reach: without one they would wait for SMs behind earlier compute.
    torch warns where a group's `timeout` is not that of its options.
    """
    options = dist.ProcessGroupNCCL.Options(is_high_priority_stream=True)
    if timeout is not None:
        options._timeout = timeout
    if sms is not None:
        options.config.min_ctas = options.config.max_ctas = sms
    return options


def group_of(ranks: list[int] | None, *, cuda: bool, sms: int | None = None) -> Any:
    """A group of some ranks, or of all; on GPUs its collectives hold so many SMs.

    All ranks make it together. On GPUs it is as patient as the default group.
    """
    if not cuda:
        return dist.new_group(ranks)
    world: Any = dist.group.WORLD
    patience = world._get_backend(torch.device("cuda")).options._timeout
    return dist.new_group(ranks, timeout=patience, pg_options=nccl_options(sms, patience))


_PLAIN: Final[Mapping[str, Callable[[int, Any], InPlace]]] = {
    "all_reduce": lambda _, group: PlainAllReduce(group),
    "reduce_scatter": ReduceScatter,
    "all_gather": AllGather,
}
"""What runs each kind in the activations' own type, among so many ranks of a group."""


def collective_of(kind: str, ranks: int, group: Any = None) -> InPlace:
    """A collective in the activations' own type.

    Raises:
        TypeError: nothing runs the kind.
    """
    if kind not in _PLAIN:
        raise TypeError(f"the executor has no {kind}")
    return _PLAIN[kind](ranks, group)


def collectives_of(transfer: CommDtype, ranks: int, group: Any = None) -> Collectives:
    """The collectives of a transfer type; `bf16` stands for the activations' own type."""
    if loses(transfer):
        return {"all_reduce": QuantisedAllReduce(QUANTISERS[transfer], ranks, group)}
    return {kind: collective_of(kind, ranks, group) for kind in _PLAIN}
