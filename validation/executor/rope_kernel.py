"""A Triton kernel that rotates queries and keys in place, in one launch. CUDA only."""

from typing import Any

import triton
import triton.language as tl
from torch import Tensor


@triton.jit  # type: ignore[untyped-decorator]
def _kernel(  # type: ignore[no-untyped-def]  # noqa: PLR0913, PLR0917
    query,
    key,
    cosines,
    sines,
    tokens,
    query_request,
    query_token,
    query_head,
    key_request,
    key_token,
    key_head,
    angle_request,
    angle_token,
    query_heads,
    key_heads,
    half,
    most_heads: tl.constexpr,
    most_half: tl.constexpr,
):
    """One program for each token of each request."""
    row = tl.program_id(0).to(tl.int64)
    request, token = row // tokens, row % tokens
    column = tl.arange(0, most_half)
    angle = request * angle_request + token * angle_token + column
    known = column < half
    cos = tl.load(cosines + angle, mask=known, other=0.0).to(tl.float32)[None, :]
    sin = tl.load(sines + angle, mask=known, other=0.0).to(tl.float32)[None, :]
    high_cos = tl.load(cosines + angle + half, mask=known, other=0.0).to(tl.float32)[None, :]
    high_sin = tl.load(sines + angle + half, mask=known, other=0.0).to(tl.float32)[None, :]
    head = tl.arange(0, most_heads)
    for part in tl.static_range(2):
        if part == 0:
            base = query + request * query_request + token * query_token
            stride, heads = query_head, query_heads
        else:
            base = key + request * key_request + token * key_token
            stride, heads = key_head, key_heads
        inside = (head < heads)[:, None] & known[None, :]
        first = base + head[:, None] * stride + column[None, :]
        low = tl.load(first, mask=inside, other=0.0).to(tl.float32)
        high = tl.load(first + half, mask=inside, other=0.0).to(tl.float32)
        kind = query.dtype.element_ty
        tl.store(first, (low * cos - high * sin).to(kind), mask=inside)
        tl.store(first + half, (high * high_cos + low * high_sin).to(kind), mask=inside)


def rotate(query: Tensor, key: Tensor, cosines: Tensor, sines: Tensor) -> None:
    """Rotate queries and keys [requests, heads, tokens, head_dim] in place, one launch.

    Cosines and sines are [requests or 1, tokens, rotated dimensions].
    """
    requests, query_heads, tokens, _ = query.shape
    half = cosines.shape[-1] // 2
    launch: Any = _kernel[(requests * tokens,)]
    launch(
        query,
        key,
        cosines,
        sines,
        tokens,
        *(query.stride(0), query.stride(2), query.stride(1)),
        *(key.stride(0), key.stride(2), key.stride(1)),
        *(0 if cosines.shape[0] == 1 else cosines.stride(0), cosines.stride(1)),
        query_heads,
        key.shape[1],
        half,
        most_heads=triton.next_power_of_2(max(query_heads, key.shape[1])),
        most_half=triton.next_power_of_2(half),
    )
