"""What the executor asks of a sublayer: to run one op of a program, and its last product."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from isotune.simulator.architecture import Op
from isotune.simulator.schedule import Chunk

Rotations = Mapping[str | None, Any]
"""Cosines and sines of a chunk's positions, by the kind of layer; empty without rotation."""


class Heads(NamedTuple):
    """Queries, keys and values, each [requests, heads, tokens, head_dim]."""

    query: Tensor
    key: Tensor
    value: Tensor


@dataclass(frozen=True)
class Place:
    """Where a step works: its chunk, what the block keeps of the tokens before, the rotations.

    `mean_over_ranks` is the mean of a small tensor over all ranks.
    """

    chunk: Chunk
    cache: Any
    rotations: Rotations
    mean_over_ranks: Callable[[Tensor], Tensor]


Run = Callable[[Op, Any, Place], Any]
"""Runs an op on what the op before left for it, and returns what it leaves for the next."""


class Sublayer(Protocol):
    """The attention, or what stands in its place, or the MLP of a layer, as one rank holds it.

    Its first op takes normed activations [rows, hidden] of a chunk.
    """

    module: Any
    """transformers' own module, or its layer where that has the projections itself."""
    bias: Tensor | None
    """The bias of its last product, which counts once, whatever the number of ranks."""

    @property
    def ops(self) -> Mapping[type[Op], Run]:
        """How it runs each type of op, but for the last product."""

    def product(self, work: Any, rows: slice) -> Tensor:
        """Its last product, a partial sum [rows, hidden] of a range of the chunk's rows."""

    def is_last(self, op: Op) -> bool:
        """Whether a row-parallel op is the last product."""

    def only_run(self) -> None:
        """Make it as fast as it can run: weights change no more, no gradients are asked for."""

    def kernel(self, like: Tensor) -> str:
        """The name of what mixes tokens, in the type and on the device of `like`; or nothing."""

    def cache(self, requests: int, tokens: int, like: Tensor) -> Any:
        """What it keeps of so many tokens of each request, empty; `like` is a weight."""
