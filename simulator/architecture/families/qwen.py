"""Qwen2 to Qwen3.5."""

from dataclasses import replace
from typing import ClassVar

from pydantic import StrictBool

from isotune.simulator.architecture.attention import GroupedQuery, QkNorm
from isotune.simulator.architecture.hf_config import (
    PREDICTS_TOKENS,
    WINDOWED,
    Biases,
    Config,
    Count,
    Size,
)
from isotune.simulator.architecture.mlp import Dense, Mixture
from isotune.simulator.architecture.parts import Part
from isotune.simulator.architecture.recurrent import GatedDeltaNet


class Qwen2(Config):
    """Blocks from `max_window_layers` on have a window, if it is used."""

    layer_kinds: ClassVar[frozenset[str]] = WINDOWED
    num_key_value_heads: Size | None = 32
    max_position_embeddings: Size = 32_768
    use_sliding_window: StrictBool = False
    sliding_window: Size | None = 4096
    max_window_layers: Count = 28

    @property
    def biases(self) -> Biases:
        return Biases(attention=True)

    def window(self, index: int) -> int | None:
        sliding = self.is_sliding(index, otherwise=index >= self.max_window_layers)
        return self.sliding_window if self.use_sliding_window and sliding else None


class Mimo(Qwen2):
    attention_bias: StrictBool = True
    num_nextn_predict_layers: Count | None = 0

    @property
    def biases(self) -> Biases:
        return Biases(attention=self.attention_bias)

    @property
    def left_out(self) -> tuple[str, ...]:
        return (PREDICTS_TOKENS,) if self.num_nextn_predict_layers else ()


class Qwen3(Qwen2):
    qk_norm: ClassVar[QkNorm] = "shared"
    head_dim: Size | None = 128
    attention_bias: StrictBool = False

    @property
    def biases(self) -> Biases:
        return Biases(self.attention_bias, self.attention_bias)


class Qwen3Moe(Qwen3):
    """Some blocks may have a dense MLP instead of experts."""

    shares_expert: ClassVar[bool] = False
    num_key_value_heads: Size | None = 4
    head_dim: Size | None = None
    intermediate_size: Size = 6144
    moe_intermediate_size: Size = 768
    num_experts: Size = 128
    num_experts_per_tok: Size = 8
    shared_expert_intermediate_size: Count = 0
    decoder_sparse_step: Size = 1
    mlp_only_layers: tuple[Count, ...] | None = None

    def mlp(self, index: int) -> Part:
        if index in (self.mlp_only_layers or ()) or (index + 1) % self.decoder_sparse_step:
            return Dense(columns=self.intermediate_size)
        shared = self.shared_expert_intermediate_size if self.shares_expert else 0
        return Mixture(
            experts=self.num_experts,
            per_token=self.num_experts_per_tok,
            columns=self.moe_intermediate_size,
            shared=Dense(columns=shared) if shared else None,
            shared_gate=bool(shared),
        )

    def window(self, index: int) -> int | None:
        return self.sliding_window if self.use_sliding_window else None


class Qwen2Moe(Qwen3Moe):
    shares_expert: ClassVar[bool] = True
    qk_norm: ClassVar[QkNorm] = "none"
    num_key_value_heads: Size | None = 16
    intermediate_size: Size = 5632
    moe_intermediate_size: Size = 1408
    num_experts: Size = 60
    num_experts_per_tok: Size = 4
    shared_expert_intermediate_size: Count = 5632
    qkv_bias: StrictBool = True

    @property
    def biases(self) -> Biases:
        return Biases(attention=self.qkv_bias)


class Hybrid(Qwen3):
    """Three of four blocks have a gated delta net; attention has a gate per channel."""

    layer_kinds: ClassVar[frozenset[str]] = frozenset({"full_attention", "linear_attention"})
    num_key_value_heads: Size | None = 4
    head_dim: Size | None = 256
    full_attention_interval: Size = 4
    attn_output_gate: StrictBool = True
    linear_conv_kernel_dim: Size = 4
    linear_key_head_dim: Size = 128
    linear_value_head_dim: Size = 128
    linear_num_key_heads: Size = 16
    linear_num_value_heads: Size = 32
    mtp_num_hidden_layers: Count | None = 0

    def attention(self, index: int) -> Part | None:
        types = self.layer_types
        linear = (index + 1) % self.full_attention_interval != 0
        if types[index] == "linear_attention" if types else linear:
            return GatedDeltaNet(
                heads=self.linear_num_value_heads,
                key_heads=self.linear_num_key_heads,
                key_dim=self.linear_key_head_dim,
                value_dim=self.linear_value_head_dim,
                kernel=self.linear_conv_kernel_dim,
            )
        return self.grouped(index)

    def grouped(self, index: int) -> GroupedQuery:
        found = super().grouped(index)
        return replace(found, gate=found.head_dim if self.attn_output_gate else 0)

    def window(self, index: int) -> int | None:
        return None

    @property
    def left_out(self) -> tuple[str, ...]:
        return (PREDICTS_TOKENS,) if self.mtp_num_hidden_layers else ()


class HybridMoe(Hybrid):
    shares_expert: ClassVar[bool] = True
    num_key_value_heads: Size | None = 2
    intermediate_size: Size = 5632
    moe_intermediate_size: Size = 512
    num_experts: Size = 512
    num_experts_per_tok: Size = 10
    shared_expert_intermediate_size: Count = 512
    decoder_sparse_step: Size = 1
    mlp_only_layers: tuple[Count, ...] | None = None

    def mlp(self, index: int) -> Part:
        return Qwen3Moe.mlp(self, index)  # type: ignore[arg-type]
