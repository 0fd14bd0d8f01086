"""Causal attention of a chunk over the keys and values so far.

On a GPU one kernel runs all of it: a whole prompt, a chunk with context, a window, decode. Two
kernels of unlike speed would charge or favour the chunks that a plan cuts.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from isotune.validation.executor.layers import Heads

_TILE = 64
"""Queries that share a range of keys on a CPU."""
_WRITTEN_TILE = 1024
"""Queries whose scores are in a GPU's memory at once, where no kernel keeps them to itself."""
WRITTEN = "torch products and softmax, scores in memory"
"""The name of what computes attention with bounded scores or sinks."""
_FLASH_TYPES = (torch.bfloat16, torch.float16)
_FLASH_HEADS = 256
"""The widest head of FlashAttention-2; widths are multiples of 8."""


@dataclass(frozen=True)
class AttentionKernel:
    """What computes attention on a device, by the name that results carry.

    `run` takes heads, the scaling of scores, and how many of the last keys a query sees (None:
    all); see `attend`.
    """

    name: str
    run: Callable[[Heads, float, int | None], Tensor]


def attend(
    heads: Heads,
    scaling: float,
    window: int | None = None,
    *,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """Mixed values [requests, heads, tokens, head_dim].

    The queries are the last ones of the keys' positions; each sees the keys up to its own, or
    the last `window` of those. Key/value heads are shared by groups of query heads, and values may
    be narrower than keys. `softcap` bounds the scores (Gemma 2); `sinks` [heads] are scores that
    take part in the softmax only (gpt-oss).
    """
    query = heads.query
    if softcap is not None or sinks is not None:
        tile = _WRITTEN_TILE if query.device.type == "cuda" else _TILE
        one = partial(_written, scaling=scaling, window=window, softcap=softcap, sinks=sinks)
        return _tiled(heads, window, tile, one)
    return attention_on(query.device, query.dtype, query.shape[-1]).run(heads, scaling, window)


@cache
def attention_on(device: torch.device, dtype: torch.dtype, head_dim: int) -> AttentionKernel:
    """The kernel that runs all attention of a number type and head width on a device."""
    if device.type != "cuda":
        return AttentionKernel("torch SDPA, tiles of 64 queries", _by_tiles)
    capability = torch.cuda.get_device_capability(device)
    fits = dtype in _FLASH_TYPES and head_dim % 8 == 0 and head_dim <= _FLASH_HEADS
    if not fits or capability < (8, 0):
        return AttentionKernel("torch SDPA under a mask", _attend)
    return AttentionKernel(_flash_name(capability), _flash)


def _flash_name(capability: tuple[int, int]) -> str:
    """FlashAttention-3 on Hopper where it is installed and torch takes it, else torch's own 2."""
    try:
        from torch.nn.attention import activate_flash_attention_impl
    except ImportError:  # torch before 2.11
        return "FlashAttention-2"
    if capability[0] != 9 or find_spec("flash_attn_interface") is None:
        return "FlashAttention-2"
    activate_flash_attention_impl("FA3")
    return "FlashAttention-3"


def _flash(heads: Heads, scaling: float, window: int | None) -> Tensor:
    """One call whatever the queries: the mask begins at the lower right corner."""
    width = heads.value.shape[-1]
    wide = functional.pad(heads.value, (0, heads.key.shape[-1] - width))
    query, key, value = (part.transpose(1, 2) for part in (heads.query, heads.key, wide))
    banded = window is not None and window < key.shape[1]
    mixed: Tensor = torch.ops.aten._flash_attention_forward(
        query,
        key,
        value,
        None,
        None,
        query.shape[1],
        key.shape[1],
        0.0,  # no dropout
        True,  # causal
        False,
        scale=scaling,
        window_size_left=window - 1 if banded and window is not None else None,
        window_size_right=0 if banded else None,
    )[0]
    return mixed.transpose(1, 2)[..., :width]


def _by_tiles(heads: Heads, scaling: float, window: int | None) -> Tensor:
    """Tile by tile, each over only the keys it may see, as FlashAttention does on a GPU.

    On a CPU torch computes what a mask hides, too: a chunk with context would take as long as
    if all its queries saw all keys, and cutting a prompt would cost what it costs no GPU.
    """
    return _tiled(heads, window, _TILE, partial(_attend, scaling=scaling, window=window))


def _tiled(heads: Heads, window: int | None, tile: int, one: Callable[[Heads], Tensor]) -> Tensor:
    """So many queries at a time, each over only the keys that one of them may see."""
    query, key, value = heads
    tokens, seen = query.shape[2], key.shape[2]
    mixed = []
    for first in range(0, tokens, tile):
        last = min(first + tile, tokens)
        end = seen - tokens + last
        begin = 0 if window is None else max(0, end - (last - first) - window + 1)
        part = Heads(query[:, :, first:last], key[:, :, begin:end], value[:, :, begin:end])
        mixed.append(one(part))
    return torch.cat(mixed, 2)


def _written(
    heads: Heads,
    *,
    scaling: float,
    window: int | None,
    softcap: float | None,
    sinks: Tensor | None,
) -> Tensor:
    """With all scores in memory, where a model does with them what no kernel of torch does."""
    query, key, value = heads
    tokens, seen, shared = query.shape[2], key.shape[2], query.shape[1] // key.shape[1]
    key, value = (part.repeat_interleave(shared, 1) for part in (key, value))
    scores = query @ key.transpose(2, 3) * scaling
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    visible = _band(tokens, seen, window or seen, query.device)
    scores = scores.masked_fill(~visible, float("-inf"))
    if sinks is not None:
        beside = sinks.view(1, -1, 1, 1).expand(*scores.shape[:3], 1)
        scores = torch.cat((scores, beside), -1)
    shares = torch.softmax(scores, -1, dtype=torch.float32).to(value.dtype)
    return shares[..., :seen] @ value


def _attend(heads: Heads, scaling: float, window: int | None) -> Tensor:
    query, key, value = heads
    tokens, seen = query.shape[2], key.shape[2]
    shared = query.shape[1] // key.shape[1]
    if shared > 1 and query.device.type == "cuda":
        # No kernel shares heads under a mask or in float32 without writing out all scores.
        key, value = (part.repeat_interleave(shared, 1) for part in (key, value))
    mask: Any = None
    if window is not None and window < seen:
        mask = _band(tokens, seen, window, query.device)
    elif 1 < tokens < seen:
        mask = _band(tokens, seen, seen, query.device)
    return functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        is_causal=mask is None and tokens > 1,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )


@lru_cache(maxsize=4)
def _band(tokens: int, seen: int, window: int, device: torch.device) -> Tensor:
    """Which keys a query sees: [tokens, seen], true where the key is one of its last `window`."""
    at = torch.arange(seen - tokens, seen, device=device)[:, None]
    keys = torch.arange(seen, device=device)[None]
    return (keys <= at) & (keys > at - window)
