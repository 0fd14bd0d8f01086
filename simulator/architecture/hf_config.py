"""The Hugging Face config.json of each supported architecture.

One class per `model_type`, after the configuration classes of transformers 4.57: the same
field names, and the same values for omitted fields. The sizes that every published config
states have no default here, since a wrong guess would go unnoticed.
"""

from typing import Annotated, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictStr

Size = Annotated[int, Field(gt=0, le=100_000_000, strict=True)]
QkNorm = bool | Literal["projection"]
"""Whether queries and keys are normed head by head, or all heads of a projection together."""
Layers = Annotated[int, Field(gt=0, le=10_000, strict=True)]


class Biases(NamedTuple):
    """Which projections have a bias: query/key/value, attention output, all of the MLP."""

    attention: bool = False
    out: bool = False
    mlp: bool = False


class Config(BaseModel):
    """What all architectures share; fields without a bearing on speed or size are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    gated_mlp: ClassVar[bool] = True
    norm: ClassVar[Literal["rms_norm", "layer_norm"]] = "rms_norm"
    norms_per_block: ClassVar[int] = 2
    qk_norm: ClassVar[QkNorm] = False
    rotary: ClassVar[bool] = True

    num_hidden_layers: Layers
    hidden_size: Size
    num_attention_heads: Size
    num_key_value_heads: Size | None = None
    head_dim: Size | None = None
    intermediate_size: Size
    vocab_size: Size
    max_position_embeddings: Size
    tie_word_embeddings: StrictBool = False
    note: StrictStr = ""
    source: StrictStr = ""

    @property
    def biases(self) -> Biases:
        """Which projections have a bias."""
        return Biases()

    @property
    def experts(self) -> tuple[int, int]:
        """Experts of a block's MLP, and how many of them a token visits."""
        return 1, 1

    @property
    def windows(self) -> tuple[int | None, bool]:
        """The sliding window in tokens if there is one, and whether every block has it."""
        return None, True

    @property
    def learned_positions(self) -> int:
        """Rows of the table of learned positions."""
        return 0

    @property
    def embedding_size(self) -> int:
        """Width of the token embedding and of the language-model head."""
        return self.hidden_size

    @property
    def final_norm(self) -> bool:
        """Whether a norm stands before the language-model head."""
        return True

    @property
    def contradiction(self) -> str:
        """The field whose value contradicts another, and why; empty if there is none."""
        heads, kv_heads = self.num_attention_heads, self.num_key_value_heads
        experts, per_token = self.experts
        if self.head_dim is None and self.hidden_size % heads:
            return (
                f"num_attention_heads: {heads} does not divide hidden_size {self.hidden_size}, "
                "and head_dim is not given"
            )
        if kv_heads and heads % kv_heads:
            return f"num_key_value_heads: {kv_heads} does not divide num_attention_heads {heads}"
        if per_token > experts:
            return f"num_experts_per_tok: {per_token} is more than the {experts} experts"
        return ""


class _Llama(Config):
    max_position_embeddings: Size = 2048
    attention_bias: StrictBool = False
    mlp_bias: StrictBool = False

    @property
    def biases(self) -> Biases:
        return Biases(self.attention_bias, self.attention_bias, self.mlp_bias)


class _Olmo2(_Llama):
    """Its norms stand after attention and MLP, before the residual add: as many, as costly."""

    qk_norm: ClassVar[QkNorm] = "projection"


class _Mistral(Config):
    num_key_value_heads: Size | None = 8
    max_position_embeddings: Size = 131_072
    sliding_window: Size | None = 4096

    @property
    def windows(self) -> tuple[int | None, bool]:
        return self.sliding_window, True


class _Mixtral(_Mistral):
    sliding_window: Size | None = None
    num_local_experts: Size = 8
    num_experts_per_tok: Size = 2

    @property
    def experts(self) -> tuple[int, int]:
        return self.num_local_experts, self.num_experts_per_tok


class _Phi3(_Mistral):
    num_key_value_heads: Size | None = None
    max_position_embeddings: Size = 4096
    sliding_window: Size | None = None


class _Qwen2(Config):
    num_key_value_heads: Size | None = 32
    max_position_embeddings: Size = 32_768
    use_sliding_window: StrictBool = False
    sliding_window: Size | None = 4096
    max_window_layers: Annotated[int, Field(ge=0, strict=True)] = 28

    @property
    def biases(self) -> Biases:
        return Biases(attention=True)

    @property
    def windows(self) -> tuple[int | None, bool]:
        used = self.use_sliding_window and self.max_window_layers < self.num_hidden_layers
        return self.sliding_window if used else None, self.max_window_layers == 0


class _Qwen3(_Qwen2):
    qk_norm: ClassVar[QkNorm] = True
    head_dim: Size | None = 128
    attention_bias: StrictBool = False

    @property
    def biases(self) -> Biases:
        return Biases(self.attention_bias, self.attention_bias)


class _Qwen3Moe(_Qwen3):
    num_key_value_heads: Size | None = 4
    head_dim: Size | None = None
    intermediate_size: Size = Field(default=768, alias="moe_intermediate_size")
    num_experts: Size = 128
    num_experts_per_tok: Size = 8
    decoder_sparse_step: Literal[1] = 1
    mlp_only_layers: Annotated[tuple[int, ...], Field(max_length=0)] | None = None

    @property
    def experts(self) -> tuple[int, int]:
        return self.num_experts, self.num_experts_per_tok

    @property
    def windows(self) -> tuple[int | None, bool]:
        return self.sliding_window if self.use_sliding_window else None, True


class _Opt(Config):
    gated_mlp: ClassVar[bool] = False
    norm: ClassVar[Literal["rms_norm", "layer_norm"]] = "layer_norm"
    rotary: ClassVar[bool] = False
    intermediate_size: Size = Field(alias="ffn_dim")
    max_position_embeddings: Size = 2048
    tie_word_embeddings: StrictBool = True
    word_embed_proj_dim: Size | None = None
    do_layer_norm_before: StrictBool = True
    enable_bias: StrictBool = True

    @property
    def biases(self) -> Biases:
        return Biases(self.enable_bias, self.enable_bias, self.enable_bias)

    @property
    def learned_positions(self) -> int:
        return self.max_position_embeddings + 2  # OPT numbers its positions from 2

    @property
    def embedding_size(self) -> int:
        return self.word_embed_proj_dim or self.hidden_size

    @property
    def final_norm(self) -> bool:
        return self.do_layer_norm_before


class _Gemma(_Llama):
    num_key_value_heads: Size | None = 16
    head_dim: Size | None = 256
    max_position_embeddings: Size = 8192
    tie_word_embeddings: StrictBool = True


class _Gemma2(_Gemma):
    norms_per_block: ClassVar[int] = 4
    num_key_value_heads: Size | None = 4
    sliding_window: Size | None = 4096

    @property
    def windows(self) -> tuple[int | None, bool]:
        return self.sliding_window, False


class _Gemma3(_Gemma2):
    qk_norm: ClassVar[QkNorm] = True
    max_position_embeddings: Size = 131_072


ARCHITECTURES: dict[str, type[Config]] = {
    "llama": _Llama,
    "mistral": _Mistral,
    "mixtral": _Mixtral,
    "qwen2": _Qwen2,
    "qwen3": _Qwen3,
    "qwen3_moe": _Qwen3Moe,
    "opt": _Opt,
    "gemma": _Gemma,
    "gemma2": _Gemma2,
    "gemma3_text": _Gemma3,
    "phi3": _Phi3,
    "olmo2": _Olmo2,
}
"""The supported values of `model_type`."""
