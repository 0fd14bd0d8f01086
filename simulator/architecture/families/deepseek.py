"""DeepSeek V2, V3 and V3.2, and what has their blocks: Kimi K2, GLM 5, MiniCPM 3."""

from typing import Annotated, ClassVar

from pydantic import Field, StrictBool, StrictStr

from isotune.simulator.architecture.hf_config import (
    PREDICTS_TOKENS,
    Config,
    Count,
    Size,
    too_short,
)
from isotune.simulator.architecture.latent import Indexer, LatentAttention
from isotune.simulator.architecture.mlp import Dense, Mixture
from isotune.simulator.architecture.parts import Part

Width = Annotated[int, Field(ge=0, le=100_000, strict=True)]


class Latent(Config):
    """Multi-head latent attention and a dense MLP."""

    q_lora_rank: Width | None = 1536
    kv_lora_rank: Size | None = 512
    qk_nope_head_dim: Width = 128
    qk_rope_head_dim: Width = 64
    v_head_dim: Width = 128
    attention_bias: StrictBool = False

    def attention(self, index: int) -> Part | None:
        return self.latent(index)

    def latent(self, index: int) -> LatentAttention:
        return LatentAttention(
            heads=self.num_attention_heads,
            latent=self.kv_lora_rank or 512,
            rope=self.qk_rope_head_dim,
            nope=self.qk_nope_head_dim,
            value=self.v_head_dim,
            q_rank=self.q_lora_rank or None,
            bias=self.attention_bias,
            indexer=self.indexer(index),
        )

    def indexer(self, index: int) -> Indexer | None:
        return None


class MiniCpm3(Latent):
    q_lora_rank: Width | None = 768
    kv_lora_rank: Size | None = 256
    qk_nope_head_dim: Width = 64
    qk_rope_head_dim: Width = 32
    v_head_dim: Width = 0
    tie_word_embeddings: StrictBool = True

    def latent(self, index: int) -> LatentAttention:
        found = self.v_head_dim or self.hidden_size // self.num_attention_heads
        return super(MiniCpm3, self.model_copy(update={"v_head_dim": found})).latent(index)


class DeepseekV3(Latent):
    """The first blocks have a dense MLP, the others experts and one or more that always work."""

    router_vectors: ClassVar[int] = 1
    max_position_embeddings: Size = 4096
    n_routed_experts: Size | None = 256
    n_shared_experts: Count | None = 1
    num_experts_per_tok: Size | None = 8
    moe_intermediate_size: Size = 2048
    first_k_dense_replace: Count = 3
    moe_layer_freq: Size = 1
    num_nextn_predict_layers: Count | None = 0

    def mlp(self, index: int) -> Part:
        dense = index < self.first_k_dense_replace or index % self.moe_layer_freq
        if dense or not self.n_routed_experts:
            return Dense(columns=self.intermediate_size)
        shared = (self.n_shared_experts or 0) * self.moe_intermediate_size
        return Mixture(
            experts=self.n_routed_experts,
            per_token=self.num_experts_per_tok or 1,
            columns=self.moe_intermediate_size,
            shared=Dense(columns=shared) if shared else None,
            router_vectors=self.router_vectors,
        )

    @property
    def left_out(self) -> tuple[str, ...]:
        return (PREDICTS_TOKENS,) if self.num_nextn_predict_layers else ()


class DeepseekV2(DeepseekV3):
    router_vectors: ClassVar[int] = 0
    n_routed_experts: Size | None = 64
    n_shared_experts: Count | None = 2
    num_experts_per_tok: Size | None = None
    moe_intermediate_size: Size = 1407
    first_k_dense_replace: Count = 0
    use_mla: StrictBool = True

    def attention(self, index: int) -> Part | None:
        return self.latent(index) if self.use_mla else self.grouped(index)


class DeepseekV32(DeepseekV3):
    """An indexer chooses the keys that a query attends to."""

    layer_kinds: ClassVar[frozenset[str]] = frozenset({"deepseek_sparse_attention"})
    index_n_heads: Size = 64
    index_head_dim: Size = 128
    index_topk: Size = 2048

    def indexer(self, index: int) -> Indexer | None:
        return Indexer(
            heads=self.index_n_heads,
            width=self.index_head_dim,
            keys=self.index_topk,
            shared=self.reuses(index),
        )

    def reuses(self, index: int) -> bool:
        return False


class GlmMoeDsa(DeepseekV32):
    """Some blocks reuse the choice of keys of a block before them."""

    q_lora_rank: Width | None = 2048
    qk_nope_head_dim: Width = 192
    v_head_dim: Width = 256
    index_n_heads: Size = 32
    indexer_types: tuple[StrictStr, ...] | None = None

    def reuses(self, index: int) -> bool:
        return self.indexer_types is not None and self.indexer_types[index] == "shared"

    @property
    def contradiction(self) -> str:
        return super().contradiction or too_short(
            "indexer_types", self.indexer_types, self.num_hidden_layers
        )


class Glm4MoeLite(DeepseekV3):
    q_lora_rank: Width | None = 768
    qk_nope_head_dim: Width = 192
    v_head_dim: Width = 256
    n_routed_experts: Size | None = 64
    num_experts_per_tok: Size | None = 4
    moe_intermediate_size: Size = 1536
    first_k_dense_replace: Count = 1
