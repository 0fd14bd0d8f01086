"""Mixtures with attention of their own kinds: gpt-oss, Llama 4, MiniMax, MiMo V2, Step 3."""

from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictStr

from isotune.simulator.architecture.attention import GroupedQuery, QkNorm
from isotune.simulator.architecture.hf_config import (
    PREDICTS_TOKENS,
    WINDOWED,
    Biases,
    Config,
    Count,
    Size,
    too_short,
)
from isotune.simulator.architecture.mlp import Dense, Mixture
from isotune.simulator.architecture.parts import Part
from isotune.simulator.architecture.recurrent import Lightning

Flags = tuple[Literal[0, 1], ...]


class GptOss(Config):
    """Sinks in every block, a window in every second one, biases everywhere."""

    layer_kinds: ClassVar[frozenset[str]] = WINDOWED
    num_key_value_heads: Size | None = 8
    head_dim: Size | None = 64
    max_position_embeddings: Size = 131_072
    sliding_window: Size = 128
    num_local_experts: Size = 128
    num_experts_per_tok: Size = 4
    attention_bias: StrictBool = True

    def window(self, index: int) -> int | None:
        sliding = self.is_sliding(index, otherwise=index % 2 == 0)
        return self.sliding_window if sliding else None

    @property
    def biases(self) -> Biases:
        return Biases(self.attention_bias, self.attention_bias, True)

    def grouped(self, index: int) -> GroupedQuery:
        return replace(super().grouped(index), sinks=True)

    def mlp(self, index: int) -> Part:
        return Mixture(
            experts=self.num_local_experts,
            per_token=self.num_experts_per_tok,
            columns=self.intermediate_size,
            bias=True,
            router_vectors=1,
        )


class Llama4(Config):
    """Blocks with positions attend inside pieces of a sequence; every fourth sees all of it."""

    layer_kinds: ClassVar[frozenset[str]] = frozenset({"full_attention", "chunked_attention"})
    num_key_value_heads: Size | None = 8
    head_dim: Size | None = 128
    intermediate_size_mlp: Size = 16_384
    attention_chunk_size: Size | None = 8192
    attention_bias: StrictBool = False
    use_qk_norm: StrictBool = True
    no_rope_layers: Flags | None = None
    no_rope_layer_interval: Size = 4
    interleave_moe_layer_step: Size = 1
    moe_layers: tuple[Count, ...] | None = None
    num_local_experts: Size = 16
    num_experts_per_tok: Size = 1

    @property
    def biases(self) -> Biases:
        return Biases(self.attention_bias, self.attention_bias)

    def grouped(self, index: int) -> GroupedQuery:
        every = (index + 1) % self.no_rope_layer_interval != 0
        rotary = bool(self.no_rope_layers[index]) if self.no_rope_layers else every
        types, chunk = self.layer_types, self.attention_chunk_size
        chunked = types[index] == "chunked_attention" if types else rotary
        return replace(
            super().grouped(index),
            rotary=rotary,
            qk_norm="unweighted" if rotary and self.use_qk_norm else "none",
            window=chunk if chunked else None,
            chunked=chunked and chunk is not None,
        )

    def mlp(self, index: int) -> Part:
        step = self.interleave_moe_layer_step
        routed = self.moe_layers or range(step - 1, self.num_hidden_layers, step)
        if index not in routed:
            return Dense(columns=self.intermediate_size_mlp)
        return Mixture(
            experts=self.num_local_experts,
            per_token=self.num_experts_per_tok,
            columns=self.intermediate_size,
            shared=Dense(columns=self.intermediate_size),
        )

    @property
    def contradiction(self) -> str:
        layers = self.no_rope_layers or None
        return super().contradiction or too_short("no_rope_layers", layers, self.num_hidden_layers)


class MiniMaxM2(Config):
    num_key_value_heads: Size | None = 8
    head_dim: Size | None = 128
    num_local_experts: Size = 256
    num_experts_per_tok: Size = 8
    use_qk_norm: StrictBool = True
    use_mtp: StrictBool = False

    def grouped(self, index: int) -> GroupedQuery:
        norms: QkNorm = "projection" if self.use_qk_norm else "none"
        return replace(super().grouped(index), qk_norm=norms)

    def mlp(self, index: int) -> Part:
        return Mixture(
            experts=self.num_local_experts,
            per_token=self.num_experts_per_tok,
            columns=self.intermediate_size,
            router_vectors=1,
        )

    @property
    def left_out(self) -> tuple[str, ...]:
        return (PREDICTS_TOKENS,) if self.use_mtp else ()


class MiniMax(Config):
    """Lightning attention, and every some blocks attention with a KV cache."""

    layer_kinds: ClassVar[frozenset[str]] = frozenset({"full_attention", "linear_attention"})
    num_key_value_heads: Size | None = 8
    layer_types: tuple[StrictStr, ...] | None = None
    attn_type_list: Flags | None = None
    num_local_experts: Size = 8
    num_experts_per_tok: Size = 2

    def attention(self, index: int) -> Part | None:
        types, flags = self.layer_types, self.attn_type_list
        full = types[index] == "full_attention" if types else index % 2 == 0
        if flags and not types:
            full = flags[index] == 1
        found = self.grouped(index)
        return found if full else Lightning(heads=found.heads, head_dim=found.head_dim)

    def mlp(self, index: int) -> Part:
        return Mixture(
            experts=self.num_local_experts,
            per_token=self.num_experts_per_tok,
            columns=self.intermediate_size,
        )

    @property
    def contradiction(self) -> str:
        flags, blocks = self.attn_type_list or None, self.num_hidden_layers
        return super().contradiction or too_short("attn_type_list", flags, blocks)


class MimoV2(Config):
    """Blocks with a window have heads of their own, and sinks."""

    v_head_dim: Size | None = None
    sliding_window: Size = 128
    swa_num_attention_heads: Size | None = None
    swa_num_key_value_heads: Size | None = None
    swa_head_dim: Size | None = None
    swa_v_head_dim: Size | None = None
    hybrid_layer_pattern: Flags
    moe_layer_freq: Flags
    moe_intermediate_size: Size
    n_routed_experts: Size
    num_experts_per_tok: Size
    attention_bias: StrictBool = False
    add_swa_attention_sink_bias: StrictBool = False
    add_full_attention_sink_bias: StrictBool = False

    @property
    def biases(self) -> Biases:
        return Biases(attention=self.attention_bias)

    def grouped(self, index: int) -> GroupedQuery:
        found = super().grouped(index)
        if not self.hybrid_layer_pattern[index]:
            return replace(
                found, value_dim=self.v_head_dim, sinks=self.add_full_attention_sink_bias
            )
        return replace(
            found,
            heads=self.swa_num_attention_heads or found.heads,
            kv_heads=self.swa_num_key_value_heads or found.kv_heads,
            head_dim=self.swa_head_dim or found.head_dim,
            value_dim=self.swa_v_head_dim,
            window=self.sliding_window,
            sinks=self.add_swa_attention_sink_bias,
        )

    def mlp(self, index: int) -> Part:
        if not self.moe_layer_freq[index]:
            return Dense(columns=self.intermediate_size)
        return Mixture(
            experts=self.n_routed_experts,
            per_token=self.num_experts_per_tok,
            columns=self.moe_intermediate_size,
            router_vectors=1,
        )

    @property
    def contradiction(self) -> str:
        blocks = self.num_hidden_layers
        return (
            super().contradiction
            or too_short("hybrid_layer_pattern", self.hybrid_layer_pattern, blocks)
            or too_short("moe_layer_freq", self.moe_layer_freq, blocks)
        )


class OtherAttention(BaseModel):
    """What blocks with a window have instead."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    num_attention_heads: Size | None = None
    num_attention_groups: Size | None = None
    head_dim: Size | None = None


class Step3(Config):
    """A gate per head; the first blocks have a dense MLP, the others experts and a shared one."""

    layer_kinds: ClassVar[frozenset[str]] = WINDOWED
    qk_norm: ClassVar[QkNorm] = "shared"
    num_key_value_heads: Size | None = 8
    head_dim: Size | None = 128
    sliding_window: Size = 512
    attention_other_setting: OtherAttention = OtherAttention()
    first_k_dense_replace: Count = 3
    n_routed_experts: Size = Field(default=288, alias="num_experts")
    num_experts_per_tok: Size = 8
    moe_intermediate_size: Size = 1280
    share_expert_dim: Size = 1280
    num_nextn_predict_layers: Count | None = 0

    def window(self, index: int) -> int | None:
        sliding = self.is_sliding(index, otherwise=index % 4 != 0)
        return self.sliding_window if sliding else None

    def grouped(self, index: int) -> GroupedQuery:
        found, other = super().grouped(index), self.attention_other_setting
        if found.window:
            found = replace(
                found,
                heads=other.num_attention_heads or found.heads,
                kv_heads=other.num_attention_groups or found.kv_heads,
            )
        return replace(found, gate=1)

    def mlp(self, index: int) -> Part:
        if index < self.first_k_dense_replace:
            return Dense(columns=self.intermediate_size)
        return Mixture(
            experts=self.n_routed_experts,
            per_token=self.num_experts_per_tok,
            columns=self.moe_intermediate_size,
            shared=Dense(columns=self.share_expert_dim),
            router_vectors=1,
        )

    @property
    def left_out(self) -> tuple[str, ...]:
        return (PREDICTS_TOKENS,) if self.num_nextn_predict_layers else ()
