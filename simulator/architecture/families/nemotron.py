"""Nemotron-H (hybrids of Mamba 2) and Nemotron-NAS (blocks found by search)."""

from dataclasses import replace
from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, StrictBool, model_validator

from isotune.simulator.architecture.attention import GroupedQuery
from isotune.simulator.architecture.hf_config import (
    PREDICTS_TOKENS,
    Biases,
    Config,
    Count,
    Size,
    too_short,
)
from isotune.simulator.architecture.mlp import Dense, Mixture
from isotune.simulator.architecture.parts import Part
from isotune.simulator.architecture.recurrent import Mamba2

_LETTERS = {"mamba": "M", "attention": "*", "mlp": "-", "moe": "E"}


class NemotronH(Config):
    """Every block is one sublayer: Mamba 2 (M), attention (*), an MLP (-) or experts (E)."""

    hybrid_override_pattern: Annotated[str, Field(pattern=r"^[M*E-]+$", max_length=10_000)]
    head_dim: Size | None = Field(
        default=128, validation_alias=AliasChoices("head_dim", "attention_head_dim")
    )
    attention_bias: StrictBool = False
    mlp_bias: StrictBool = False
    use_bias: StrictBool = False
    use_conv_bias: StrictBool = True
    mamba_num_heads: Size = 128
    mamba_head_dim: Size = 64
    ssm_state_size: Size = 128
    n_groups: Size = 8
    conv_kernel: Size = 4
    n_routed_experts: Size = 8
    num_experts_per_tok: Size = 2
    moe_intermediate_size: Size = 7688
    moe_shared_expert_intermediate_size: Size = 7688
    moe_latent_size: Size | None = None
    num_nextn_predict_layers: Count | None = 0

    @model_validator(mode="before")
    @classmethod
    def _pattern_of_block_types(cls, data: Any) -> Any:
        types = data.get("layers_block_type") if isinstance(data, dict) else None
        if not isinstance(types, list) or not set(map(str, types)) <= _LETTERS.keys():
            return data
        own = {
            "hybrid_override_pattern": "".join(_LETTERS[str(name)] for name in types),
            "num_hidden_layers": len(types),
        }
        return own | {key: value for key, value in data.items() if value is not None}

    @property
    def biases(self) -> Biases:
        return Biases(self.attention_bias, self.attention_bias, self.mlp_bias)

    def attention(self, index: int) -> Part | None:
        letter = self.hybrid_override_pattern[index]
        if letter == "M":
            return Mamba2(
                heads=self.mamba_num_heads,
                head_dim=self.mamba_head_dim,
                state=self.ssm_state_size,
                groups=self.n_groups,
                kernel=self.conv_kernel,
                bias=self.use_bias,
                conv_bias=self.use_conv_bias,
            )
        return replace(self.grouped(index), rotary=False) if letter == "*" else None

    def mlp(self, index: int) -> Part | None:
        letter = self.hybrid_override_pattern[index]
        if letter == "E":
            return Mixture(
                experts=self.n_routed_experts,
                per_token=self.num_experts_per_tok,
                columns=self.moe_intermediate_size,
                gated=False,
                bias=self.mlp_bias,
                shared=Dense(
                    columns=self.moe_shared_expert_intermediate_size,
                    gated=False,
                    bias=self.mlp_bias,
                ),
                latent=self.moe_latent_size,
                router_vectors=1,
            )
        if letter == "-":
            return Dense(columns=self.intermediate_size, gated=False, bias=self.mlp_bias)
        return None

    @property
    def left_out(self) -> tuple[str, ...]:
        return (PREDICTS_TOKENS,) if self.num_nextn_predict_layers else ()

    @property
    def contradiction(self) -> str:
        return super().contradiction or too_short(
            "hybrid_override_pattern", self.hybrid_override_pattern, self.num_hidden_layers
        )


class _NasAttention(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    no_op: StrictBool = False
    n_heads_in_group: Size | None = None
    replace_with_linear: StrictBool = False
    window_length: Size | None = None


class _NasFfn(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    no_op: StrictBool = False
    ffn_mult: Annotated[float, Field(gt=0, le=1000)] | None = None
    replace_with_linear: StrictBool = False


class _NasBlock(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    attention: _NasAttention
    ffn: _NasFfn


class NemotronNas(Config):
    """A Llama whose blocks have MLPs of their own sizes; some have no attention or no MLP."""

    intermediate_size: Size = 1
    """Not used: every block has its own."""
    block_configs: Annotated[tuple[_NasBlock, ...], Field(max_length=10_000)]

    @model_validator(mode="before")
    @classmethod
    def _sizes_by_block(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {key: value for key, value in data.items() if key != "intermediate_size"}

    def attention(self, index: int) -> Part | None:
        own = self.block_configs[index].attention
        return None if own.no_op else self.grouped(index)

    def grouped(self, index: int) -> GroupedQuery:
        own = self.block_configs[index].attention
        found = super().grouped(index)
        kv_heads = max(1, found.heads // (own.n_heads_in_group or 1))
        return replace(found, kv_heads=kv_heads, window=own.window_length)

    def mlp(self, index: int) -> Part | None:
        own = self.block_configs[index].ffn
        if own.no_op or own.ffn_mult is None:
            return None
        columns = int(2 * own.ffn_mult * self.hidden_size / 3)
        return Dense(columns=-(-columns // 256) * 256)

    @property
    def contradiction(self) -> str:
        short = too_short("block_configs", self.block_configs, self.num_hidden_layers)
        for index, one in enumerate(self.block_configs):
            if one.attention.replace_with_linear or one.ffn.replace_with_linear:
                return f"block_configs.{index}: replace_with_linear is not supported"
            if one.attention.no_op and one.ffn.no_op:
                return f"block_configs.{index}: a block without attention and MLP is not supported"
        return super().contradiction or short
