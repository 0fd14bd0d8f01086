"""Causal attention of a chunk over the keys and values so far."""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention.bias import causal_lower_right

from validation.layers import Heads


def attend(heads: Heads, scaling: float, window: int | None = None) -> Tensor:
    """Mixed values [requests, heads, tokens, head_dim].

    The queries are the last ones of the keys' positions; each sees the keys up to its own, or
    the last `window` of those. Key/value heads are shared by groups of query heads.
    """
    query, key, value = heads
    tokens, seen = query.shape[2], key.shape[2]
    mask: Any = None
    if window is not None and window < seen:
        mask = _band(tokens, seen, window, query.device)
    elif 1 < tokens < seen:
        cuda = query.device.type == "cuda"
        mask = causal_lower_right(tokens, seen) if cuda else _band(tokens, seen, seen, query.device)
    return functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        is_causal=mask is None and tokens > 1,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )


@lru_cache(maxsize=64)
def _band(tokens: int, seen: int, window: int, device: torch.device) -> Tensor:
    """Which keys a query sees: [tokens, seen], true where the key is one of its last `window`."""
    at = torch.arange(seen - tokens, seen, device=device)[:, None]
    keys = torch.arange(seen, device=device)[None]
    return (keys <= at) & (keys > at - window)
