"""One kernel runs all attention of a GPU; one of our own stands for it where there is none."""

from types import SimpleNamespace

import pytest
import torch

from isotune.validation.executor import Heads, attend, attention_on, causal_attention

SCALING = 0.25
SHAPES = {
    "a whole prompt": (12, 12, None),
    "a chunk with context": (5, 12, None),
    "a window": (12, 12, 4),
    "a chunk with context and a window": (5, 12, 4),
    "a window wider than the prompt": (12, 12, 40),
    "decode": (1, 12, None),
    "decode with a window": (1, 12, 4),
}


def heads_of(tokens, seen):
    torch.manual_seed(0)
    sizes = {"query": (8, tokens), "key": (2, seen), "value": (2, seen)}
    return Heads(**{name: torch.randn(3, n, rows, 16) for name, (n, rows) in sizes.items()})


def expected(heads, window):
    """Every score written out, and what a query may not see set to nothing."""
    key, value = (part.repeat_interleave(4, 1) for part in (heads.key, heads.value))
    scores = heads.query @ key.transpose(-1, -2) * SCALING
    tokens, seen = scores.shape[-2:]
    at = torch.arange(seen - tokens, seen)[:, None]
    keys = torch.arange(seen)[None]
    hidden = (keys > at) | (keys <= at - (window or seen))
    return scores.masked_fill(hidden, -torch.inf).softmax(-1) @ value


class FlashKernel:
    """Stands for `aten._flash_attention_forward` as FlashAttention-2 documents it."""

    def __init__(self):
        self.calls = 0

    def __call__(self, query, key, value, *rest, scale, window_size_left, window_size_right):
        cu_q, cu_k, max_q, max_k, dropout, causal, debug = rest
        assert (cu_q, cu_k, dropout, causal, debug) == (None, None, 0.0, True, False)
        assert (max_q, max_k) == (query.shape[1], key.shape[1])
        assert scale == SCALING
        assert window_size_right in (None, 0)
        self.calls += 1
        window = None if window_size_left is None else window_size_left + 1
        heads = Heads(*(part.transpose(1, 2) for part in (query, key, value)))
        return expected(heads, window).transpose(1, 2).contiguous(), None


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_one_call_of_one_kernel_on_a_gpu(monkeypatch, shape):
    tokens, seen, window = SHAPES[shape]
    heads, kernel = heads_of(tokens, seen), FlashKernel()
    ops = SimpleNamespace(aten=SimpleNamespace(_flash_attention_forward=kernel))
    monkeypatch.setattr(causal_attention, "torch", SimpleNamespace(ops=ops))
    got = causal_attention._flash(heads, SCALING, window)
    assert kernel.calls == 1
    assert torch.allclose(got, expected(heads, window), atol=1e-6)
    rows = got.transpose(1, 2).reshape(3 * tokens, -1)
    assert rows.data_ptr() == got.data_ptr(), "its output goes on without a copy"


@pytest.mark.parametrize("shape", SHAPES)
def test_the_call_is_one_that_torch_takes(shape):
    tokens, seen, window = SHAPES[shape]
    heads = Heads(*(part.to("meta", torch.bfloat16) for part in heads_of(tokens, seen)))
    assert causal_attention._flash(heads, SCALING, window).shape == heads.query.shape


@pytest.mark.parametrize("shape", SHAPES)
def test_the_tiles_of_a_cpu_give_the_same(shape):
    tokens, seen, window = SHAPES[shape]
    heads = heads_of(tokens, seen)
    assert torch.allclose(attend(heads, SCALING, window), expected(heads, window), atol=1e-6)


@pytest.mark.parametrize(
    ("capability", "dtype", "head_dim", "name"),
    [
        ((9, 0), torch.bfloat16, 128, "FlashAttention-2"),
        ((8, 0), torch.float16, 64, "FlashAttention-2"),
        ((9, 0), torch.float32, 128, "torch SDPA under a mask"),
        ((7, 5), torch.float16, 128, "torch SDPA under a mask"),
        ((9, 0), torch.bfloat16, 100, "torch SDPA under a mask"),
        ((9, 0), torch.bfloat16, 512, "torch SDPA under a mask"),
    ],
)
def test_the_kernel_follows_from_the_device_and_the_type(
    monkeypatch, capability, dtype, head_dim, name
):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    attention_on.cache_clear()
    try:
        assert attention_on(torch.device("cuda:0"), dtype, head_dim).name == name
    finally:
        attention_on.cache_clear()
