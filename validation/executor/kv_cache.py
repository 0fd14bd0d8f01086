"""The keys and values of every block, in place for a whole prompt and what it generates."""

from typing import Self

import torch
from torch import Tensor

from isotune.simulator.schedule import Chunk
from isotune.validation.executor.shard import Shard


class KvCache:
    """Keys and values of one rank's heads, each [blocks, requests, kv_heads, tokens, head_dim].

    A chunk writes its own positions, so a program may run again over what it wrote before.
    """

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self._keys, self._values = keys, values

    @classmethod
    def empty(cls, shard: Shard, requests: int, tokens: int) -> Self:
        """A cache for so many tokens of each request."""
        layer, config = shard.layers[0], shard.config
        kv_heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        shape = (len(shard.layers), requests, max(1, kv_heads // shard.tp), tokens, layer.head_dim)
        keys, values = (torch.zeros(shape, dtype=shard.dtype, device=shard.device) for _ in "kv")
        return cls(keys, values)

    def extend(self, block: int, chunk: Chunk, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Add a chunk's keys and values; returns those its queries may see."""
        requests = slice(chunk.first_request, chunk.first_request + chunk.requests)
        end = chunk.start + chunk.tokens
        seen = []
        for cache, new in ((self._keys, key), (self._values, value)):
            cached = cache[block, requests]
            cached[:, :, chunk.start : end] = new
            seen.append(cached[:, :, :end])
        return seen[0], seen[1]
