"""The kernels of routed experts in a pass.

Where a machine's profile has measured ones (`experts`), each of the two products of a mixture is a
half of them: what sorts, permutes and activates goes with the first, what adds up with the second.
Elsewhere a mixture is two grouped products of evenly loaded experts.
"""

from typing import TYPE_CHECKING

import numpy as np

from isotune.simulator.architecture import Experts, Matmul, RowParallel
from isotune.simulator.kernels import (
    Array,
    Cost,
    ExpertsParameters,
    ExpertsShape,
    Operands,
    Selected,
    experts_cost,
)
from isotune.simulator.predict.step_shape import Rows

if TYPE_CHECKING:
    from isotune.simulator.predict.step_cost import CostModel

IMBALANCE = 1.01
"""Exponent of the experts' popularity where ranks hold experts of their own: that of
aiconfigurator's measurements which its own models of mixtures take."""
CHOSEN_EVENLY = (
    "routed experts: tokens are assumed to choose experts evenly and independently of each other; "
    "an uneven choice takes longer, the more so the fewer the tokens."
)
CHOSEN_UNEVENLY = (
    "routed experts: tokens are assumed to choose experts by a power law of exponent "
    f"{IMBALANCE:g}, as in the measurements of these kernels, and the busiest rank is priced."
)
NOT_MEASURED = (
    "routed experts were not measured on this machine: they are priced as grouped products of "
    "evenly loaded experts; sorting and uneven load are left out."
)


def experts_kernels(op: Matmul, experts: Experts, costs: "CostModel", shape: Rows) -> list[Cost]:
    """Costs of the kernels of a product over experts, and of what routes rows to them."""
    measured = costs.scenario.experts_of(costs.scenario.operands(op))
    if measured is None:
        return _grouped_product(op, experts, costs, shape)
    return _measured(op, experts, measured, costs, shape)


def _measured(
    op: Matmul,
    experts: Experts,
    measured: Selected[ExpertsParameters],
    costs: "CostModel",
    shape: Rows,
) -> list[Cost]:
    """A half of the measured kernels of experts; before the first, the router and its choice."""
    operands = costs.scenario.operands(op)
    second = isinstance(op, RowParallel)
    hidden, inner = (op.n, op.k) if second else (op.k, op.n // (experts.matrices - 1))
    parameters, alone = measured.parameters, experts.ep == 1
    if experts.gathered > 1:  # only rows of its own experts reach a rank
        parameters = parameters.model_copy(update={"foreign_rows": 0.0})
    both = experts_cost(
        _rows(experts, shape),
        ExpertsShape(
            hidden,
            inner,
            _active(experts, shape) if alone else experts.count,
            experts.per_token,
            ep=experts.ep,
            matrices=experts.matrices,
        ),
        gpu=costs.scenario.hardware.gpu,
        parameters=parameters,
        dtype=operands.dtype,
        weight_dtype=operands.weight_dtype,
        imbalance=0.0 if alone else IMBALANCE,
    )
    routed = _rows(experts, shape) * experts.per_token / experts.ep
    quantise = costs.quantised(routed, op.k, operands, measured.stands_in_for)
    if second:
        return [*quantise, both.down]
    if not experts.routes:
        return [*quantise, both.up]
    chosen = costs.elementwise(shape.rows, 2 * experts.count)
    return [_router(op, experts, costs, shape), chosen, *quantise, both.up]


def _router(op: Matmul, experts: Experts, costs: "CostModel", shape: Rows) -> Cost:
    operands = Operands.of(costs.scenario.workload.travel_dtype)
    return costs.gemm(shape.rows, experts.count, op.k, operands)


def _grouped_product(op: Matmul, experts: Experts, costs: "CostModel", shape: Rows) -> list[Cost]:
    """Where no kernels of experts were measured: a product of evenly loaded experts."""
    operands = costs.scenario.operands(op)
    active = _active(experts, shape)
    routed = _rows(experts, shape) * experts.per_token / experts.ep
    quantise = costs.quantised(routed, op.k, operands)
    grouped = costs.gemm(routed / active, active * op.n, op.k, operands)
    if not experts.routes:
        return [*quantise, grouped]
    permute = costs.elementwise(routed, 4 * op.k)
    return [_router(op, experts, costs, shape), permute, *quantise, grouped]


def _rows(experts: Experts, shape: Rows) -> Array:
    """Tokens of all ranks that bring theirs to these experts."""
    return np.asarray(shape.rows, dtype=np.float64) * experts.gathered


def _active(experts: Experts, shape: Rows) -> Array:
    """A rank's experts that get a token, on average, if tokens choose independently and evenly."""
    missed = (1.0 - experts.per_token / experts.count) ** _rows(experts, shape)
    return np.asarray(experts.held * (1.0 - missed))
