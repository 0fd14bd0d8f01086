"""Gemma, Gemma 2 and Gemma 3."""

from typing import ClassVar

from pydantic import StrictBool

from isotune.simulator.architecture.attention import QkNorm
from isotune.simulator.architecture.families.llama import Llama
from isotune.simulator.architecture.hf_config import Size
from isotune.simulator.architecture.kind import NormPlaces


class Gemma(Llama):
    num_key_value_heads: Size | None = 16
    head_dim: Size | None = 256
    max_position_embeddings: Size = 8192
    tie_word_embeddings: StrictBool = True


class Gemma2(Gemma):
    """Every second block sees all keys, from the second on."""

    norms: ClassVar[NormPlaces] = "sandwich"
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
