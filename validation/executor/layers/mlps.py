"""MLPs as the modules of each family have them: dense, and mixtures of experts."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from isotune.simulator.architecture import (
    Activation,
    ColumnParallel,
    ExpertsActivation,
    ExpertSum,
    Matmul,
    Op,
    RowParallel,
)
from isotune.validation.executor.fused_ops import grouped_product
from isotune.validation.executor.layers.contract import Place, Run
from isotune.validation.executor.layers.products import Products


class GatedMlp:
    """Two column-parallel projections, the nonlinearity of one times the other, and one back."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.bias: Tensor | None = self._down.bias
        self._products = self._of_one_input()

    @property
    def ops(self) -> Mapping[type[Op], Run]:
        """See `Sublayer`."""
        return {
            ColumnParallel: lambda _, hidden, __: self.up(hidden),
            Activation: lambda _, up, __: self.activation(up),
        }

    def is_last(self, op: Op) -> bool:
        """See `Sublayer`."""
        return isinstance(op, RowParallel)

    def kernel(self, like: Tensor) -> str:
        """It mixes no tokens."""
        del like
        return ""

    def cache(self, requests: int, tokens: int, like: Tensor) -> None:
        """It keeps nothing."""
        del requests, tokens, like

    def only_run(self) -> None:
        """See `Sublayer`: the products of one input become one."""
        if self._products is not None:
            self._products.join()

    def _of_one_input(self) -> Products | None:
        """The projections, where there are several."""
        return Products(self.module.gate_proj, self.module.up_proj)

    def up(self, hidden: Tensor) -> Any:
        """The column-parallel products."""
        assert self._products is not None
        return self._products(hidden)

    def activation(self, up: Any) -> Any:
        """What the last product takes."""
        gate, linear = up
        return self.module.act_fn(gate) * linear

    def product(self, work: Any, rows: slice) -> Tensor:
        """See `Sublayer`."""
        return functional.linear(work[rows], self._down.weight)

    @property
    def _down(self) -> Any:
        return self.module.down_proj


class PackedMlp(GatedMlp):
    """Phi-3, GLM: both projections in one."""

    def _of_one_input(self) -> None:
        """There is one."""

    def up(self, hidden: Tensor) -> Any:
        """See `GatedMlp`."""
        return self.module.gate_up_proj(hidden).chunk(2, dim=-1)

    def activation(self, up: Any) -> Any:
        """See `GatedMlp`."""
        gate, linear = up
        return self.module.activation_fn(gate) * linear


class OptMlp(GatedMlp):
    """OPT: one projection each way, which are the layer's own modules."""

    def _of_one_input(self) -> None:
        """There is one."""

    def up(self, hidden: Tensor) -> Any:
        """See `GatedMlp`."""
        return self.module.fc1(hidden)

    def activation(self, up: Any) -> Any:
        """See `GatedMlp`."""
        return self.module.activation_fn(up)

    @property
    def _down(self) -> Any:
        return self.module.fc2


@dataclass(frozen=True)
class _Routed:
    """Activations of all pairs of a row and one of its experts, in the order of the experts.

    `place` says where the pair `row x experts per row + i` is, `experts` which expert each place
    has; `weights` [rows, experts per row] are the routing weights.
    """

    place: Tensor
    experts: Tensor
    weights: Tensor
    values: Tensor


@dataclass(frozen=True)
class _Work:
    """The normed activations, what the MLP beside the experts has made of them, and the experts."""

    hidden: Tensor
    beside: Any = None
    routed: _Routed | None = None


class Experts:
    """Every rank holds a slice of every expert, so that routing is local.

    Where a `shared` MLP works beside them, its partial sums join theirs.
    """

    bias: Tensor | None = None

    def __init__(self, module: Any, tp: int) -> None:
        self.module, self._tp = module, tp
        self._router: Any = getattr(module, "gate", None) or module.router
        self._experts: Any = module.experts
        shared = getattr(module, "shared_experts", None) or getattr(module, "shared_expert", None)
        self._shared = None if shared is None else GatedMlp(shared)

    @property
    def ops(self) -> Mapping[type[Op], Run]:
        """See `Sublayer`."""
        return {
            ColumnParallel: self._up,
            Activation: self._shared_activation,
            ExpertsActivation: self._activation,
            RowParallel: self._shared_down,
            ExpertSum: self._sum,
        }

    def is_last(self, op: Op) -> bool:
        """See `Sublayer`; the product of the shared MLP is not."""
        return isinstance(op, Matmul) and op.experts is not None

    def kernel(self, like: Tensor) -> str:
        """It mixes no tokens."""
        del like
        return ""

    def cache(self, requests: int, tokens: int, like: Tensor) -> None:
        """It keeps nothing."""
        del requests, tokens, like

    def only_run(self) -> None:
        """See `Sublayer`."""
        if self._shared is not None:
            self._shared.only_run()

    def product(self, work: _Work, rows: slice) -> Tensor:
        """See `Sublayer`; a range of rows has as many pairs whatever was routed where."""
        routed, hidden = work.routed, work.hidden
        assert routed is not None
        each = routed.weights.shape[1]
        place, order = routed.place[rows.start * each : rows.stop * each].sort()
        out = self._down(routed.values[place], routed.experts[place])
        shares = routed.weights[rows].flatten()[order, None]
        shape = (rows.stop - rows.start, hidden.shape[1])
        total = hidden.new_zeros(shape) if work.beside is None else work.beside[rows].clone()
        return total.index_add_(0, order // each, (out * shares).to(total.dtype))

    def _up(self, op: Op, work: Any, _: Place) -> _Work:
        assert isinstance(op, ColumnParallel)
        if op.experts is None:
            assert self._shared is not None
            return _Work(work, beside=self._shared.up(work))
        state = work if isinstance(work, _Work) else _Work(work)
        _, weights, chosen = self._router(state.hidden)
        experts, order = chosen.flatten().sort(stable=True)
        up = self._expert_up(state.hidden[order // chosen.shape[1]], experts)
        return replace(state, routed=_Routed(order.argsort(), experts, weights, up))

    def _shared_activation(self, _: Op, work: _Work, __: Place) -> _Work:
        assert self._shared is not None
        return replace(work, beside=self._shared.activation(work.beside))

    def _activation(self, _: Op, work: _Work, __: Place) -> _Work:
        routed = work.routed
        assert routed is not None
        return replace(work, routed=replace(routed, values=self._gated(routed.values)))

    def _shared_down(self, _: Op, work: _Work, __: Place) -> _Work:
        assert self._shared is not None
        return replace(work, beside=self._shared.product(work.beside, slice(None)))

    def _sum(self, _: Op, work: _Work, __: Place) -> _Work:
        """Weigh the shared MLP's results; the experts join them in the last product."""
        gate = getattr(self.module, "shared_expert_gate", None)
        if gate is None:
            return work
        return replace(work, beside=torch.sigmoid(gate(work.hidden)) * work.beside)

    def _expert_up(self, rows: Tensor, experts: Tensor) -> Tensor:
        """Each row times the matrix of its expert; the rows are sorted by expert."""
        return grouped_product(rows, self._experts.gate_up_proj, self._ends(experts))

    def _gated(self, up: Tensor) -> Tensor:
        gate, linear = up.chunk(2, dim=-1)
        gated: Tensor = self._experts.act_fn(gate) * linear
        return gated

    def _down(self, values: Tensor, experts: Tensor) -> Tensor:
        return grouped_product(values, self._experts.down_proj, self._ends(experts))

    def _ends(self, experts: Tensor) -> Tensor:
        """Where each expert's rows end among rows sorted by expert."""
        every = torch.arange(self._experts.down_proj.shape[0], device=experts.device)
        return torch.searchsorted(experts, every, right=True, out_int32=True)


class BiasedExperts(Experts):
    """gpt-oss: matrices the other way round, gate and up interleaved, biases.

    A rank adds its part of the last bias, since each row has that of the experts it visits.
    """

    def _expert_up(self, rows: Tensor, experts: Tensor) -> Tensor:
        weights = self._experts.gate_up_proj.transpose(1, 2)
        up = grouped_product(rows, weights, self._ends(experts))
        biased: Tensor = up + self._experts.gate_up_proj_bias[experts]
        return biased

    def _gated(self, up: Tensor) -> Tensor:
        gated: Tensor = self._experts._apply_gate(up)
        return gated

    def _down(self, values: Tensor, experts: Tensor) -> Tensor:
        weights = self._experts.down_proj.transpose(1, 2)
        down = grouped_product(values, weights, self._ends(experts))
        biased: Tensor = down + self._experts.down_proj_bias[experts] / self._tp
        return biased
