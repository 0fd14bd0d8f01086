"""GLM 4 and ChatGLM."""

from dataclasses import replace
from typing import ClassVar

from pydantic import AliasChoices, Field, StrictBool

from isotune.simulator.architecture.attention import GroupedQuery, QkNorm
from isotune.simulator.architecture.hf_config import PREDICTS_TOKENS, Biases, Config, Count, Size
from isotune.simulator.architecture.kind import NormPlaces
from isotune.simulator.architecture.mlp import Dense, Mixture
from isotune.simulator.architecture.parts import Part


class Glm(Config):
    num_key_value_heads: Size | None = 2
    head_dim: Size | None = 128
    max_position_embeddings: Size = 131_072
    attention_bias: StrictBool = True

    @property
    def biases(self) -> Biases:
        return Biases(attention=self.attention_bias)


class Glm4(Glm):
    norms: ClassVar[NormPlaces] = "sandwich"


class Glm4Moe(Glm):
    """The first blocks have a dense MLP, the others experts and one that always works."""

    num_key_value_heads: Size | None = 8
    head_dim: Size | None = 128
    attention_bias: StrictBool = False
    use_qk_norm: StrictBool = False
    moe_intermediate_size: Size = 1408
    num_experts_per_tok: Size = 8
    n_routed_experts: Size = 128
    n_shared_experts: Count | None = 1
    first_k_dense_replace: Count = 1
    num_nextn_predict_layers: Count | None = 0

    def grouped(self, index: int) -> GroupedQuery:
        norms: QkNorm = "shared" if self.use_qk_norm else "none"
        return replace(super().grouped(index), qk_norm=norms)

    def mlp(self, index: int) -> Part:
        if index < self.first_k_dense_replace:
            return Dense(columns=self.intermediate_size)
        shared = (self.n_shared_experts or 0) * self.moe_intermediate_size
        return Mixture(
            experts=self.n_routed_experts,
            per_token=self.num_experts_per_tok,
            columns=self.moe_intermediate_size,
            shared=Dense(columns=shared) if shared else None,
            router_vectors=1,
        )

    @property
    def left_out(self) -> tuple[str, ...]:
        return (PREDICTS_TOKENS,) if self.num_nextn_predict_layers else ()


class Dots1(Glm4Moe):
    first_k_dense_replace: Count = 0
    use_qk_norm: StrictBool = True


class ChatGlm(Config):
    num_hidden_layers: Size = Field(
        validation_alias=AliasChoices("num_layers", "num_hidden_layers"), le=10_000
    )
    num_key_value_heads: Size | None = Field(default=None, alias="multi_query_group_num")
    head_dim: Size | None = Field(default=None, alias="kv_channels")
    intermediate_size: Size = Field(alias="ffn_hidden_size")
    vocab_size: Size = Field(validation_alias=AliasChoices("padded_vocab_size", "vocab_size"))
    max_position_embeddings: Size = Field(default=2048, alias="seq_length")
    multi_query_attention: StrictBool = False
    add_qkv_bias: StrictBool = False
    add_bias_linear: StrictBool = False
    post_layer_norm: StrictBool = True

    @property
    def biases(self) -> Biases:
        return Biases(
            self.add_qkv_bias or self.add_bias_linear, self.add_bias_linear, self.add_bias_linear
        )

    def grouped(self, index: int) -> GroupedQuery:
        found = super().grouped(index)
        return found if self.multi_query_attention else replace(found, kv_heads=found.heads)

    @property
    def final_norm(self) -> bool:
        return self.post_layer_norm
