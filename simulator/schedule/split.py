"""How work is divided: chunks of a pass, and the grain at which split points lie."""

from dataclasses import dataclass
from typing import Any, Protocol

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


@dataclass(frozen=True, slots=True)
class Chunk:
    """`tokens` tokens of each of `requests` requests, after `start` tokens of context.

    In the expansion of many splits at once the sizes are arrays, one element per split.
    """

    index: int
    first_request: Any
    requests: Any
    start: Any
    tokens: Any

    @property
    def rows(self) -> Any:
        """Rows of the activation matrix: all the chunk's tokens."""
        return self.requests * self.tokens


def granularity(total: int) -> int:
    """Rows between neighbouring split points; finer than a tile where tiles are too few."""
    return TILE if total >= 4 * TILE else max(1, total // 16)


def sm_budgets(library: int) -> tuple[int | None, ...]:
    """SM budgets worth telling apart: the library's choice (None), and those below its number."""
    return (None, *(sms for sms in SM_BUDGETS if sms < library))
