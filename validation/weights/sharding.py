"""Which slices of each parameter one rank holds (column- and row-parallel, Megatron-LM).

The styles come from the configuration's own `base_model_tp_plan`; `_ADAPTERS` has those of
the families whose plan is missing (OPT) or keeps fused projections whole (Phi-3).
"""

from collections.abc import Mapping
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
_PHI3 = {
    "self_attn.qkv_proj": "colwise",
    "self_attn.o_proj": "rowwise",
    "mlp.gate_up_proj": "packed_colwise",
    "mlp.down_proj": "rowwise",
}
_ADAPTERS: Mapping[str, Mapping[str, str]] = {"opt": _OPT, "phi3": _PHI3}
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
        gathered = any("gather" in how for how in self._plan().values())
        if self.tp > 1 and gathered:
            raise InputError(
                f"model_type: {self.config.model_type} norms all heads of a projection together, "
                f"which no rank of {self.tp} sees (allowed: tp 1)"
            )

    def slice_of(self, name: str, shape: tuple[int, ...], rank: int) -> ShardSlice | None:
        """The part of a parameter that a rank holds; None is all of it."""
        if name.endswith(_VOCABULARY):
            return ShardSlice(0, (vocabulary_range(shape[0], self.tp, rank),))
        place, style = self._style(name)
        if style is None or (style == "rowwise" and name.endswith(".bias")):
            return None
        dim = len(shape) - 1 if style == "rowwise" else max(len(shape) - 2, 0)
        parts = self._parts(place.rpartition(".")[2], style)
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
        split = style in ("colwise", "rowwise", "packed_colwise")
        return place, style if split else None

    def _plan(self) -> Mapping[str, str]:
        adapter = _ADAPTERS.get(self.config.model_type)
        plan = self.config.base_model_tp_plan or {}
        return adapter or {name.removeprefix("layers.*."): how for name, how in plan.items()}

    def _parts(self, projection: str, style: str) -> tuple[tuple[int, int], ...]:
        """Relative widths of a dimension's parts, and the indivisible units of each."""
        heads = self.config.num_attention_heads
        kv_heads = getattr(self.config, "num_key_value_heads", None) or heads
        query, key = (heads, heads), (kv_heads, kv_heads)
        match projection:
            case "q_proj" | "o_proj" | "out_proj":
                return (query,)
            case "k_proj" | "v_proj":
                return (key,)
            case "qkv_proj":
                return (query, key, key)
        return ((self.tp, self.tp),) * (2 if style == "packed_colwise" else 1)


def vocabulary_range(words: int, tp: int, rank: int) -> tuple[int, int]:
    """Words of a rank: equal shares, the last ranks have fewer where it does not divide."""
    share = -(-words // tp)
    return min(rank * share, words), min((rank + 1) * share, words)


def _held(units: int, tp: int, rank: int) -> tuple[int, int]:
    if units % tp:
        one = rank * units // tp
        return one, one + 1
    return rank * (units // tp), (rank + 1) * (units // tp)
