"""OPT."""

from dataclasses import replace
from typing import ClassVar

from pydantic import Field, StrictBool

from isotune.simulator.architecture.attention import GroupedQuery
from isotune.simulator.architecture.hf_config import Biases, Config, Size
from isotune.simulator.architecture.parts import NormKind


class Opt(Config):
    gated_mlp: ClassVar[bool] = False
    norm: ClassVar[NormKind] = "layer_norm"
    intermediate_size: Size = Field(alias="ffn_dim")
    max_position_embeddings: Size = 2048
    tie_word_embeddings: StrictBool = True
    word_embed_proj_dim: Size | None = None
    do_layer_norm_before: StrictBool = True
    enable_bias: StrictBool = True

    @property
    def biases(self) -> Biases:
        return Biases(self.enable_bias, self.enable_bias, self.enable_bias)

    def grouped(self, index: int) -> GroupedQuery:
        return replace(super().grouped(index), rotary=False)

    @property
    def learned_positions(self) -> int:
        return self.max_position_embeddings + 2  # OPT numbers its positions from 2

    @property
    def embedding_size(self) -> int:
        return self.word_embed_proj_dim or self.hidden_size

    @property
    def final_norm(self) -> bool:
        return self.do_layer_norm_before
