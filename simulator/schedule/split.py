"""How work is divided: chunks of a pass, and the grain at which split points lie."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol, Self

from isotune.simulator.errors import InputError

TILE = 128
"""Split points fall on GEMM tiles: the row count of the common tile of large GEMMs."""
SM_BUDGETS = (1, 2, 4, 6, 8, 12, 16, 20, 24, 32, 48, 64)
"""SMs for a collective that are worth telling apart."""


class PassSizes(Protocol):
    """Sizes of one pass, or of many: integers, or arrays of one shape."""

    @property
    def batch(self) -> Any:
        """Requests."""

    @property
    def tokens(self) -> Any:
        """Tokens each request puts through the blocks."""

    @property
    def context(self) -> Any:
        """Tokens each request already holds in its KV cache."""

    @property
    def groups(self) -> "tuple[Slice, ...]":
        """All requests: those of equal tokens and context together."""


@dataclass(frozen=True, slots=True)
class Slice:
    """`tokens` tokens of each of `requests` requests, after `start` tokens of context.

    In the expansion of many splits at once the sizes are arrays, one element per split.
    """

    first_request: Any
    requests: Any
    start: Any
    tokens: Any

    @property
    def rows(self) -> Any:
        """Rows of the activation matrix."""
        return self.requests * self.tokens


class OneGroup:
    """Passes of requests that are alike."""

    batch: Any
    tokens: Any
    context: Any

    @property
    def groups(self) -> tuple[Slice, ...]:
        """All requests are one group."""
        return (Slice(0, self.batch, self.context, self.tokens),)


@dataclass(frozen=True, slots=True)
class Chunk:
    """What passes the blocks together: a slice of each group of requests that it takes part of."""

    index: int
    slices: tuple[Slice, ...]

    @classmethod
    def of(cls, index: int, first_request: Any, requests: Any, start: Any, tokens: Any) -> Self:
        """A chunk of one slice."""
        return cls(index, (Slice(first_request, requests, start, tokens),))

    @property
    def rows(self) -> Any:
        """Rows of the activation matrix: all the chunk's tokens."""
        return added(part.rows for part in self.slices)

    @property
    def requests(self) -> Any:
        """Requests of all its slices."""
        return added(part.requests for part in self.slices)

    @property
    def only(self) -> Slice:
        """The slice of a chunk that has one.

        Raises:
            InputError: it has several, which the caller cannot run.
        """
        if len(self.slices) > 1:
            raise InputError("a chunk of a mixed batch has requests of several lengths")
        return self.slices[0]

    @property
    def first_request(self) -> Any:
        """The first request of the only slice."""
        return self.only.first_request

    @property
    def start(self) -> Any:
        """Context of the only slice."""
        return self.only.start

    @property
    def tokens(self) -> Any:
        """Tokens of each request of the only slice."""
        return self.only.tokens


def added(sizes: Iterable[Any]) -> Any:
    """The sum of sizes, the size itself where there is one."""
    first, *others = sizes
    return sum(others, first)


def granularity(total: int) -> int:
    """Rows between neighbouring split points; finer than a tile where tiles are too few."""
    return TILE if total >= 4 * TILE else max(1, total // 16)


def sm_budgets(library: int) -> tuple[int | None, ...]:
    """SM budgets worth telling apart: the library's choice (None), and those below its number."""
    return (None, *(sms for sms in SM_BUDGETS if sms < library))
