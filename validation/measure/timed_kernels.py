"""The kernels that are measured, as the executor runs them."""

import statistics
import time
from collections.abc import Callable
from itertools import cycle

import torch
from torch import Tensor
from torch.nn import functional

from isotune.validation.executor import (
    Heads,
    attend,
    attention_on,
    collective_of,
    let_host_ahead,
    norm_of,
)

_COLD_BYTES = 256_000_000
"""Operands rotate through this much memory, since a real pass never finds them in cache."""
Kernel = Callable[[], object]


class Kernels:
    """Kernels with operands of one number type on one device."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self._dtype, self._device = dtype, device

    def gemm(self, m: int, n: int, k: int) -> Kernel:
        """y[m, n] = x[m, k] w[n, k]^T."""
        x, weights = self._random(m, k), self._cold(n, k)
        turn = cycle(weights)
        return lambda: functional.linear(x, next(turn))

    def attention(
        self, batch: int, q_len: int, kv_len: int, heads: int, kv_heads: int, head_dim: int
    ) -> Kernel:
        """The last `q_len` of `kv_len` positions attend causally, as in a pass.

        Queries, new keys and new values come token by token from the projections; the new keys
        and values go into the cache first, and the output goes back token by token.
        """
        query = self._random(batch, q_len, heads, head_dim).transpose(1, 2)
        new = [self._random(batch, q_len, kv_heads, head_dim).transpose(1, 2) for _ in "kv"]
        caches = [self._random(batch, kv_heads, kv_len, head_dim) for _ in "kv"]

        def attention() -> Tensor:
            for cache, part in zip(caches, new, strict=True):
                cache[:, :, kv_len - q_len :] = part
            mixed = attend(Heads(query, *caches), head_dim**-0.5)
            return mixed.transpose(1, 2).reshape(batch * q_len, -1)

        return attention

    def attention_name(self, head_dim: int) -> str:
        """The name of the kernel that `attention` measures."""
        return attention_on(self._device, self._dtype, head_dim).name

    def rms_norm(self, tokens: int, hidden: int) -> Kernel:
        """Residual add and norm, as the executor runs them: on a GPU the norm is one kernel."""
        from transformers.models.llama.modeling_llama import LlamaRMSNorm

        normed = norm_of(LlamaRMSNorm(hidden).to(self._device, self._dtype).requires_grad_(False))
        streams = cycle(zip(self._cold(tokens, hidden), self._cold(tokens, hidden), strict=True))

        def norm() -> Tensor:
            residual, partial = next(streams)
            return normed(residual + partial)

        return norm

    def collective(self, kind: str, size: int, ranks: int, group: object) -> Kernel:
        """A collective of a message of `size` bytes, in place."""
        elements = max(ranks, size // self._dtype.itemsize // ranks * ranks)
        message = torch.zeros(elements).to(self._device, self._dtype)
        run = collective_of(kind, ranks, group)
        return lambda: run(message)

    def _cold(self, *shape: int) -> list[Tensor]:
        one = self._random(*shape)
        count = min(max(1, _COLD_BYTES // one.nbytes), 16)
        return [one, *(one.clone() for _ in range(count - 1))]

    def _random(self, *shape: int) -> Tensor:
        return torch.randn(shape, device=self._device, dtype=self._dtype)


def seconds_of(kernel: Kernel, repeats: int, device: torch.device) -> float:
    """Median time of a kernel over repeated runs."""
    return statistics.median(clocks_of(kernel, repeats, device))


def clocks_of(kernel: Kernel, repeats: int, device: torch.device) -> list[float]:
    """Times of a kernel's repeated runs."""
    if device.type == "cuda":
        return _cuda_clocks(kernel, repeats, device)
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        kernel()
        times.append(time.perf_counter() - begin)
    return times


def repeats_of(kernel: Kernel, budget_s: float, device: torch.device) -> int:
    """How often a kernel runs within a time, at least thrice; runs it twice to find out."""
    kernel()
    once = max(seconds_of(kernel, 1, device), 1e-7)
    return max(3, min(200, int(budget_s / once)))


def _cuda_clocks(kernel: Kernel, repeats: int, device: torch.device) -> list[float]:
    events = [tuple(torch.cuda.Event(enable_timing=True) for _ in range(2)) for _ in range(repeats)]
    let_host_ahead(repeats)
    for begin, end in events:
        begin.record()
        kernel()
        end.record()
    torch.cuda.synchronize(device)
    return [float(begin.elapsed_time(end)) / 1e3 for begin, end in events]
