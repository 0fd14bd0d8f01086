"""Which slices of each parameter one rank holds (column- and row-parallel, Megatron-LM).

The styles come from the configuration's own `base_model_tp_plan`; `_ADAPTERS` has what a family's
plan lacks (OPT, latent and linear attention) or keeps whole (fused projections).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from isotune.simulator.errors import InputError

_OPT = {
    "self_attn.q_proj": "colwise",
    "self_attn.k_proj": "colwise",
    "self_attn.v_proj": "colwise",
    "self_attn.out_proj": "rowwise",
    "fc1": "colwise",
    "fc2": "rowwise",
}
_PACKED = {"mlp.gate_up_proj": "packed_colwise", "mlp.down_proj": "rowwise"}
_BY_HEADS = {
    "self_attn.q_proj": "colwise",
    "self_attn.k_proj": "colwise",
    "self_attn.v_proj": "colwise",
    "self_attn.o_proj": "rowwise",
}
_QK_NORMS = {"self_attn.q_norm": "first", "self_attn.k_norm": "first"}
_LATENT = {
    "self_attn.q_proj": "colwise",
    "self_attn.q_b_proj": "colwise",
    "self_attn.kv_b_proj": "colwise",
    "self_attn.o_proj": "rowwise",
}
_GPT_OSS = {
    **_BY_HEADS,
    "self_attn.sinks": "first",
    "mlp.experts.gate_up_proj": "last",
    "mlp.experts.gate_up_proj_bias": "last",
    "mlp.experts.down_proj": "next_to_last",
}
_HYBRID = {
    "linear_attn.in_proj_qkvz": "colwise",
    "linear_attn.in_proj_ba": "colwise",
    "linear_attn.conv1d": "first",
    "linear_attn.dt_bias": "first",
    "linear_attn.A_log": "first",
    "linear_attn.out_proj": "rowwise",
}
_ADAPTERS: Mapping[str, Mapping[str, str]] = {
    "opt": _OPT,
    "phi3": {"self_attn.qkv_proj": "colwise", "self_attn.o_proj": "rowwise", **_PACKED},
    "glm": _PACKED,
    "glm4": _PACKED,
    "olmo2": _BY_HEADS | _QK_NORMS,
    "cohere": _QK_NORMS,
    "gpt_oss": _GPT_OSS,
    "deepseek_v2": _LATENT,
    "deepseek_v3": _LATENT,
    "qwen3_next": _HYBRID,
}
_DIMS: Mapping[str, Callable[[int], int]] = {
    "colwise": lambda dims: max(dims - 2, 0),
    "packed_colwise": lambda dims: max(dims - 2, 0),
    "rowwise": lambda dims: dims - 1,
    "first": lambda _: 0,
    "last": lambda dims: dims - 1,
    "next_to_last": lambda dims: dims - 2,
}
"""The dimension that each style shares out, by the number of dimensions; others share none."""
_VOCABULARY = ("embed_tokens.weight", "lm_head.weight")


@dataclass(frozen=True)
class ShardSlice:
    """The ranges a rank holds of one dimension of a parameter, in order."""

    dim: int
    ranges: tuple[tuple[int, int], ...]

    def of(self, tensor: Any) -> Any:
        """The held part of a whole tensor: a view of it where it is one range."""
        import torch

        parts = [tensor.narrow(self.dim, start, stop - start) for start, stop in self.ranges]
        return torch.cat(parts, self.dim) if len(parts) > 1 else parts[0]


@dataclass(frozen=True)
class Sharding:
    """How `tp` ranks share the parameters of a Hugging Face causal language model.

    Attention is sharded by heads, KV heads are replicated where there are fewer than ranks,
    MLPs (and every expert) between columns, embedding and LM head between words. Norms,
    routers and biases of row-parallel layers are whole on every rank.
    """

    config: Any
    tp: int

    def __post_init__(self) -> None:
        kept = [name for name, how in self._plan().items() if "gather" in how]
        if self.tp > 1 and kept:
            raise InputError(
                f"model_type: how {self.tp} ranks share {kept[0]} of {self.config.model_type} is "
                "not known (allowed: tp 1)"
            )
        keys = getattr(self.config, "linear_num_key_heads", None)
        if keys and keys % self.tp:
            raise InputError(
                f"tp: real runs share the key heads of linear attention, and {self.tp} does not "
                f"divide linear_num_key_heads {keys}"
            )

    def slice_of(self, name: str, shape: tuple[int, ...], rank: int) -> ShardSlice | None:
        """The part of a parameter that a rank holds; None is all of it."""
        if name.endswith(_VOCABULARY):
            return ShardSlice(0, (vocabulary_range(shape[0], self.tp, rank),))
        place, style = self._style(name)
        if style is None or (style == "rowwise" and name.endswith(".bias")):
            return None
        dim = _DIMS[style](len(shape))
        parts = self._parts(place, style)
        whole = sum(width for width, _ in parts)
        scale, ranges, start = shape[dim] // whole, [], 0
        for width, units in parts:
            first, last = _held(units, self.tp, rank)
            unit = width * scale // units
            ranges.append((start + first * unit, start + last * unit))
            start += width * scale
        return ShardSlice(dim, tuple(ranges))

    def _style(self, name: str) -> tuple[str, str | None]:
        _, layers, inside = name.partition("layers.")
        place = inside.partition(".")[2].removesuffix(".weight").removesuffix(".bias")
        style = self._plan().get(place) if layers else None
        return place, style if style in _DIMS else None

    def _plan(self) -> Mapping[str, str]:
        plan = self.config.base_model_tp_plan or {}
        own = {name.removeprefix("layers.*."): how for name, how in plan.items()}
        return own | dict(_ADAPTERS.get(self.config.model_type, {}))

    def _parts(self, place: str, style: str) -> tuple[tuple[int, int], ...]:
        """Relative widths of a dimension's parts, and the indivisible units of each."""
        sublayer, _, projection = place.rpartition(".")
        if sublayer == "linear_attn":
            return self._linear_parts(projection)
        heads = self.config.num_attention_heads
        kv_heads = getattr(self.config, "num_key_value_heads", None) or heads
        query, key = (heads, heads), (kv_heads, kv_heads)
        match projection:
            case "q_proj" | "o_proj" | "out_proj" | "q_norm" | "sinks" | "q_b_proj" | "kv_b_proj":
                return (query,)
            case "k_proj" | "v_proj" | "k_norm":
                return (key,)
            case "qkv_proj":
                return (query, key, key)
        return ((self.tp, self.tp),) * (2 if style == "packed_colwise" else 1)

    def _linear_parts(self, projection: str) -> tuple[tuple[int, int], ...]:
        """Those of linear attention, whose first projections have a key head's parts together."""
        config = self.config
        keys, heads = config.linear_num_key_heads, config.linear_num_value_heads
        if projection == "conv1d":
            key = (keys * config.linear_key_head_dim, keys)
            return key, key, (heads * config.linear_value_head_dim, heads)
        own = keys if projection.startswith("in_proj") else heads
        return ((own, own),)


def vocabulary_range(words: int, tp: int, rank: int) -> tuple[int, int]:
    """Words of a rank: equal shares, the last ranks have fewer where it does not divide."""
    share = -(-words // tp)
    return min(rank * share, words), min((rank + 1) * share, words)


def _held(units: int, tp: int, rank: int) -> tuple[int, int]:
    if units % tp:
        one = rank * units // tp
        return one, one + 1
    return rank * (units // tp), (rank + 1) * (units // tp)
