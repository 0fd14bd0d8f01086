"""Qwen2 and Qwen3."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StrictBool

from isotune.simulator.architecture.attention import QkNorm
from isotune.simulator.architecture.hf_config import Biases, Config, Count, Size, too_few_experts
from isotune.simulator.architecture.mlp import Mixture
from isotune.simulator.architecture.parts import Part


class Qwen2(Config):
    """Blocks from `max_window_layers` on have a window, if it is used."""

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


class Qwen3(Qwen2):
    qk_norm: ClassVar[QkNorm] = "shared"
    head_dim: Size | None = 128
    attention_bias: StrictBool = False

    @property
    def biases(self) -> Biases:
        return Biases(self.attention_bias, self.attention_bias)


class Qwen3Moe(Qwen3):
    num_key_value_heads: Size | None = 4
    head_dim: Size | None = None
    intermediate_size: Size = Field(default=768, alias="moe_intermediate_size")
    num_experts: Size = 128
    num_experts_per_tok: Size = 8
    decoder_sparse_step: Literal[1] = 1
    mlp_only_layers: Annotated[tuple[int, ...], Field(max_length=0)] | None = None

    def mlp(self, index: int) -> Part:
        return Mixture(
            experts=self.num_experts,
            per_token=self.num_experts_per_tok,
            columns=self.intermediate_size,
        )

    def window(self, index: int) -> int | None:
        return self.sliding_window if self.use_sliding_window else None

    @property
    def contradiction(self) -> str:
        return super().contradiction or too_few_experts(self.num_experts_per_tok, self.num_experts)
