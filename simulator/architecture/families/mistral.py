"""Mistral, Mixtral and Phi-3."""

from typing import ClassVar

from pydantic import StrictBool

from isotune.simulator.architecture.hf_config import WINDOWED, Config, Size
from isotune.simulator.architecture.mlp import Mixture
from isotune.simulator.architecture.parts import Part


class Mistral(Config):
    layer_kinds: ClassVar[frozenset[str]] = WINDOWED
    num_key_value_heads: Size | None = 8
    max_position_embeddings: Size = 131_072
    sliding_window: Size | None = 4096

    def window(self, index: int) -> int | None:
        return self.sliding_window if self.is_sliding(index, otherwise=True) else None


class Ministral3(Mistral):
    head_dim: Size | None = 128
    sliding_window: Size | None = None


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


class Phi3(Mistral):
    num_key_value_heads: Size | None = None
    max_position_embeddings: Size = 4096
    sliding_window: Size | None = None


class Phi3Vision(Phi3):
    tie_word_embeddings: StrictBool = False

    @property
    def left_out(self) -> tuple[str, ...]:
        return ("the vision part",)
