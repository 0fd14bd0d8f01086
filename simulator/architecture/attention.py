"""Attention with a KV cache of heads (MHA, GQA, MQA), and its variants."""

from dataclasses import dataclass
from typing import Literal

from isotune.simulator.architecture.block import (
    Attend,
    Op,
    Qkv,
    Rope,
    RowParallel,
)
from isotune.simulator.architecture.parts import indivisible, uneven

QkNorm = Literal["none", "shared", "by_head", "unweighted", "projection"]
"""Norms of queries and keys: none; of each head, with one weight for all heads, one for each head
or none; or of all heads of a projection together."""


@dataclass(frozen=True, kw_only=True)
class GroupedQuery:
    """Causal attention whose `kv_heads` each serve as many of the `heads`.

    `window` is the sliding window in tokens, None where every query sees all keys before it.
    `sinks` are learned logits, one per head, that take part in the softmax only.
    """

    heads: int
    kv_heads: int
    head_dim: int
    window: int | None = None
    bias: bool = False
    out_bias: bool = False
    qk_norm: QkNorm = "none"
    sinks: bool = False

    def ops(self, hidden: int, tp: int) -> tuple[Op, ...]:
        """Projections, rotation, attention and output projection of a rank's heads."""
        heads, kv_heads = self.heads // tp, max(1, self.kv_heads // tp)
        width = self.head_dim
        qkv, mixed = (heads + 2 * kv_heads) * width, heads * width
        return (
            Qkv(
                name="qkv",
                sublayer="attention",
                n=qkv,
                k=hidden,
                parameters=qkv * (hidden + self.bias),
            ),
            # In place; the copy of new keys and values to the cache is attention's.
            Rope(
                name="rope",
                sublayer="attention",
                elements=(2 * heads + 2 * kv_heads) * width,
                parameters=width * self._normed_heads(heads, kv_heads),
            ),
            Attend(
                name="attention",
                sublayer="attention",
                heads=heads,
                kv_heads=kv_heads,
                head_dim=width,
                window=self.window,
                parameters=heads * self.sinks,
            ),
            RowParallel(
                name="attention_out",
                sublayer="attention",
                n=hidden,
                k=mixed,
                parameters=hidden * (mixed + self.out_bias),
            ),
        )

    def _normed_heads(self, heads: int, kv_heads: int) -> int:
        """Heads whose norms of queries and keys have weights of their own."""
        if self.qk_norm in ("by_head", "projection"):
            return heads + kv_heads
        return 2 if self.qk_norm == "shared" else 0

    def obstacle(self, tp: int) -> str:
        """Query heads are shared; KV heads are shared or copied."""
        return indivisible(self.heads, "num_attention_heads", tp) or uneven(
            self.kv_heads, "num_key_value_heads", tp
        )

    def widest(self, tp: int) -> float:
        """Queries, keys, values and what attention returns."""
        return (
            2 * (self.heads // tp) * self.head_dim + 2 * max(1, self.kv_heads // tp) * self.head_dim
        )

    @property
    def text(self) -> str:
        """In a few words, for people."""
        kind = "MHA" if self.heads == self.kv_heads else "GQA" if self.kv_heads > 1 else "MQA"
        seen = f", window {self.window}" if self.window else ""
        return f"{kind} {self.heads}/{self.kv_heads} x {self.head_dim}{seen}"
