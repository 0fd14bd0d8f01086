"""Collectives: what one costs, by kind, algorithm, message size, rank count and SM budget.

Every protocol of an algorithm is one line, `t = latency(n) + f(n) * bytes / bandwidth(n)`, and the
fastest protocol that accepts the message carries it (Hockney's model, one line per protocol as in
NCCL's own tuner). n is the number of ranks; f is the bytes a rank sends per message byte:

    ring      2(n-1)/n   reduce-scatter + all-gather; two-shot kernels move the same
    one_shot  n-1        every rank reads every other rank's message
    switch    (n+1)/n    NVLink SHARP: n shards leave to be reduced in the switch, one is multicast

A profile has the lines of the all-reduce, and below `kinds` those of other kinds where they were
measured; the others are derived from the all-reduce's: what a kind sends of them is in `KINDS`.

Bandwidths are bytes per second per rank in one direction: for a ring exactly what nccl-tests calls
busbw, while algbw is bytes / t.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Final, Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from isotune.simulator.errors import InputError
from isotune.simulator.io import Bytes, BytesPerSecond, Dtype, Schema, Seconds
from isotune.simulator.kernels.cost import Array
from isotune.simulator.kernels.inter_node import InterNode
from isotune.simulator.number_types import bytes_of, number_type

Pattern = Literal["ring", "one_shot", "switch"]
OtherKind = Literal["reduce_scatter", "all_gather", "all_to_all"]


class Protocol(Schema):
    """One line of the all-reduce time: a latency, a bandwidth, and how both follow the ranks."""

    name: str = Field(min_length=1, description="LL, LL128, Simple, NVLS, one_shot, ...")
    pattern: Pattern = Field(default="ring", description="who sends what to whom")
    latency: Seconds = Field(gt=0, le=1e-3, description="time of a nearly empty message, 2 ranks")
    latency_per_rank: Seconds = Field(ge=0, le=1e-4, description="added by every further rank")
    bandwidth: BytesPerSecond = Field(ge=1e5, le=1e13, description="per rank, between 2 ranks")
    bandwidth_many: BytesPerSecond = Field(
        ge=1e5, le=1e13, description="per rank, among many ranks"
    )
    min_ranks: int = Field(default=2, ge=2, le=1024, description="fewest ranks it is used for")
    largest: Bytes | None = Field(default=None, gt=0, description="largest message it is used for")

    @model_validator(mode="after")
    def _more_ranks_are_not_faster(self) -> Self:
        if self.bandwidth_many > 2.02 * self.bandwidth:  # rounded figures may be a hair over
            raise ValueError("bandwidth_many must be at most twice bandwidth")
        return self

    def seconds(self, message_bytes: Array, ranks: int, sm_bandwidth: float, kind: "Kind") -> Array:
        """Time for messages of any shape when its SMs move `sm_bandwidth`; infinite if unused."""
        sent = kind.sent(self.pattern, ranks)
        # The switch adds up, yet SMs still issue the loads and stores: as many as a ring's.
        moved = max(sent, kind.sent("ring", ranks))
        per_byte = max(sent / self.bandwidth_at(ranks), moved / sm_bandwidth)
        latency = self.latency + (ranks - 2) * self.latency_per_rank
        usable = np.full(message_bytes.shape, ranks >= self.min_ranks)
        if self.largest is not None:
            usable &= message_bytes <= self.largest
        return np.where(usable, latency + per_byte * message_bytes, np.inf)

    def bandwidth_at(self, ranks: int) -> float:
        """Bandwidth among `ranks` ranks.

        The time per byte goes linearly from the first pair to every further rank: a ring takes
        (2/n) / bandwidth + 2(1 - 2/n) / bandwidth_many per byte, a one-shot 1 / bandwidth +
        (n-2) / bandwidth_many. Measured rank counts lie on this line within a few per cent. A
        switch serves all ranks at once: its bandwidth is that of a pair.
        """
        if self.pattern == "switch":
            return self.bandwidth
        pair = 2 / ranks
        many = min(self.bandwidth_many, 2 * self.bandwidth)
        return (2 - pair) / (pair / self.bandwidth + 2 * (1 - pair) / many)


class Algorithm(Schema):
    """One way to all-reduce: its protocols and what it takes from kernels that run beside it."""

    protocols: tuple[Protocol, ...] = Field(min_length=1)
    sms: int = Field(
        ge=0,
        le=1024,
        description="SMs (channels) it holds when nothing limits it; 0 where it runs elsewhere",
    )
    sm_bandwidth: BytesPerSecond = Field(ge=1e5, le=1e13, description="busbw one SM can move")
    traffic: float = Field(ge=2, le=20, description="device-memory bytes per message byte")
    interference: float = Field(
        default=1.0, ge=1, le=3, description="its time beside compute kernels over its time alone"
    )
    beyond: str | None = Field(default=None, description="algorithm for what its protocols refuse")
    kinds: dict[OtherKind, Annotated[tuple[Protocol, ...], Field(min_length=1)]] = Field(
        default_factory=dict, description="lines of other collectives than the all-reduce"
    )
    norm: bool = Field(
        default=False, description="its time includes the residual's addition and the next norm"
    )
    error: float | None = Field(
        default=None, ge=0, le=1, description="relative standard error; the class's if not given"
    )

    def lines(self, kind: str) -> tuple[Protocol, ...]:
        """The lines of a kind: its own where it was measured, else the all-reduce's."""
        own = {str(name): lines for name, lines in self.kinds.items()}
        return own.get(kind, self.protocols)

    def moved_by(self, sms: int) -> float:
        """Busbw that so many SMs can move; nothing limits an algorithm that holds none."""
        return sms * self.sm_bandwidth if self.sms else float("inf")


class CollectiveParameters(Schema):
    """The all-reduce algorithms of a machine, and the one it uses unless told otherwise."""

    default: str
    algorithms: dict[str, Algorithm] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_exist_and_chains_end(self) -> Self:
        named = [self.default, *(a.beyond for a in self.algorithms.values() if a.beyond)]
        for name in named:
            if name not in self.algorithms:
                raise ValueError(f"unknown algorithm {name!r} (there are: {self._known()})")
        for name in self.algorithms:
            protocols = [p for a in self.chain(name) for p in a.protocols]
            if all(p.largest is not None or p.min_ranks > 2 for p in protocols):
                raise ValueError(f"algorithm {name!r} carries no large message between 2 ranks")
        return self

    def chain(self, name: str | None = None) -> list[Algorithm]:
        """The algorithm of that name (or the default), then those that carry what it refuses.

        Raises:
            InputError: no algorithm of that name.
        """
        if name is not None and name not in self.algorithms:
            raise InputError(f"unknown all-reduce algorithm {name!r} (there are: {self._known()})")
        chain: list[Algorithm] = []
        step: str | None = name or self.default
        while step is not None and self.algorithms[step] not in chain:
            chain.append(self.algorithms[step])
            step = chain[-1].beyond
        return chain

    def carriers(self, kind: str, name: str | None = None) -> list[Algorithm]:
        """The algorithms of a chain that carry a kind: those it was measured with, if any were.

        Raises:
            InputError: no algorithm of that name.
        """
        chain = self.chain(name)
        return [one for one in chain if kind in one.kinds] or chain

    def measured(self, kind: str) -> str | None:
        """The algorithm of the default chain whose lines of another kind were measured, if any."""
        own = [one for one in self.chain() if kind in one.kinds]
        return next((name for name, one in self.algorithms.items() if one in own), None)

    def _known(self) -> str:
        return ", ".join(self.algorithms)


class Network(NamedTuple):
    """Several nodes: the GPUs of each, and what joins them."""

    gpus: int
    inter_node: InterNode


NETWORK_TRAFFIC = 4.0
"""Device-memory bytes per byte that crosses the network: staged out and in, added, stored."""


class CollectiveCost(NamedTuple):
    """Cost of one collective; every field is an array of the message's shape.

    `seconds` alone on the machine, the SMs it holds meanwhile, its device-memory traffic, and
    the factor its time grows by while compute kernels run beside it.
    """

    seconds: Array
    sms: Array
    mem_bytes: Array
    interference: Array


def sent_per_byte(pattern: Pattern, ranks: int) -> float:
    """Bytes a rank sends per message byte of an all-reduce (see the module's table)."""
    factors = {"ring": 2 * (ranks - 1), "one_shot": ranks * (ranks - 1), "switch": ranks + 1}
    return factors[pattern] / ranks


class Kind(NamedTuple):
    """How a kind of collective differs from the all-reduce of the same message.

    `sent` is the bytes a rank sends per message byte, by pattern and ranks. `share` is its part
    of the all-reduce's device-memory traffic and of its time between nodes. `adds` says whether
    numbers are added up on the way, `source` where its figures come from if not from the profile.
    `own` says that every GPU has rows of its own for the other nodes, not a shard of a common
    message.
    """

    sent: Callable[[Pattern, int], float]
    share: float
    adds: bool
    source: str = ""
    own: bool = False


_DERIVED = "derived from the all-reduce's lines: their latency, (n-1)/n of the message sent"


def _half_ring(_pattern: Pattern, ranks: int) -> float:
    """Half a ring's all-reduce; kernels that read their peers' shards move the same."""
    return (ranks - 1) / ranks


KINDS: Final[Mapping[str, Kind]] = {
    "all_reduce": Kind(sent=sent_per_byte, share=1.0, adds=True),
    "reduce_scatter": Kind(sent=_half_ring, share=0.5, adds=True, source=_DERIVED),
    "all_gather": Kind(sent=_half_ring, share=0.5, adds=False, source=_DERIVED),
    "all_to_all": Kind(sent=_half_ring, share=0.5, adds=False, source=_DERIVED, own=True),
}
"""The kinds that have a cost."""


def collective_cost(
    kind: str,
    message_bytes: npt.ArrayLike,
    ranks: int,
    *,
    parameters: CollectiveParameters,
    algorithm: str | None = None,
    dtype: Dtype = "bf16",
    sms: int | None = None,
    network: Network | None = None,
) -> CollectiveCost:
    """Cost of a collective of `message_bytes` (any shape) among `ranks` ranks.

    The message is what a rank has before an all-reduce, a reduce-scatter or an all-to-all, and
    after an all-gather. Nothing is launched, and nothing paid, for one rank or an empty message.
    `sms` is a budget: an algorithm holds at most that many SMs, and its busbw is at most
    `sms * sm_bandwidth`. Ranks beyond one node of `network` run it within each node and between
    nodes in turn.

    Raises:
        InputError: ranks or sms below 1, a negative size, an algorithm that does not exist.
        TypeError: no cost is known for the kind.
    """
    if kind not in KINDS:
        raise TypeError(f"no cost is known for a collective of kind {kind}")
    how = KINDS[kind]
    size = np.asarray(message_bytes, dtype=np.float64)
    _check(size, ranks, sms)
    if network is not None and ranks > network.gpus:
        inside = collective_cost(
            kind,
            size,
            network.gpus,
            parameters=parameters,
            algorithm=algorithm,
            dtype=dtype,
            sms=sms,
        )
        return _across_nodes(inside, size, ranks, network, how)
    sent = (size > 0) & (ranks > 1)
    lanes = _lanes(kind, parameters, algorithm, dtype, sms)
    # One rank sends nothing; two stand in for it, since no protocol is defined below two.
    times = [_seconds(lane, size, max(ranks, 2), how) for lane in lanes]
    fastest = np.min([np.full(size.shape, np.inf), *times], axis=0)
    if np.any(sent & np.isinf(fastest)):
        raise InputError(f"all-reduce algorithm {algorithm or parameters.default!r}: no {dtype}")
    best = np.argmin(times, axis=0)
    held_sms = np.array([float(lane.sms) for lane in lanes])
    traffic = np.array([how.share * lane.algorithm.traffic for lane in lanes])
    interference = np.array([lane.algorithm.interference for lane in lanes])
    return CollectiveCost(
        seconds=np.where(sent, fastest, 0.0),
        sms=np.where(sent, held_sms[best], 0.0),
        mem_bytes=np.where(sent, traffic[best] * size, 0.0),
        interference=np.where(sent, interference[best], 1.0),
    )


def protocol_of(
    kind: str,
    message_bytes: float,
    ranks: int,
    *,
    parameters: CollectiveParameters,
    dtype: Dtype = "bf16",
    sms: int | None = None,
) -> str:
    """The name of the protocol that carries one message under the default algorithm.

    The fastest, as `collective_cost` takes it; several nodes run it within each.

    Raises:
        TypeError: no cost is known for the kind.
    """
    if kind not in KINDS:
        raise TypeError(f"no cost is known for a collective of kind {kind}")
    how, size = KINDS[kind], np.asarray(message_bytes, dtype=np.float64)
    lanes = _lanes(kind, parameters, None, dtype, sms)
    return min(lanes, key=lambda lane: float(_seconds(lane, size, ranks, how))).protocol.name


class _Lane(NamedTuple):
    """One protocol, its algorithm, and the SMs that it may hold."""

    algorithm: Algorithm
    protocol: Protocol
    sms: int


def _lanes(
    kind: str,
    parameters: CollectiveParameters,
    algorithm: str | None,
    dtype: Dtype,
    sms: int | None,
) -> list[_Lane]:
    return [
        _Lane(a, p, min(sms or a.sms, a.sms))
        for a in parameters.carriers(kind, algorithm)
        for p in a.lines(kind)
        if p.pattern != "switch" or not KINDS[kind].adds or number_type(dtype).switch_adds
    ]


def _seconds(lane: _Lane, size: Array, ranks: int, how: Kind) -> Array:
    return lane.protocol.seconds(size, ranks, lane.algorithm.moved_by(lane.sms), how)


def _across_nodes(
    inside: CollectiveCost, size: Array, ranks: int, network: Network, how: Kind
) -> CollectiveCost:
    """A collective inside each node with one between nodes, on every GPU's shard, amid it."""
    shard = size / (1 if how.own else network.gpus)
    seconds = how.share * network.inter_node.seconds(shard, ranks // network.gpus)
    between = np.where(size > 0, seconds, 0.0)
    moved = how.share * NETWORK_TRAFFIC * shard
    return inside._replace(seconds=inside.seconds + between, mem_bytes=inside.mem_bytes + moved)


def quantised_all_reduce(
    elements: npt.ArrayLike,
    ranks: int,
    *,
    parameters: CollectiveParameters,
    memory_pass: Callable[[Array], Array],
    algorithm: str | None = None,
    transfer: Dtype = "int8",
    source: Dtype = "bf16",
    scale_group: int = 128,
    sms: int | None = None,
    network: Network | None = None,
) -> CollectiveCost:
    """Cost of an all-reduce of `source` elements (any shape) that travels as `transfer`.

    Quantise; exchange shards; dequantise, add and requantise the own shard; gather; dequantise.
    Exchange and gather send what one all-reduce of the quantised bytes sends (NCCL moves int8 at
    fp16's busbw), never through a switch, which cannot add scaled integers. Every `scale_group`
    elements carry one 16-bit scale. `memory_pass` prices a kernel that only reads and writes:
    device-memory bytes to seconds; those kernels run on the communication stream too.

    Raises:
        InputError: as `collective_cost`.
    """
    count = np.asarray(elements, dtype=np.float64)
    quantised = count * (bytes_of(transfer) + 2 / scale_group)
    sent = collective_cost(
        "all_reduce",
        quantised,
        ranks,
        parameters=parameters,
        algorithm=algorithm,
        dtype=transfer,
        sms=sms,
        network=network,
    )
    ends = count * bytes_of(source) + quantised
    shard = quantised * (1 + 1 / ranks)
    busy = sent.seconds > 0
    passes = np.where(busy, 2 * memory_pass(ends) + memory_pass(shard), 0.0)
    moved = np.where(busy, 2 * ends + shard, 0.0)
    return sent._replace(seconds=sent.seconds + passes, mem_bytes=sent.mem_bytes + moved)


def _check(size: Array, ranks: int, sms: int | None) -> None:
    if ranks < 1:
        raise InputError(f"ranks is {ranks}; an all-reduce needs at least 1")
    if sms is not None and sms < 1:
        raise InputError(f"sms is {sms}; a collective needs at least 1 SM")
    if np.any(size < 0):
        raise InputError(f"message of {size.min():g} bytes; a size is at least 0")
