"""A Hugging Face config.json as blocks: what the configurations of all families share.

A family is a class derived from `Config` in `families`, after the configuration class of
transformers: the same field names, and the same values for omitted fields. Its methods say what
each block is made of. The sizes that every published config states have no default here, since a
wrong guess would go unnoticed.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictStr

from isotune.simulator.architecture.attention import GroupedQuery, QkNorm
from isotune.simulator.architecture.kind import BlockKind, NormPlaces, Parallel
from isotune.simulator.architecture.mlp import Dense
from isotune.simulator.architecture.parts import NormKind, Part

Size = Annotated[int, Field(gt=0, le=100_000_000, strict=True)]
Count = Annotated[int, Field(ge=0, le=100_000_000, strict=True)]
Layers = Annotated[int, Field(gt=0, le=10_000, strict=True)]
FULL = frozenset({"full_attention"})
WINDOWED = frozenset({"full_attention", "sliding_attention"})
PREDICTS_TOKENS = "the part that predicts several tokens at once (MTP)"
_SCORES = ("ForSequenceClassification", "ForRewardModel")


class Biases(NamedTuple):
    """Which projections have a bias: query/key/value, attention output, all of the MLP."""

    attention: bool = False
    out: bool = False
    mlp: bool = False


class Config(BaseModel):
    """What all families share; fields without a bearing on speed or size are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    gated_mlp: ClassVar[bool] = True
    norm: ClassVar[NormKind] = "rms_norm"
    norms: ClassVar[NormPlaces] = "pre"
    qk_norm: ClassVar[QkNorm] = "none"
    layer_kinds: ClassVar[frozenset[str]] = FULL
    """The entries of `layer_types` that the family knows."""
    head_bias: ClassVar[bool] = False

    num_hidden_layers: Layers
    hidden_size: Size
    num_attention_heads: Size
    num_key_value_heads: Size | None = None
    head_dim: Size | None = None
    intermediate_size: Size
    vocab_size: Size
    max_position_embeddings: Size
    tie_word_embeddings: StrictBool = False
    layer_types: tuple[StrictStr, ...] | None = None
    architectures: tuple[StrictStr, ...] | None = None
    num_labels: Size | None = None
    dtype: StrictStr | None = None
    torch_dtype: StrictStr | None = None
    note: StrictStr = ""
    source: StrictStr = ""

    def block(self, index: int) -> BlockKind:
        """What a block is made of, by its place."""
        return BlockKind(
            attention=self.attention(index),
            mlp=self.mlp(index),
            norm=self.norm,
            norms=self.norms,
            parallel=self.parallel,
        )

    @property
    def parallel(self) -> Parallel:
        """Whether attention and MLP stand beside each other."""
        return "no"

    @property
    def blocks_run(self) -> int:
        """Blocks that a text passes."""
        return self.num_hidden_layers

    def attention(self, index: int) -> Part | None:
        """The attention of a block."""
        return self.grouped(index)

    def grouped(self, index: int) -> GroupedQuery:
        """Attention over a KV cache of heads."""
        return GroupedQuery(
            heads=self.num_attention_heads,
            kv_heads=self.num_key_value_heads or self.num_attention_heads,
            head_dim=self.head_dim or self.hidden_size // self.num_attention_heads,
            window=self.window(index),
            bias=self.biases.attention,
            out_bias=self.biases.out,
            qk_norm=self.qk_norm,
        )

    def mlp(self, index: int) -> Part | None:
        """The MLP of a block."""
        del index
        return Dense(columns=self.intermediate_size, gated=self.gated_mlp, bias=self.biases.mlp)

    def window(self, index: int) -> int | None:
        """The sliding window of a block in tokens, if it has one."""
        del index
        return None

    def is_sliding(self, index: int, otherwise: bool) -> bool:
        """Whether `layer_types` gives a block a sliding window, or what holds without them."""
        types = self.layer_types
        return types[index] == "sliding_attention" if types else otherwise

    @property
    def biases(self) -> Biases:
        """Which projections have a bias."""
        return Biases()

    @property
    def head_rows(self) -> int:
        """Outputs of the head: words, or the labels of a model that scores its input."""
        if any(name.endswith(_SCORES) for name in self.architectures or ()):
            return self.num_labels or 1
        return self.vocab_size

    @property
    def left_out(self) -> tuple[str, ...]:
        """Parts of the model that its blocks don't contain, as sentences' ends."""
        return ()

    @property
    def learned_positions(self) -> int:
        """Rows of the table of learned positions."""
        return 0

    @property
    def embedding_size(self) -> int:
        """Width of the token embedding and of the language-model head."""
        return self.hidden_size

    @property
    def final_norm(self) -> bool:
        """Whether a norm stands before the language-model head."""
        return True

    @property
    def contradiction(self) -> str:
        """The field whose value contradicts another, and why; empty if there is none."""
        heads, kv_heads = self.num_attention_heads, self.num_key_value_heads
        if self.head_dim is None and self.hidden_size % heads:
            return (
                f"num_attention_heads: {heads} does not divide hidden_size {self.hidden_size}, "
                "and head_dim is not given"
            )
        if kv_heads and heads % kv_heads:
            return f"num_key_value_heads: {kv_heads} does not divide num_attention_heads {heads}"
        return self._odd_layer_types()

    def _odd_layer_types(self) -> str:
        types = self.layer_types
        if types is None:
            return ""
        for index, name in enumerate(types):
            if name not in self.layer_kinds:
                allowed = ", ".join(sorted(self.layer_kinds))
                return f"layer_types.{index}: {name!r:.40} is not supported (allowed: {allowed})"
        if len(types) < self.num_hidden_layers:
            return f"layer_types: {len(types)} entries for {self.num_hidden_layers} blocks"
        return ""


def too_short(name: str, entries: Sequence[object] | None, blocks: int) -> str:
    """Why a list with an entry per block does not do; empty where it does."""
    if entries is not None and len(entries) < blocks:
        return f"{name}: {len(entries)} entries for {blocks} blocks"
    return ""
