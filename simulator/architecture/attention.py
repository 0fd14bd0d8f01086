"""Attention with a KV cache of heads (MHA, GQA, MQA), and its variants."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

from isotune.simulator.architecture.block import (
    Activation,
    Attend,
    ChunkedAttend,
    Collective,
    ContextAttend,
    Op,
    Qkv,
    Rope,
    RowParallel,
    Segment,
)
from isotune.simulator.architecture.parallelism import Parallelism
from isotune.simulator.architecture.parts import indivisible, uneven

QkNorm = Literal["none", "shared", "by_head", "unweighted", "projection"]
"""Norms of queries and keys: none; of each head, with one weight for all heads, one for each head
or none; or of all heads of a projection together."""

QKV = tuple(
    f"{parent}.{name}"
    for parent in ("self_attn", "self_attention", "attention", "mixer")
    for name in ("q_proj", "k_proj", "v_proj", "qkv_proj", "query_key_value")
)
OUT = (
    "self_attn.o_proj",
    "self_attn.out_proj",
    "self_attention.dense",
    "attention.dense",
    "mixer.o_proj",
)
"""Modules of checkpoints that hold the projections, in every family's spelling."""


@dataclass(frozen=True, kw_only=True)
class GroupedQuery:
    """Causal attention whose `kv_heads` each serve as many of the `heads`.

    `value_dim` is the width of a head's values where it differs from that of its keys. `window`
    is the sliding window in tokens, None where every query sees all keys before it; `chunked` says
    that queries see the keys of their own window-sized piece of the sequence instead. `gate` has
    the elements per head of a gate on what attention returns. `sinks` are learned logits, one per
    head, that take part in the softmax only. `shared_kv` says that the keys are the values.
    """

    heads: int
    kv_heads: int
    head_dim: int
    value_dim: int | None = None
    window: int | None = None
    chunked: bool = False
    bias: bool = False
    out_bias: bool = False
    qk_norm: QkNorm = "none"
    rotary: bool = True
    gate: int = 0
    sinks: bool = False
    shared_kv: bool = False

    def gathered(
        self, hidden: int, how: Parallelism, before: Sequence[Op], total: Collective
    ) -> tuple[Segment, ...]:
        """What a rank does with its part of a prompt, after `before`; `total` completes its sum.

        It projects and rotates its own tokens, gathers the keys and values of all of them, and
        attends with its own queries.
        """
        ops = self.ops(hidden, how.tp)
        at = next(index for index, op in enumerate(ops) if isinstance(op, Attend))
        attend = ops[at]
        assert isinstance(attend, Attend)
        sizes = {field.name: getattr(attend, field.name) for field in fields(attend)}
        gather = Collective(
            name="kv_all_gather",
            sublayer="attention",
            kind="all_gather",
            elements=attend.cache_elements,
            group="cp",
        )
        after = (ContextAttend(**sizes, shares=how.cp), *ops[at + 1 :])
        return (
            Segment(sublayers=((*before, *ops[:at]),), collective=gather),
            Segment(sublayers=(after,), collective=total),
        )

    def ops(self, hidden: int, tp: int) -> tuple[Op, ...]:
        """Projections, rotation, attention and output projection of a rank's heads."""
        heads, kv_heads = self.heads // tp, max(1, self.kv_heads // tp)
        width, values = self.head_dim, self.value_dim or self.head_dim
        projected = width if self.shared_kv else width + values
        qkv = heads * (width + self.gate) + kv_heads * projected
        mixed = heads * values
        attend = ChunkedAttend if self.chunked else Attend
        rope = Rope(
            name="rope",
            sublayer="attention",
            # In place; the copy of new keys and values to the cache is attention's.
            elements=(2 * heads + 2 * kv_heads) * width,
            parameters=width * self._normed_heads(heads, kv_heads),
        )
        gate = Activation(
            name="attention_gate", sublayer="attention", elements=2 * mixed + heads * self.gate
        )
        return (
            Qkv(
                name="qkv",
                sublayer="attention",
                n=qkv,
                k=hidden,
                modules=QKV,
                joined=(heads * width, kv_heads * width),
                parameters=qkv * (hidden + self.bias),
            ),
            *((rope,) if self.rotary or self.qk_norm != "none" else ()),
            attend(
                name="attention",
                sublayer="attention",
                heads=heads,
                kv_heads=kv_heads,
                head_dim=width,
                value_dim=self.value_dim,
                window=self.window,
                parameters=heads * self.sinks,
            ),
            *((gate,) if self.gate else ()),
            RowParallel(
                name="attention_out",
                sublayer="attention",
                n=hidden,
                k=mixed,
                modules=OUT,
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
        width, values = self.head_dim, self.value_dim or self.head_dim
        kv_heads = max(1, self.kv_heads // tp)
        return (self.heads // tp) * (width + values) + kv_heads * (width + values)

    @property
    def text(self) -> str:
        """In a few words, for people."""
        kind = "MHA" if self.heads == self.kv_heads else "GQA" if self.kv_heads > 1 else "MQA"
        width = f"{self.head_dim}/{self.value_dim}" if self.value_dim else f"{self.head_dim}"
        seen = f", {'chunks of' if self.chunked else 'window'} {self.window}" if self.window else ""
        more = ", gated" * bool(self.gate) + ", sinks" * self.sinks
        return f"{kind} {self.heads}/{self.kv_heads} x {width}{seen}{more}"
