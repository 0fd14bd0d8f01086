"""Llama, and those that differ from it in little."""

from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import AliasChoices, Field, StrictBool

from isotune.simulator.architecture.attention import GroupedQuery, QkNorm
from isotune.simulator.architecture.hf_config import WINDOWED, Biases, Config, Count, Size
from isotune.simulator.architecture.kind import NormPlaces
from isotune.simulator.architecture.mlp import Dense, Mixture
from isotune.simulator.architecture.parts import NormKind, Part


class Llama(Config):
    max_position_embeddings: Size = 2048
    attention_bias: StrictBool = False
    mlp_bias: StrictBool = False

    @property
    def biases(self) -> Biases:
        return Biases(self.attention_bias, self.attention_bias, self.mlp_bias)


class Olmo(Llama):
    norm: ClassVar[NormKind] = "plain_layer_norm"


class Olmo2(Llama):
    norms: ClassVar[NormPlaces] = "post"
    qk_norm: ClassVar[QkNorm] = "projection"


class Olmo3(Olmo2):
    """Every fourth block sees all keys."""

    layer_kinds: ClassVar[frozenset[str]] = WINDOWED
    sliding_window: Size = 4096

    def window(self, index: int) -> int | None:
        sliding = self.is_sliding(index, otherwise=(index + 1) % 4 != 0)
        return self.sliding_window if sliding else None


class SeedOss(Llama):
    attention_bias: StrictBool = True
    attention_out_bias: StrictBool = False

    @property
    def biases(self) -> Biases:
        return Biases(self.attention_bias, self.attention_out_bias, self.mlp_bias)


class SmolLm3(Llama):
    """Every fourth block has no positions."""

    no_rope_layers: tuple[Literal[0, 1], ...] | None = None
    no_rope_layer_interval: Size = 4
    tie_word_embeddings: StrictBool = True

    def grouped(self, index: int) -> GroupedQuery:
        layers = self.no_rope_layers
        every = (index + 1) % self.no_rope_layer_interval != 0
        rotary = bool(layers[index]) if layers and index < len(layers) else every
        return replace(super().grouped(index), rotary=rotary)


class InternLm2(Llama):
    bias: StrictBool = True

    @property
    def biases(self) -> Biases:
        return Biases(self.bias, self.bias, False)


class Baichuan(Llama):
    """Blocks of the 13B model have ALiBi instead of rotation."""

    max_position_embeddings: Size = Field(
        default=4096, validation_alias=AliasChoices("max_position_embeddings", "model_max_length")
    )

    def grouped(self, index: int) -> GroupedQuery:
        return replace(super().grouped(index), rotary=self.hidden_size != 5120)


class Exaone(Llama):
    num_hidden_layers: Size = Field(
        validation_alias=AliasChoices("num_hidden_layers", "num_layers"), le=10_000
    )


class Exaone4(Llama):
    """Norms after the sublayers; blocks with a window rotate, the others do not."""

    norms: ClassVar[NormPlaces] = "post"
    qk_norm: ClassVar[QkNorm] = "shared"
    layer_kinds: ClassVar[frozenset[str]] = WINDOWED
    sliding_window: Size | None = 4096
    sliding_window_pattern: Size | str | None = 4

    def window(self, index: int) -> int | None:
        every = self.sliding_window_pattern
        period = len(every) if isinstance(every, str) else every
        local = bool(period) and (index + 1) % (period or 1) != 0
        last = index == self.num_hidden_layers - 1
        return self.sliding_window if self.is_sliding(index, local and not last) else None

    def grouped(self, index: int) -> GroupedQuery:
        found = super().grouped(index)
        return replace(found, rotary=self.sliding_window is None or found.window is not None)


class GraniteMoe(Llama):
    num_local_experts: Size = 8
    num_experts_per_tok: Size = 2
    shared_intermediate_size: Count = 0

    def mlp(self, index: int) -> Part:
        return Mixture(
            experts=self.num_local_experts,
            per_token=self.num_experts_per_tok,
            columns=self.intermediate_size,
            shared=Dense(columns=self.shared_intermediate_size)
            if self.shared_intermediate_size
            else None,
        )


class Mllama(Config):
    """Blocks that attend to an image are part of the vision part: text passes them by."""

    max_position_embeddings: Size = 131_072
    cross_attention_layers: tuple[Count, ...] = (3, 8, 13, 18, 23, 28, 33, 38)

    @property
    def left_out(self) -> tuple[str, ...]:
        return (f"{len(self.cross_attention_layers)} blocks that attend to an image",)

    @property
    def blocks_run(self) -> int:
        inside = {index for index in self.cross_attention_layers if index < self.num_hidden_layers}
        return max(1, self.num_hidden_layers - len(inside))


class HunYuan(Llama):
    qk_norm: ClassVar[QkNorm] = "shared"
