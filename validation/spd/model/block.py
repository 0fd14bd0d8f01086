"""One decoder block on virtual ranks: what `tp` ranks compute without the attention all-reduce.

    h_i = x + a_i + b_o + c_i  (local)       y = x + b_o + b_d + sum_i [a_i + mlp_i(norm(h_i))]

c_i is the correction of rank i: what it is told of the attention output that it does not see.
transformers' own modules compute, on each rank's slices of their parameters, so that a dropped
block costs what a whole one does; gradients flow. `isotune.validation.reference` is the slow proof.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from isotune.validation.executor import DecoderLayer, pieces
from isotune.validation.weights import Sharding

Call = Mapping[str, Any]
"""What a decoder layer is called with beside the hidden states (rotation, mask)."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """A decoder layer of `config`, sharded over `tp` virtual ranks.

    `bias_correction` [tp, hidden] is added to each rank's MLP input while the sync is dropped.
    """

    layer: nn.Module
    config: Any
    tp: int
    bias_correction: Tensor | None = None
    pieces: DecoderLayer = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pieces", pieces(self.layer, self.config, 0, 1))

    def dropped(self, x: Tensor, call: Call) -> Tensor:
        """The block's output [..., tokens, hidden] without its attention all-reduce."""
        parts = self.attention(x, call)
        entry = self.entry(x)
        total = entry + sum(parts)
        for rank, part in enumerate(parts):
            total = total + self.mlp(self.local(entry, part, rank), rank)
        bias = self._mlp.bias
        return total if bias is None else total + bias

    def entry(self, x: Tensor) -> Tensor:
        """The residual stream with the output projection's bias, which every rank adds."""
        bias = self._attention.bias
        return x if bias is None else x + bias

    def local(self, entry: Tensor, part: Tensor, rank: int) -> Tensor:
        """The input of a rank's MLP without the other ranks' partial outputs."""
        known = entry + part
        return known if self.bias_correction is None else known + self.bias_correction[rank]

    def attention(self, x: Tensor, call: Call) -> list[Tensor]:
        """Each rank's partial attention output a_i."""
        return self.projected(self.mixed(x, call))

    def mixed(self, x: Tensor, call: Call) -> Tensor:
        """The heads' outputs [..., tokens, heads x head_dim], before the output projection."""
        with _replaced(self.out, lambda inputs: inputs):
            mixed: Tensor = self._attention.module(self.pieces.norms["attention"](x), **call)[0]
        return mixed

    def projected(self, mixed: Tensor) -> list[Tensor]:
        """Each rank's partial output of the heads' outputs."""
        columns = self.out.weight.chunk(self.tp, 1)
        shares = mixed.chunk(self.tp, -1)
        return [functional.linear(*both) for both in zip(shares, columns, strict=True)]

    @property
    def out(self) -> Any:
        """The output projection of the attention."""
        return self._attention.out

    def mlp(self, hidden: Tensor, rank: int) -> Tensor:
        """Rank's partial MLP output of its own input, the norm included, without the bias."""
        normed = self.pieces.norms["mlp"](hidden)
        layer: Any = self.layer
        held = partial(self._held, rank=rank)
        if self._mlp.module is layer:
            up = functional.linear(normed, held("fc1.weight"), held("fc1.bias"))
            return functional.linear(layer.activation_fn(up), held("fc2.weight"))
        names = [name for name, _ in layer.mlp.named_parameters()]
        slices = {
            name: held(f"mlp.{name}") for name in names if not name.endswith("down_proj.bias")
        }
        if "down_proj.bias" in names:
            slices["down_proj.bias"] = torch.zeros_like(layer.mlp.down_proj.bias)
        output: Tensor = functional_call(layer.mlp, slices, (normed,))
        return output

    def activated(self, hidden: Tensor) -> Tensor:
        """All neurons' activations of an input: what the down projection takes. Not of experts."""
        normed, mlp = self.pieces.norms["mlp"](hidden), self._mlp.module
        if mlp is self.layer:
            return mlp.activation_fn(mlp.fc1(normed))
        with _replaced(mlp.down_proj, lambda inputs: inputs):
            return mlp(normed)

    @property
    def down(self) -> Any:
        """The MLP's down projection; None for experts."""
        mlp = self._mlp.module
        return mlp.fc2 if mlp is self.layer else getattr(mlp, "down_proj", None)

    @property
    def _attention(self) -> Any:
        return self.pieces.sublayers["attention"]

    @property
    def _mlp(self) -> Any:
        return self.pieces.sublayers["mlp"]

    def _held(self, name: str, rank: int) -> Tensor:
        parameter = self.layer.get_parameter(name)
        shape = tuple(parameter.shape)
        shard = Sharding(self.config, self.tp).slice_of(f"layers.0.{name}", shape, rank)
        held: Tensor = parameter if shard is None else shard.of(parameter)
        return held


@contextmanager
def _replaced(module: Any, forward: Callable[..., Tensor]) -> Iterator[None]:
    """Another forward pass of a module within the block."""
    module.forward = forward
    try:
        yield
    finally:
        del module.forward
