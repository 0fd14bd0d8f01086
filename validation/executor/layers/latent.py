"""Multi-head latent attention: the cache holds one latent vector per token for all heads."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from isotune.simulator.architecture import (
    ColumnParallel,
    LatentAttend,
    LatentNorm,
    LatentUp,
    Op,
    Replicated,
    Rope,
    RowParallel,
)
from isotune.validation.executor.causal_attention import attend, attention_on
from isotune.validation.executor.fused_ops import norm_of
from isotune.validation.executor.layers.caches import TokenCache
from isotune.validation.executor.layers.contract import Heads, Place, Run
from isotune.validation.executor.layers.products import Products


@dataclass(frozen=True)
class _Work:
    """What the ops leave for each other.

    `queries` [requests, tokens, width] are compressed, or the normed activations themselves;
    `latent` and `key` are the token's own, [requests, 1, tokens, width]; `query` has the two parts
    of every head, without and with positions.
    """

    queries: Tensor
    latent: Tensor
    key: Tensor
    query: tuple[Tensor, Tensor] | None = None


class LatentAttention:
    """DeepSeek V2 and V3; absorbed in decode, where heads attend to the latent vectors."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.out: Any = module.o_proj
        self.bias: Tensor | None = self.out.bias
        down = (module.kv_a_proj_with_mqa,)
        queries = () if module.q_lora_rank is None else (module.q_a_proj,)
        self._products = Products(*down, *queries)
        self._widths = (module.qk_nope_head_dim, module.qk_rope_head_dim)

    @property
    def ops(self) -> Mapping[type[Op], Run]:
        """See `Sublayer`."""
        return {
            Replicated: self._down,
            LatentNorm: self._norm,
            ColumnParallel: self._query,
            Rope: self._rope,
            LatentUp: self._up,
            LatentAttend: self._attend,
        }

    def is_last(self, op: Op) -> bool:
        """See `Sublayer`."""
        return isinstance(op, RowParallel)

    def only_run(self) -> None:
        """See `Sublayer`: the projections down become one product."""
        self._products.join()

    def kernel(self, like: Tensor) -> str:
        """See `Sublayer`; of a prompt."""
        return attention_on(like.device, like.dtype, sum(self._widths)).name

    def cache(self, requests: int, tokens: int, like: Tensor) -> TokenCache:
        """Latent vectors, and the keys with positions that all heads share."""
        widths = ((1, self.module.kv_lora_rank), (1, self.module.qk_rope_head_dim))
        return TokenCache(widths, requests, tokens, like)

    def product(self, work: Tensor, rows: slice) -> Tensor:
        """See `Sublayer`; takes the heads' outputs [rows, heads x v_head_dim]."""
        return functional.linear(work[rows], self.out.weight)

    def _down(self, _: Op, hidden: Tensor, place: Place) -> _Work:
        module = self.module
        hidden = hidden.view(place.chunk.requests, place.chunk.tokens, -1)
        both, *compressed = self._products(hidden)
        widths = (module.kv_lora_rank, module.qk_rope_head_dim)
        latent, key = both[:, None].split(widths, dim=-1)
        return _Work(compressed[0] if compressed else hidden, latent, key)

    def _norm(self, _: Op, work: _Work, __: Place) -> _Work:
        module = self.module
        queries = work.queries
        if module.q_lora_rank is not None:
            queries = norm_of(module.q_a_layernorm)(queries)
        return replace(work, queries=queries, latent=norm_of(module.kv_a_layernorm)(work.latent))

    def _query(self, _: Op, work: _Work, __: Place) -> _Work:
        module = self.module
        up = module.q_proj if module.q_lora_rank is None else module.q_b_proj
        query = up(work.queries)
        heads = query.view(*query.shape[:-1], -1, sum(self._widths)).transpose(1, 2)
        without, rotated = heads.split(self._widths, dim=-1)
        return replace(work, query=(without, rotated))

    def _rope(self, _: Op, work: _Work, place: Place) -> _Work:
        assert work.query is not None
        query, key = self._rotated(work.query[1], work.key, place.rotations[None])
        return replace(work, query=(work.query[0], query), key=key)

    def _rotated(self, query: Tensor, key: Tensor, rotation: Any) -> tuple[Tensor, Tensor]:
        family: Any = sys.modules[type(self.module).__module__]
        if not isinstance(rotation, tuple):  # DeepSeek V2 turns complex numbers
            both = family.apply_rotary_emb(query, key, rotation)
        elif self.module.config.rope_interleave:
            both = family.apply_rotary_pos_emb_interleave(query, key, *rotation)
        else:
            both = family.apply_rotary_pos_emb(query, key, *rotation)
        return both[0], both[1]

    def _up(self, _: Op, work: _Work, place: Place) -> Heads:
        """Expand the latent vectors seen so far, or project a token's queries to them."""
        assert work.query is not None
        latent, key = place.cache.extend(place.chunk, work.latent, work.key)
        without, rotated = work.query
        if place.chunk.tokens > 1:
            keys, values = self.module.expand_kv(latent, key)
            return Heads(torch.cat(work.query, -1), keys, values)
        to_keys, _ = self._absorbed()
        query = torch.cat((without @ to_keys, rotated), -1)
        return Heads(query, torch.cat((latent, key), -1), latent)

    def _attend(self, _: Op, heads: Heads, place: Place) -> Tensor:
        mixed = attend(heads, self.module.scaling)
        if place.chunk.tokens == 1:
            mixed = mixed @ self._absorbed()[1].transpose(1, 2)
        return mixed.transpose(1, 2).reshape(place.chunk.rows, -1)

    def _absorbed(self) -> tuple[Tensor, Tensor]:
        """The rows of the expanding projection that make keys, and those that make values.

        Each is [heads, width, latent].
        """
        module = self.module
        widths = (module.qk_nope_head_dim, module.v_head_dim)
        both = module.kv_b_proj.weight.view(-1, sum(widths), module.kv_lora_rank)
        to_keys, to_values = both.split(widths, dim=1)
        return to_keys, to_values
