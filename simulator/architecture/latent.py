"""Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434), and its sparse form."""

from dataclasses import dataclass, fields

from isotune.simulator.architecture.block import (
    ColumnParallel,
    IndexScores,
    LatentAttend,
    LatentNorm,
    LatentUp,
    Op,
    Replicated,
    Rope,
    RowParallel,
    SelectedLatentAttend,
)
from isotune.simulator.architecture.parts import indivisible

DOWN = ("self_attn.q_a_proj", "self_attn.kv_a_proj_with_mqa")
QUERIES = ("self_attn.q_b_proj", "self_attn.q_proj")
INDEX_KEYS = ("self_attn.indexer.wk", "self_attn.indexer.weights_proj")
"""Modules of checkpoints that hold the projections."""


@dataclass(frozen=True, kw_only=True)
class Indexer:
    """Scores all keys for every query with a few small heads; `keys` of them are attended to.

    The lightning indexer of DeepSeek-V3.2. Every rank runs it whole.
    """

    heads: int
    width: int
    keys: int
    shared: bool = False
    """Whether the block reuses the choice of a block before it."""


@dataclass(frozen=True, kw_only=True)
class LatentAttention:
    """Keys and values of all heads are projections of one `latent` vector per token.

    Beside it stands a key with positions (`rope` elements) that all heads share. Queries come from
    a compressed vector of `q_rank` elements, or from the hidden state where it is None. The
    compressing projections are replicated, the others are shared between ranks by heads.
    """

    heads: int
    latent: int
    rope: int
    nope: int
    value: int
    q_rank: int | None
    bias: bool = False
    indexer: Indexer | None = None

    def ops(self, hidden: int, tp: int) -> tuple[Op, ...]:
        """Projections down and up, rotation, attention and output projection of a rank's heads."""
        heads = self.heads // tp
        down = (self.q_rank or 0) + self.latent + self.rope
        queries, mixed = heads * (self.nope + self.rope), heads * self.value
        source = self.q_rank or hidden
        up = heads * (self.nope + self.value)
        return (
            Replicated(
                name="latent_down",
                sublayer="attention",
                n=down,
                k=hidden,
                modules=DOWN,
                parameters=down * (hidden + self.bias),
            ),
            LatentNorm(
                name="latent_norm",
                sublayer="attention",
                elements=2 * (down - self.rope),
                parameters=down - self.rope,
            ),
            ColumnParallel(
                name="q_up",
                sublayer="attention",
                n=queries,
                k=source,
                modules=QUERIES,
                joined=(queries,),
                parameters=queries * source,
            ),
            Rope(name="rope", sublayer="attention", elements=2 * (heads + 1) * self.rope),
            LatentUp(
                name="kv_up",
                sublayer="attention",
                n=up,
                k=self.latent,
                modules=("self_attn.kv_b_proj",),
                joined=(up,),
                parameters=up * self.latent,
            ),
            *self._index(hidden),
            self._attend(heads),
            RowParallel(
                name="attention_out",
                sublayer="attention",
                n=hidden,
                k=mixed,
                modules=("self_attn.o_proj",),
                parameters=hidden * (mixed + self.bias),
            ),
        )

    def _attend(self, heads: int) -> LatentAttend:
        plain = LatentAttend(
            name="attention",
            sublayer="attention",
            heads=heads,
            latent=self.latent,
            rope=self.rope,
            nope=self.nope,
            value=self.value,
        )
        if self.indexer is None:
            return plain
        sizes = {field.name: getattr(plain, field.name) for field in fields(plain)}
        return SelectedLatentAttend(keys=self.indexer.keys, **sizes)

    def _index(self, hidden: int) -> tuple[Op, ...]:
        indexer = self.indexer
        if indexer is None or indexer.shared:
            return ()
        source, queries = self.q_rank or hidden, indexer.heads * indexer.width
        small = indexer.width + indexer.heads
        scores = IndexScores(
            name="index_scores",
            sublayer="attention",
            heads=indexer.heads,
            width=indexer.width,
            parameters=2 * indexer.width,
        )
        return (
            Replicated(
                name="index_queries",
                sublayer="attention",
                n=queries,
                k=source,
                modules=("self_attn.indexer.wq_b",),
                parameters=queries * source,
            ),
            Replicated(
                name="index_keys",
                sublayer="attention",
                n=small,
                k=hidden,
                modules=INDEX_KEYS,
                parameters=small * hidden,
            ),
            scores,
        )

    def obstacle(self, tp: int) -> str:
        """Heads are shared."""
        return indivisible(self.heads, "num_attention_heads", tp)

    def widest(self, tp: int) -> float:
        """Queries, expanded keys and values, and what attention returns."""
        return self.heads // tp * (2 * (self.nope + self.rope) + 2 * self.value)

    @property
    def text(self) -> str:
        """In a few words, for people."""
        chosen = f", {self.indexer.keys} keys chosen" if self.indexer else ""
        return f"MLA {self.heads} heads, latent {self.latent} + {self.rope}{chosen}"
