"""What every block keeps of the tokens before, for a whole prompt and what it generates."""

from typing import Any, Self

from isotune.validation.executor.shard import Shard


class KvCache(tuple[Any, ...]):
    """The cache of every block, as its attention keeps it (keys and values, or a state)."""

    __slots__ = ()

    @classmethod
    def empty(cls, shard: Shard, requests: int, tokens: int) -> Self:
        """A cache for so many tokens of each request."""
        like = shard.embedding
        return cls(
            layer.sublayers["attention"].cache(requests, tokens, like) for layer in shard.layers
        )
