"""Causal attention of a chunk over the keys and values so far."""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from isotune.validation.executor.layers import Heads

_TILE = 64
"""Queries that share a range of keys on a CPU."""


def attend(heads: Heads, scaling: float, window: int | None = None) -> Tensor:
    """Mixed values [requests, heads, tokens, head_dim].

    The queries are the last ones of the keys' positions; each sees the keys up to its own, or
    the last `window` of those. Key/value heads are shared by groups of query heads.
    """
    if heads.query.device.type == "cuda" or heads.query.shape[2] == 1:
        return _attend(heads, scaling, window)
    return _by_tiles(heads, scaling, window)


def _by_tiles(heads: Heads, scaling: float, window: int | None) -> Tensor:
    """Tile by tile, each over only the keys it may see, as FlashAttention does on a GPU.

    On a CPU torch computes what a mask hides, too: a chunk with context would take as long as
    if all its queries saw all keys, and cutting a prompt would cost what it costs no GPU.
    """
    query, key, value = heads
    tokens, seen = query.shape[2], key.shape[2]
    mixed = []
    for first in range(0, tokens, _TILE):
        last = min(first + _TILE, tokens)
        end = seen - tokens + last
        begin = 0 if window is None else max(0, end - (last - first) - window + 1)
        tile = Heads(query[:, :, first:last], key[:, :, begin:end], value[:, :, begin:end])
        mixed.append(_attend(tile, scaling, window))
    return torch.cat(mixed, 2)


def _attend(heads: Heads, scaling: float, window: int | None) -> Tensor:
    query, key, value = heads
    tokens, seen = query.shape[2], key.shape[2]
    banded = window is not None and window < seen
    shared = query.shape[1] // key.shape[1]
    if shared > 1 and query.device.type == "cuda" and (banded or query.dtype == torch.float32):
        # No kernel shares heads under a mask or in float32 without writing out all scores.
        key, value = (part.repeat_interleave(shared, 1) for part in (key, value))
    mask: Any = None
    if banded:
        assert window is not None
        mask = _band(tokens, seen, window, query.device)
    elif 1 < tokens < seen:
        cuda = query.device.type == "cuda"
        mask = _lower_right(tokens, seen) if cuda else _band(tokens, seen, seen, query.device)
    return functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        is_causal=mask is None and tokens > 1,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )


def _lower_right(tokens: int, seen: int) -> Any:
    """The mask that CUDA's kernels know by its name.

    Its module loads torch's compiler, which no CPU rank needs.
    """
    from torch.nn.attention.bias import causal_lower_right

    return causal_lower_right(tokens, seen)


@lru_cache(maxsize=64)
def _band(tokens: int, seen: int, window: int, device: torch.device) -> Tensor:
    """Which keys a query sees: [tokens, seen], true where the key is one of its last `window`."""
    at = torch.arange(seen - tokens, seen, device=device)[:, None]
    keys = torch.arange(seen, device=device)[None]
    return (keys <= at) & (keys > at - window)
