"""Groups of equal sequences: what a batch is made of."""

import re
from collections.abc import Iterable
from typing import Annotated

from pydantic import BeforeValidator, Field

from isotune.simulator.io import Schema

LONGEST, MOST_BATCH = 10_000_000, 65_536
"""Tokens of a sequence and sequences of a batch, at most."""
_TEXT = re.compile(r"([0-9]{1,6})x([0-9]{1,8})(?:[+@]([0-9]{1,8}))?")


class Sequences(Schema):
    """`count` sequences that put `new_tokens` tokens each through the blocks after `context`.

    As text: `1x2048+0` is a prompt of 2048 tokens, `32x1+4096` (or `32x1@4096`) are 32 decodes at
    4096 tokens.
    """

    count: int = Field(ge=1, le=MOST_BATCH, strict=True)
    new_tokens: int = Field(ge=1, le=LONGEST, strict=True)
    context: int = Field(default=0, ge=0, le=LONGEST, strict=True)

    @property
    def kind(self) -> str:
        """`prefill`, `decode` or `chunk`: several tokens of a prompt after earlier ones."""
        if self.context == 0:
            return "prefill"
        return "decode" if self.new_tokens == 1 else "chunk"

    def __str__(self) -> str:
        return f"{self.count}x{self.new_tokens}+{self.context}"


def _read(value: object) -> object:
    if not isinstance(value, str):
        return value
    match = _TEXT.fullmatch(value.strip())
    if match is None:
        raise ValueError(f"{value!r:.40} is not COUNTxNEW@CONTEXT such as 32x1@4096")
    return {
        "count": int(match[1]),
        "new_tokens": int(match[2]),
        "context": int(match[3] or 0),
    }


Group = Annotated[Sequences, BeforeValidator(_read)]


def merged(groups: Iterable[Sequences]) -> tuple[Sequences, ...]:
    """The groups with those of equal sizes put together, in the order of their first."""
    counts: dict[tuple[int, int], int] = {}
    for group in groups:
        key = group.new_tokens, group.context
        counts[key] = counts.get(key, 0) + group.count
    return tuple(
        Sequences(count=count, new_tokens=new, context=context)
        for (new, context), count in counts.items()
    )
