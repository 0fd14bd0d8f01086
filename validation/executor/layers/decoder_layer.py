"""A Hugging Face decoder layer driven op by op.

The layer's own modules compute; what transformers joins in one `forward` is taken apart here
at the ops of a program. Its parameters are one rank's shards, so the row-parallel ops give
partial sums, without their biases: those count once, whatever the number of ranks.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from isotune.validation.executor.fused_ops import norm_of
from isotune.validation.executor.layers.contract import Sublayer
from isotune.validation.executor.layers.grouped import (
    FusedQkv,
    GatedAttention,
    GroupedAttention,
    OptAttention,
    ProjectionNorm,
)
from isotune.validation.executor.layers.latent import LatentAttention
from isotune.validation.executor.layers.mlps import (
    BiasedExperts,
    Experts,
    GatedMlp,
    OptMlp,
    PackedMlp,
)
from isotune.validation.executor.layers.recurrent import GatedDeltaNet

Norms = Mapping[str, Callable[[Tensor], Tensor]]


@dataclass(frozen=True, kw_only=True)
class DecoderLayer:
    """The sublayers of a layer, attention and MLP, and its norms by the sublayer that they serve.

    `norms` stand before a sublayer, `norms_after` before its output joins the residual stream.
    In a `parallel` layer both sublayers take the same normed activations.
    """

    sublayers: Mapping[str, Sublayer]
    norms: Norms
    norms_after: Norms
    parallel: bool

    def only_run(self) -> None:
        """Make it as fast as it can run: weights change no more, no gradients are asked for."""
        for sublayer in self.sublayers.values():
            sublayer.only_run()


class _Norms(NamedTuple):
    """The modules of the norms: before attention, after it, before the MLP, after it."""

    before_attention: str | None = "input_layernorm"
    after_attention: str | None = None
    before_mlp: str | None = "post_attention_layernorm"
    after_mlp: str | None = None


class _Family(NamedTuple):
    """What drives the modules of a family's layers."""

    attention: type[GroupedAttention] = GroupedAttention
    mlp: type[GatedMlp] = GatedMlp
    norms: _Norms = _Norms()
    mixture: type[Experts] = Experts
    parallel: bool = False


_SANDWICH = _Norms(
    after_attention="post_attention_layernorm",
    before_mlp="pre_feedforward_layernorm",
    after_mlp="post_feedforward_layernorm",
)
_AFTER = _Norms(None, "post_attention_layernorm", None, "post_feedforward_layernorm")
_ONE_NORM = _Norms(before_mlp=None)
_GLM4 = _Norms(after_attention="post_self_attn_layernorm", after_mlp="post_mlp_layernorm")
_OPT = _Norms("self_attn_layer_norm", None, "final_layer_norm", None)

_FAMILIES = {
    "llama": _Family(),
    "mistral": _Family(),
    "qwen2": _Family(),
    "qwen3": _Family(),
    "gemma": _Family(),
    "opt": _Family(OptAttention, OptMlp, _OPT),
    "phi3": _Family(FusedQkv, PackedMlp),
    "olmo2": _Family(ProjectionNorm, norms=_AFTER),
    "mixtral": _Family(),
    "qwen3_moe": _Family(),
    "gemma2": _Family(norms=_SANDWICH),
    "gemma3_text": _Family(norms=_SANDWICH),
    "glm": _Family(mlp=PackedMlp),
    "glm4": _Family(mlp=PackedMlp, norms=_GLM4),
    "cohere": _Family(norms=_ONE_NORM, parallel=True),
    "cohere2": _Family(norms=_ONE_NORM, parallel=True),
    "gpt_oss": _Family(mixture=BiasedExperts),
    "deepseek_v2": _Family(),
    "deepseek_v3": _Family(),
    "qwen3_next": _Family(GatedAttention),
}


def pieces(layer: Any, config: Any, index: int, tp: int) -> DecoderLayer:
    """The pieces of decoder layer `index` of a supported family, whose shard is one of `tp`."""
    family = _FAMILIES[config.model_type]
    names = family.norms
    return DecoderLayer(
        sublayers={
            "attention": _attention(layer, family, config, index),
            "mlp": _mlp(layer, family, tp),
        },
        norms=_named(layer, attention=names.before_attention, mlp=names.before_mlp),
        norms_after=_named(layer, attention=names.after_attention, mlp=names.after_mlp),
        parallel=family.parallel,
    )


def _named(layer: Any, **names: str | None) -> Norms:
    return {key: norm_of(getattr(layer, name)) for key, name in names.items() if name is not None}


def _attention(layer: Any, family: _Family, config: Any, index: int) -> Sublayer:
    if hasattr(layer, "linear_attn"):
        return GatedDeltaNet(layer.linear_attn)
    if hasattr(layer.self_attn, "kv_lora_rank"):
        return LatentAttention(layer.self_attn)
    types = getattr(config, "layer_types", None)
    kind = types[index] if types else None
    window = getattr(config, "sliding_window", None)
    windowed = kind in (None, "sliding_attention")
    return family.attention(layer.self_attn, kind, window if windowed else None)


def _mlp(layer: Any, family: _Family, tp: int) -> Sublayer:
    if hasattr(layer, "fc2"):
        return family.mlp(layer)
    if hasattr(layer.mlp, "experts"):
        return family.mixture(layer.mlp, tp)
    return family.mlp(layer.mlp)
