"""Llama, and those that differ from it in little."""

from typing import ClassVar

from pydantic import StrictBool

from isotune.simulator.architecture.attention import QkNorm
from isotune.simulator.architecture.hf_config import Biases, Config, Size
from isotune.simulator.architecture.kind import NormPlaces


class Llama(Config):
    max_position_embeddings: Size = 2048
    attention_bias: StrictBool = False
    mlp_bias: StrictBool = False

    @property
    def biases(self) -> Biases:
        return Biases(self.attention_bias, self.attention_bias, self.mlp_bias)


class Olmo2(Llama):
    norms: ClassVar[NormPlaces] = "post"
    qk_norm: ClassVar[QkNorm] = "projection"
