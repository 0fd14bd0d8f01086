"""Gemma 1 to 4."""

from dataclasses import replace
from typing import ClassVar

from pydantic import StrictBool

from isotune.simulator.architecture.attention import GroupedQuery, QkNorm
from isotune.simulator.architecture.families.llama import Llama
from isotune.simulator.architecture.hf_config import WINDOWED, Count, Size
from isotune.simulator.architecture.kind import NormPlaces
from isotune.simulator.architecture.mlp import Dense, Mixture
from isotune.simulator.architecture.parts import Part


class Gemma(Llama):
    num_key_value_heads: Size | None = 16
    head_dim: Size | None = 256
    max_position_embeddings: Size = 8192
    tie_word_embeddings: StrictBool = True


class Gemma2(Gemma):
    """Every second block sees all keys, from the second on."""

    norms: ClassVar[NormPlaces] = "sandwich"
    layer_kinds: ClassVar[frozenset[str]] = WINDOWED
    num_key_value_heads: Size | None = 4
    sliding_window: Size | None = 4096

    def window(self, index: int) -> int | None:
        sliding = self.is_sliding(index, otherwise=index % 2 == 0)
        return self.sliding_window if sliding else None


class Gemma3(Gemma2):
    """Every sixth block sees all keys, or every `sliding_window_pattern`-th."""

    qk_norm: ClassVar[QkNorm] = "shared"
    vocab_size: Size = 262_208
    num_attention_heads: Size = 8
    max_position_embeddings: Size = 131_072
    sliding_window_pattern: Size = 6

    def window(self, index: int) -> int | None:
        last = (index + 1) % self.sliding_window_pattern == 0
        return self.sliding_window if self.is_sliding(index, otherwise=not last) else None


class Gemma4(Gemma3):
    """Blocks without a window have heads of their own width, whose keys may be the values."""

    vocab_size: Size = 262_144
    num_key_value_heads: Size | None = 4
    sliding_window: Size | None = 512
    global_head_dim: Size | None = 512
    num_global_key_value_heads: Size | None = None
    attention_k_eq_v: StrictBool = False
    enable_moe_block: StrictBool = False
    num_experts: Size | None = None
    top_k_experts: Size | None = None
    moe_intermediate_size: Size | None = None
    hidden_size_per_layer_input: Count | None = 256
    num_kv_shared_layers: Count = 0
    use_double_wide_mlp: StrictBool = False

    def grouped(self, index: int) -> GroupedQuery:
        found = super().grouped(index)
        if found.window is not None:
            return found
        kv_heads = self.num_global_key_value_heads if self.attention_k_eq_v else None
        return replace(
            found,
            head_dim=self.global_head_dim or found.head_dim,
            kv_heads=kv_heads or found.kv_heads,
            shared_kv=self.attention_k_eq_v,
        )

    def mlp(self, index: int) -> Part:
        dense = Dense(columns=self.intermediate_size)
        if not self.enable_moe_block:
            return dense
        return Mixture(
            experts=self.num_experts or 1,
            per_token=self.top_k_experts or 1,
            columns=self.moe_intermediate_size or 1,
            shared=dense,
            apart=True,
            router_vectors=1,  # a scale per expert
            inner_vectors=4,  # three norms around the experts, and the router's scale
        )

    @property
    def contradiction(self) -> str:
        if self.hidden_size_per_layer_input:
            return "hidden_size_per_layer_input: embeddings per block are not known (allowed: 0)"
        if self.num_kv_shared_layers:
            return "num_kv_shared_layers: blocks that share a KV cache are not known (allowed: 0)"
        if self.enable_moe_block and not (
            self.num_experts and self.top_k_experts and self.moe_intermediate_size
        ):
            return "enable_moe_block: num_experts, top_k_experts, moe_intermediate_size missing"
        return super().contradiction
