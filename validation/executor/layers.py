"""A Hugging Face decoder layer driven piece by piece, one class per family.

The layer's own modules compute; what transformers joins in one `forward` is taken apart here
at the ops of a program. Its parameters are one rank's shards, so the row-parallel ops give
partial sums, without their biases: those count once, whatever the number of ranks.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from isotune.validation.executor.fused_ops import (
    JoinedProducts,
    grouped_product,
    norm_of,
    rotate_in_place,
    rotates_in_one_kernel,
)

Rotation = tuple[Tensor, Tensor]
"""Cosines and sines of a chunk's positions."""


class Heads(NamedTuple):
    """Queries, keys and values, each [requests, heads, tokens, head_dim]."""

    query: Tensor
    key: Tensor
    value: Tensor


class DecoderLayer:
    """Llama, Mistral, Qwen2, Qwen3 and Gemma: separate projections, rotary, gated MLP.

    Activations are [requests, tokens, width]; the row-parallel ops take rows of the flat
    [requests x tokens, width].
    """

    names = ("input_layernorm", "post_attention_layernorm")
    out_name = "o_proj"

    def __init__(self, layer: Any) -> None:
        self._layer: Any = layer
        self.attention: Any = layer.self_attn
        self.mlp: Any = getattr(layer, "mlp", None)
        self.attention_norm, self.mlp_norm = (norm_of(getattr(layer, name)) for name in self.names)
        self._joined: dict[str, JoinedProducts] = {}
        self._only_runs = False
        self._out = getattr(self.attention, self.out_name)
        self.out_bias: Tensor | None = self._out.bias
        self.head_dim: int = self.attention.head_dim
        self.scaling: float = self.attention.scaling

    def only_run(self) -> None:
        """Make it as fast as it can run: weights change no more, and no gradients are asked for.

        The column-parallel products of one input become one, and heads are rotated in place.
        """
        self._joined = {name: JoinedProducts(parts) for name, parts in self.products().items()}
        self._only_runs = True

    def products(self) -> Mapping[str, Sequence[Any]]:
        """The modules that multiply one input, by what they make of it."""
        module, mlp = self.attention, self.mlp
        qkv = (module.q_proj, module.k_proj, module.v_proj)
        gated = mlp is not None and hasattr(mlp, "gate_proj")
        return {"qkv": qkv} | ({"up": (mlp.gate_proj, mlp.up_proj)} if gated else {})

    def multiplied(self, name: str, hidden: Tensor) -> tuple[Tensor, ...]:
        """The products of `products`, joined or one by one."""
        if name in self._joined:
            return self._joined[name](hidden)
        return tuple(module(hidden) for module in self.products()[name])

    @property
    def norms(self) -> Mapping[str, Callable[[Tensor], Tensor]]:
        """The norm before each sublayer."""
        return {"attention": self.attention_norm, "mlp": self.mlp_norm}

    @property
    def norms_after(self) -> Mapping[str, Callable[[Tensor], Tensor]]:
        """The norm of a sublayer's output, where the family has one before the residual add."""
        return {}

    @property
    def column_parallel(self) -> Mapping[str, Callable[[Tensor], Any]]:
        """The column-parallel products of the sublayers that have no heads."""
        return {"mlp": self.mlp_up}

    @property
    def row_parallel(self) -> Mapping[str, Callable[[Any, slice], Tensor]]:
        """Partial sums [rows, hidden] of a range of rows, by sublayer."""
        return {"attention": self.attention_out, "mlp": self.mlp_down}

    @property
    def biases(self) -> Mapping[str, Tensor | None]:
        """Biases of the row-parallel products."""
        return {"attention": self.out_bias, "mlp": self.down_bias}

    def qkv(self, hidden: Tensor) -> Heads:
        """Projections of normed activations, reshaped to this rank's heads."""
        query, key, value = self.multiplied("qkv", hidden)
        return Heads(
            self._heads(query, self._head_norm("q_norm")),
            self._heads(key, self._head_norm("k_norm")),
            self._heads(value),
        )

    def _head_norm(self, name: str) -> Callable[[Tensor], Tensor] | None:
        """The norm of each head of a projection, where there is one."""
        norm = getattr(self.attention, name, None)
        return None if norm is None else norm_of(norm)

    def rope(self, heads: Heads, rotation: Rotation) -> Heads:
        """Rotate queries and keys by their positions."""
        apply = sys.modules[type(self.attention).__module__].apply_rotary_pos_emb
        if self._only_runs and rotates_in_one_kernel(heads.query.device, apply):
            rotate_in_place(heads.query, heads.key, *rotation)
            return heads
        query, key = apply(heads.query, heads.key, *rotation)
        return Heads(query, key, heads.value)

    def attention_out(self, mixed: Tensor, rows: slice) -> Tensor:
        """Partial sums [rows, hidden] of a range of the heads' outputs [., heads x head_dim]."""
        return functional.linear(mixed[rows], self._out.weight)

    def mlp_up(self, hidden: Tensor) -> Any:
        """Column-parallel projections of normed activations [rows, hidden]."""
        return self.multiplied("up", hidden)

    def activation(self, up: Any) -> Any:
        """What the down projection takes."""
        gate, linear = up
        return self.mlp.act_fn(gate) * linear

    def mlp_down(self, activated: Any, rows: slice) -> Tensor:
        """Partial sums [rows, hidden] of a range of rows."""
        return functional.linear(activated[rows], self.mlp.down_proj.weight)

    @property
    def down_bias(self) -> Tensor | None:
        """Bias of the down projection."""
        bias: Tensor | None = self.mlp.down_proj.bias
        return bias

    def _heads(self, projected: Tensor, norm: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        heads = projected.view(*projected.shape[:-1], -1, self.head_dim)
        return (norm(heads) if norm else heads).transpose(1, 2)


class OptLayer(DecoderLayer):
    """OPT: biases everywhere, LayerNorm, learned positions, one up projection."""

    names = ("self_attn_layer_norm", "final_layer_norm")
    out_name = "out_proj"

    def mlp_up(self, hidden: Tensor) -> Any:
        """See `DecoderLayer`."""
        return self._layer.fc1(hidden)

    def activation(self, up: Any) -> Any:
        """See `DecoderLayer`."""
        return self._layer.activation_fn(up)

    def mlp_down(self, activated: Any, rows: slice) -> Tensor:
        """See `DecoderLayer`."""
        return functional.linear(activated[rows], self._layer.fc2.weight)

    @property
    def down_bias(self) -> Tensor | None:
        """See `DecoderLayer`."""
        bias: Tensor | None = self._layer.fc2.bias
        return bias


class Phi3Layer(DecoderLayer):
    """Phi-3: query, key and value in one projection, gate and up in another."""

    def products(self) -> Mapping[str, Sequence[Any]]:
        """See `DecoderLayer`; they are joined in the checkpoint."""
        return {}

    def qkv(self, hidden: Tensor) -> Heads:
        """See `DecoderLayer`; keys and values are equally wide."""
        module = self.attention
        fused = module.qkv_proj(hidden)
        queries = module.o_proj.weight.shape[1]
        keys = (fused.shape[-1] - queries) // 2
        return Heads(*map(self._heads, fused.split((queries, keys, keys), dim=-1)))

    def mlp_up(self, hidden: Tensor) -> Any:
        """See `DecoderLayer`."""
        return self.mlp.gate_up_proj(hidden).chunk(2, dim=-1)

    def activation(self, up: Any) -> Any:
        """See `DecoderLayer`."""
        gate, linear = up
        return self.mlp.activation_fn(gate) * linear


class Olmo2Layer(DecoderLayer):
    """OLMo 2: norms after attention and MLP, and of all heads of a projection together."""

    names = ("post_attention_layernorm", "post_feedforward_layernorm")

    @property
    def norms(self) -> Mapping[str, Callable[[Tensor], Tensor]]:
        """See `DecoderLayer`; there is none."""
        return dict.fromkeys(("attention", "mlp"), lambda hidden: hidden)

    @property
    def norms_after(self) -> Mapping[str, Callable[[Tensor], Tensor]]:
        """See `DecoderLayer`."""
        return {"attention": self.attention_norm, "mlp": self.mlp_norm}

    def qkv(self, hidden: Tensor) -> Heads:
        """See `DecoderLayer`."""
        query, key, value = self.multiplied("qkv", hidden)
        query, key = self.attention.q_norm(query), self.attention.k_norm(key)
        return Heads(*map(self._heads, (query, key, value)))


class _Routed(NamedTuple):
    """Activations of all pairs of a row and one of its experts, in the order of the experts.

    `place` says where the pair `row x experts per row + i` is, `experts` which expert each place
    has; `weights` [rows, experts per row] are the routing weights.
    """

    place: Tensor
    experts: Tensor
    weights: Tensor
    values: Tensor


class MixtralLayer(DecoderLayer):
    """Mixtral and Qwen3-MoE: every rank holds a slice of every expert, so routing is local."""

    def mlp_up(self, hidden: Tensor) -> Any:
        """See `DecoderLayer`; the host waits for nothing where the product is one kernel."""
        _, weights, chosen = self.mlp.gate(hidden)
        experts, order = chosen.flatten().sort(stable=True)
        rows = hidden[order // chosen.shape[1]]
        up = grouped_product(rows, self.mlp.experts.gate_up_proj, self._ends(experts))
        return _Routed(order.argsort(), experts, weights, up)

    def activation(self, up: Any) -> Any:
        """See `DecoderLayer`."""
        gate, linear = up.values.chunk(2, dim=-1)
        return up._replace(values=self.mlp.experts.act_fn(gate) * linear)

    def mlp_down(self, activated: Any, rows: slice) -> Tensor:
        """See `DecoderLayer`; a range of rows has as many pairs whatever was routed where."""
        weight: Tensor = self.mlp.experts.down_proj
        each = activated.weights.shape[1]
        place, order = activated.place[rows.start * each : rows.stop * each].sort()
        out = grouped_product(activated.values[place], weight, self._ends(activated.experts[place]))
        shares = activated.weights[rows].flatten()[order, None]
        total = weight.new_zeros(rows.stop - rows.start, weight.shape[1])
        return total.index_add_(0, order // each, (out * shares).to(total.dtype))

    def _ends(self, experts: Tensor) -> Tensor:
        """Where each expert's rows end among rows sorted by expert."""
        count = self.mlp.experts.down_proj.shape[0]
        every = torch.arange(count, device=experts.device)
        return torch.searchsorted(experts, every, right=True, out_int32=True)

    @property
    def down_bias(self) -> Tensor | None:
        """Experts have none."""
        return None


_FAMILIES: dict[str, type[DecoderLayer]] = {
    "llama": DecoderLayer,
    "mistral": DecoderLayer,
    "qwen2": DecoderLayer,
    "qwen3": DecoderLayer,
    "gemma": DecoderLayer,
    "opt": OptLayer,
    "phi3": Phi3Layer,
    "olmo2": Olmo2Layer,
    "mixtral": MixtralLayer,
    "qwen3_moe": MixtralLayer,
}


def pieces(layer: nn.Module, family: str) -> DecoderLayer:
    """The pieces of a decoder layer of a supported family."""
    return _FAMILIES[family](layer)
