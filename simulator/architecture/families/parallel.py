"""Families whose attention and MLP may stand beside each other, and others with LayerNorm."""

from dataclasses import replace
from typing import ClassVar

from pydantic import AliasChoices, Field, StrictBool

from isotune.simulator.architecture.attention import GroupedQuery, QkNorm
from isotune.simulator.architecture.hf_config import WINDOWED, Biases, Config, Size
from isotune.simulator.architecture.kind import Parallel
from isotune.simulator.architecture.mlp import Dense
from isotune.simulator.architecture.parts import NormKind, Part


class Cohere(Config):
    norm: ClassVar[NormKind] = "layer_norm_without_bias"
    max_position_embeddings: Size = 8192
    tie_word_embeddings: StrictBool = True
    attention_bias: StrictBool = False
    use_qk_norm: StrictBool = False

    @property
    def parallel(self) -> Parallel:
        return "one_norm"

    @property
    def biases(self) -> Biases:
        return Biases(self.attention_bias, self.attention_bias)

    def grouped(self, index: int) -> GroupedQuery:
        norms: QkNorm = "by_head" if self.use_qk_norm else "none"
        return replace(super().grouped(index), qk_norm=norms)


class Cohere2(Cohere):
    """Three of four blocks have a window and rotate, the others do neither."""

    layer_kinds: ClassVar[frozenset[str]] = WINDOWED
    sliding_window: Size | None = 4096
    sliding_window_pattern: Size = 4

    def window(self, index: int) -> int | None:
        sliding = self.is_sliding(index, (index + 1) % self.sliding_window_pattern != 0)
        return self.sliding_window if sliding else None

    def grouped(self, index: int) -> GroupedQuery:
        found = super().grouped(index)
        return replace(found, rotary=found.window is not None)


class Falcon(Config):
    norm: ClassVar[NormKind] = "layer_norm"
    num_hidden_layers: Size = Field(
        validation_alias=AliasChoices("num_hidden_layers", "n_layer"), le=10_000
    )
    num_attention_heads: Size = Field(
        validation_alias=AliasChoices("num_attention_heads", "n_head")
    )
    num_key_value_heads: Size | None = Field(
        default=None, validation_alias=AliasChoices("num_kv_heads", "n_head_kv")
    )
    intermediate_size: Size = Field(default=1, alias="ffn_hidden_size")
    max_position_embeddings: Size = 2048
    tie_word_embeddings: StrictBool = True
    alibi: StrictBool = False
    new_decoder_architecture: StrictBool = False
    multi_query: StrictBool = True
    parallel_attn: StrictBool = True
    bias: StrictBool = False
    num_ln_in_parallel_attn: Size | None = None

    @property
    def parallel(self) -> Parallel:
        if not (self.parallel_attn or self.new_decoder_architecture):
            return "no"
        norms = self.num_ln_in_parallel_attn or (2 if self.new_decoder_architecture else 1)
        return "two_norms" if norms == 2 else "one_norm"

    @property
    def biases(self) -> Biases:
        return Biases(self.bias, self.bias, self.bias)

    def grouped(self, index: int) -> GroupedQuery:
        found = super().grouped(index)
        if not self.new_decoder_architecture:
            found = replace(found, kv_heads=1 if self.multi_query else found.heads)
        return replace(found, rotary=not self.alibi)

    def mlp(self, index: int) -> Part:
        columns = self.intermediate_size if self.intermediate_size > 1 else 4 * self.hidden_size
        return Dense(columns=columns, gated=False, bias=self.bias)


class GptNeoX(Config):
    norm: ClassVar[NormKind] = "layer_norm"
    gated_mlp: ClassVar[bool] = False
    max_position_embeddings: Size = 2048
    use_parallel_residual: StrictBool = True
    attention_bias: StrictBool = True

    def grouped(self, index: int) -> GroupedQuery:
        return replace(super().grouped(index), kv_heads=self.num_attention_heads)

    @property
    def parallel(self) -> Parallel:
        return "two_norms" if self.use_parallel_residual else "no"

    @property
    def biases(self) -> Biases:
        return Biases(self.attention_bias, self.attention_bias, True)


class StableLm(Config):
    norm: ClassVar[NormKind] = "layer_norm"
    max_position_embeddings: Size = 4096
    use_qkv_bias: StrictBool = False
    qk_layernorm: StrictBool = False
    use_parallel_residual: StrictBool = False

    @property
    def parallel(self) -> Parallel:
        return "one_norm" if self.use_parallel_residual else "no"

    @property
    def biases(self) -> Biases:
        return Biases(attention=self.use_qkv_bias)

    def grouped(self, index: int) -> GroupedQuery:
        norms: QkNorm = "by_head" if self.qk_layernorm else "none"
        return replace(super().grouped(index), qk_norm=norms)


class Phi(Config):
    norm: ClassVar[NormKind] = "layer_norm"
    gated_mlp: ClassVar[bool] = False
    head_bias: ClassVar[bool] = True
    max_position_embeddings: Size = 2048

    @property
    def parallel(self) -> Parallel:
        return "one_norm"

    @property
    def biases(self) -> Biases:
        return Biases(True, True, True)


class Starcoder2(Config):
    norm: ClassVar[NormKind] = "layer_norm"
    gated_mlp: ClassVar[bool] = False
    num_key_value_heads: Size | None = 2
    max_position_embeddings: Size = 4096
    tie_word_embeddings: StrictBool = True
    use_bias: StrictBool = True
    sliding_window: Size | None = None

    def window(self, index: int) -> int | None:
        return self.sliding_window

    @property
    def biases(self) -> Biases:
        return Biases(self.use_bias, self.use_bias, self.use_bias)


class Nemotron(Config):
    norm: ClassVar[NormKind] = "layer_norm"
    gated_mlp: ClassVar[bool] = False
    max_position_embeddings: Size = 4096
    attention_bias: StrictBool = False
    mlp_bias: StrictBool = False

    @property
    def biases(self) -> Biases:
        return Biases(self.attention_bias, self.attention_bias, self.mlp_bias)
