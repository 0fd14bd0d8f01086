"""Attention over a KV cache of heads, as the modules of each family have it."""

import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from isotune.simulator.architecture import Activation, Attend, Op, Qkv, Rope, RowParallel
from isotune.validation.executor.causal_attention import WRITTEN, attend, attention_on
from isotune.validation.executor.fused_ops import (
    norm_of,
    rotate_in_place,
    rotates_in_one_kernel,
)
from isotune.validation.executor.layers.caches import TokenCache
from isotune.validation.executor.layers.contract import Heads, Place, Run
from isotune.validation.executor.layers.products import Products


class GroupedAttention:
    """Separate projections, norms of each head where the module has them, rotation.

    `kind` is the layer's entry of `layer_types`, which may have a rotation of its own.
    """

    out_name = "o_proj"

    def __init__(self, module: Any, kind: str | None, window: int | None) -> None:
        self.module, self._kind, self._window = module, kind, window
        self.out: Any = getattr(module, self.out_name)
        self.bias: Tensor | None = self.out.bias
        self.head_dim: int = module.head_dim
        self._products = self._of_one_input()
        self._only_runs = False
        self._sinks: Tensor | None = getattr(module, "sinks", None)
        self._softcap: float | None = getattr(module, "attn_logit_softcapping", None)

    @property
    def ops(self) -> Mapping[type[Op], Run]:
        """See `Sublayer`."""
        return {Qkv: self._qkv, Rope: self._rope, Attend: self._attend}

    def is_last(self, op: Op) -> bool:
        """See `Sublayer`."""
        return isinstance(op, RowParallel)

    def only_run(self) -> None:
        """See `Sublayer`: the products of one input become one, heads are rotated in place."""
        if self._products is not None:
            self._products.join()
        self._only_runs = True

    def _of_one_input(self) -> Products | None:
        """The projections, where they are not joined in the checkpoint."""
        module = self.module
        return Products(module.q_proj, module.k_proj, module.v_proj)

    def kernel(self, like: Tensor) -> str:
        """See `Sublayer`."""
        if self._softcap is not None or self._sinks is not None:
            return WRITTEN
        return attention_on(like.device, like.dtype, self.head_dim).name

    def cache(self, requests: int, tokens: int, like: Tensor) -> TokenCache:
        """Keys and values of this rank's heads."""
        heads = (self._kv_heads, self.head_dim)
        return TokenCache((heads, heads), requests, tokens, like)

    @property
    def _kv_heads(self) -> int:
        return int(self.module.k_proj.weight.shape[0]) // self.head_dim

    def product(self, work: Tensor, rows: slice) -> Tensor:
        """See `Sublayer`; takes the heads' outputs [rows, heads x head_dim]."""
        return functional.linear(work[rows], self.out.weight)

    def _qkv(self, _: Op, hidden: Tensor, place: Place) -> Any:
        return self._projected(hidden.view(place.chunk.requests, place.chunk.tokens, -1), place)

    def _projected(self, hidden: Tensor, place: Place) -> Any:
        del place
        assert self._products is not None
        query, key, value = self._products(hidden)
        return Heads(
            self._heads(query, self._head_norm("q_norm")),
            self._heads(key, self._head_norm("k_norm")),
            self._heads(value),
        )

    def _head_norm(self, name: str) -> Callable[[Tensor], Tensor] | None:
        """The norm of each head of a projection, where there is one."""
        norm = getattr(self.module, name, None)
        return None if norm is None else norm_of(norm)

    def _rope(self, _: Op, heads: Heads, place: Place) -> Heads:
        """Rotate queries and keys by their positions."""
        apply = sys.modules[type(self.module).__module__].apply_rotary_pos_emb
        rotation = place.rotations[self._kind]
        if self._only_runs and rotates_in_one_kernel(heads.query.device, apply):
            rotate_in_place(heads.query, heads.key, *rotation)
            return heads
        query, key = apply(heads.query, heads.key, *rotation)
        return Heads(query, key, heads.value)

    def _attend(self, _: Op, heads: Heads, place: Place) -> Tensor:
        key, value = place.cache.extend(place.chunk, heads.key, heads.value)
        mixed = attend(
            Heads(heads.query, key, value),
            self.module.scaling,
            self._window,
            softcap=self._softcap,
            sinks=self._sinks,
        )
        return mixed.transpose(1, 2).reshape(place.chunk.rows, -1)

    def _heads(self, projected: Tensor, norm: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        heads = projected.view(*projected.shape[:-1], -1, self.head_dim)
        return (norm(heads) if norm else heads).transpose(1, 2)


class OptAttention(GroupedAttention):
    """OPT: its output projection has another name."""

    out_name = "out_proj"


class FusedQkv(GroupedAttention):
    """Phi-3: query, key and value in one projection; keys and values are equally wide."""

    def _of_one_input(self) -> None:
        """There is one."""

    @property
    def _kv_heads(self) -> int:
        fused, queries = self.module.qkv_proj.weight.shape[0], self.out.weight.shape[1]
        return int(fused - queries) // (2 * self.head_dim)

    def _projected(self, hidden: Tensor, place: Place) -> Any:
        del place
        fused, keys = self.module.qkv_proj(hidden), self._kv_heads * self.head_dim
        widths = (self.out.weight.shape[1], keys, keys)
        return Heads(*map(self._heads, fused.split(widths, dim=-1)))


class ProjectionNorm(GroupedAttention):
    """OLMo 2: a norm of all heads of a projection together, whose mean is over all ranks' heads."""

    def _projected(self, hidden: Tensor, place: Place) -> Any:
        assert self._products is not None
        module = self.module
        query, key, value = self._products(hidden)
        # Every rank holds equally many heads, copies included, so the mean of means is the mean.
        means = torch.stack([part.float().square().mean(-1) for part in (query, key)])
        means = place.mean_over_ranks(means)
        query, key = (
            _normed(part, mean, norm)
            for part, mean, norm in zip(
                (query, key), means, (module.q_norm, module.k_norm), strict=True
            )
        )
        return Heads(*map(self._heads, (query, key, value)))


def _normed(hidden: Tensor, mean: Tensor, norm: Any) -> Tensor:
    scale = torch.rsqrt(mean + norm.variance_epsilon)[..., None]
    scaled: Tensor = (norm.weight * (hidden.float() * scale)).to(hidden.dtype)
    return scaled


class _Gated(NamedTuple):
    """Heads, or what attention makes of them, beside the gate [requests, tokens, width]."""

    work: Any
    gate: Tensor


class GatedAttention(GroupedAttention):
    """Qwen3-Next: the query projection has a gate on what attention returns beside each head."""

    @property
    def ops(self) -> Mapping[type[Op], Run]:
        """See `Sublayer`."""
        return {**super().ops, Activation: self._gate}

    def _projected(self, hidden: Tensor, place: Place) -> Any:
        assert self._products is not None
        both, key, value = self._products(hidden)
        query, gate = both.view(*hidden.shape[:-1], -1, 2 * self.head_dim).chunk(2, dim=-1)
        heads = Heads(
            self._heads(query.reshape(*hidden.shape[:-1], -1), self._head_norm("q_norm")),
            self._heads(key, self._head_norm("k_norm")),
            self._heads(value),
        )
        return _Gated(heads, gate.reshape(place.chunk.rows, -1))

    def _rope(self, op: Op, heads: Any, place: Place) -> Any:
        return heads._replace(work=super()._rope(op, heads.work, place))

    def _attend(self, op: Op, heads: Any, place: Place) -> Any:
        return heads._replace(work=super()._attend(op, heads.work, place))

    def _gate(self, _: Op, mixed: _Gated, place: Place) -> Tensor:
        del place
        gated: Tensor = mixed.work * torch.sigmoid(mixed.gate)
        return gated
