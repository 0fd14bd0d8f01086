"""Linear attention with a recurrent state, which a chunk takes from the chunk before it."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from isotune.simulator.architecture import (
    ColumnParallel,
    Convolution,
    Op,
    RowParallel,
    Scan,
    StateNorm,
)
from isotune.validation.executor.layers.caches import StateCache
from isotune.validation.executor.layers.contract import Place, Run
from isotune.validation.executor.layers.products import Products


@dataclass(frozen=True)
class _Work:
    """What the ops leave for each other, each [requests, tokens, ...].

    `mixed` has the channels of queries, keys and values, `gate` a value per channel of the heads'
    outputs; `write` and `decay` say how much a head takes in and lets go at a token.
    """

    mixed: Tensor
    gate: Tensor
    write: Tensor
    decay: Tensor
    before: tuple[Tensor, ...] | None = None
    inputs: Tensor | None = None


class GatedDeltaNet:
    """Qwen3-Next: its states are the convolution's last inputs and that of the delta rule."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.out: Any = module.out_proj
        self.bias: Tensor | None = self.out.bias
        self._products = Products(module.in_proj_qkvz, module.in_proj_ba)
        self._width: int = module.head_v_dim
        self._heads = int(self.out.weight.shape[1]) // self._width
        self._per_key: int = module.num_v_heads // module.num_k_heads
        self._keys = self._heads // self._per_key * int(module.head_k_dim)

    @property
    def ops(self) -> Mapping[type[Op], Run]:
        """See `Sublayer`."""
        return {
            ColumnParallel: self._in,
            Convolution: self._convolution,
            Scan: self._scan,
            StateNorm: self._norm,
        }

    def is_last(self, op: Op) -> bool:
        """See `Sublayer`."""
        return isinstance(op, RowParallel)

    def only_run(self) -> None:
        """See `Sublayer`: both projections become one product."""
        self._products.join()

    def kernel(self, like: Tensor) -> str:
        """See `Sublayer`."""
        del like
        return "transformers' gated delta rule"

    def cache(self, requests: int, tokens: int, like: Tensor) -> StateCache:
        """The states of this rank's heads, whatever the number of tokens."""
        del tokens, like
        return StateCache(requests)

    def product(self, work: Tensor, rows: slice) -> Tensor:
        """See `Sublayer`; takes the heads' outputs [rows, heads x head_v_dim]."""
        return functional.linear(work[rows], self.out.weight)

    def _in(self, _: Op, hidden: Tensor, place: Place) -> _Work:
        """Both projections, which have the parts of a key head and its value heads together."""
        module, shape = self.module, (place.chunk.requests, place.chunk.tokens)
        hidden = hidden.view(*shape, -1)
        key, values = module.head_k_dim, self._per_key * self._width
        large, little = self._products(hidden)
        by_head = large.view(*shape, -1, 2 * (key + values))
        *mixed, gate = by_head.split((key, key, values, values), dim=-1)
        small = little.view(*shape, -1, 2 * self._per_key)
        write, step = (part.reshape(*shape, -1) for part in small.chunk(2, dim=-1))
        decay = -module.A_log.float().exp() * functional.softplus(step.float() + module.dt_bias)
        return _Work(
            mixed=torch.cat([part.reshape(*shape, -1) for part in mixed], -1),
            gate=gate.reshape(-1, self._width),
            write=write.sigmoid(),
            decay=decay,
            before=place.cache.before(place.chunk),
        )

    def _convolution(self, _: Op, work: _Work, __: Place) -> _Work:
        """Causal, over the chunk's inputs and the last ones before it."""
        weight = self.module.conv1d.weight
        reach, inputs = weight.shape[-1] - 1, work.mixed.transpose(1, 2)
        if work.before is None:
            inputs = functional.pad(inputs, (reach, 0))
        else:
            inputs = torch.cat((work.before[0], inputs), -1)
        mixed = functional.silu(functional.conv1d(inputs, weight, groups=weight.shape[0]))
        return replace(work, mixed=mixed.transpose(1, 2), inputs=inputs[..., -reach:])

    def _scan(self, _: Op, work: _Work, place: Place) -> tuple[Tensor, Tensor]:
        family: Any = sys.modules[type(self.module).__module__]
        values = self._heads * self._width
        *keys, value = work.mixed.split((self._keys, self._keys, values), dim=-1)
        query, key = (part.unflatten(-1, (-1, self.module.head_k_dim)) for part in keys)
        rule = family.torch_chunk_gated_delta_rule
        if work.before is not None and place.chunk.tokens == 1:
            rule = family.torch_recurrent_gated_delta_rule
        outputs, state = rule(
            query,
            key,
            value.unflatten(-1, (-1, self._width)),
            g=work.decay,
            beta=work.write,
            initial_state=None if work.before is None else work.before[1],
            output_final_state=True,
            use_qk_l2norm_in_kernel=True,
        )
        assert work.inputs is not None
        place.cache.keep(place.chunk, work.inputs, state)
        return outputs.reshape(-1, self._width), work.gate

    def _norm(self, _: Op, work: tuple[Tensor, Tensor], place: Place) -> Tensor:
        outputs: Tensor = self.module.norm(*work)
        return outputs.reshape(place.chunk.rows, -1)
