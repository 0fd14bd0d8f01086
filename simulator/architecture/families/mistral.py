"""Mistral, Mixtral and Phi-3."""

from isotune.simulator.architecture.hf_config import Config, Size, too_few_experts
from isotune.simulator.architecture.mlp import Mixture
from isotune.simulator.architecture.parts import Part


class Mistral(Config):
    num_key_value_heads: Size | None = 8
    max_position_embeddings: Size = 131_072
    sliding_window: Size | None = 4096

    def window(self, index: int) -> int | None:
        return self.sliding_window if self.is_sliding(index, otherwise=True) else None


class Mixtral(Mistral):
    sliding_window: Size | None = None
    num_local_experts: Size = 8
    num_experts_per_tok: Size = 2

    def mlp(self, index: int) -> Part:
        return Mixture(
            experts=self.num_local_experts,
            per_token=self.num_experts_per_tok,
            columns=self.intermediate_size,
        )

    @property
    def contradiction(self) -> str:
        return super().contradiction or too_few_experts(
            self.num_experts_per_tok, self.num_local_experts
        )


class Phi3(Mistral):
    num_key_value_heads: Size | None = None
    max_position_embeddings: Size = 4096
    sliding_window: Size | None = None
