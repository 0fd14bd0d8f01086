"""Routed experts in a pass: the measured kernels where a machine has them, and what is assumed."""

import numpy as np
import pytest

from isotune.simulator.architecture import ExpertsActivation, Matmul, load_model
from isotune.simulator.kernels import ExpertsShape, experts_cost
from isotune.simulator.machine import read_profile
from isotune.simulator.predict import CostModel, Rows, Scenario, predict
from isotune.simulator.schedule import Workload

H100 = read_profile("h100")
NOBODY = H100.model_copy(
    update={
        "experts": None,
        "sources": {k: v for k, v in H100.sources.items() if not k.startswith("experts")},
    }
)


def mixtral(hardware=H100, **fields):
    workload = Workload(**{"prompt": 4096, "tp": 8} | fields)
    return Scenario(model=load_model("mixtral-8x22b"), hardware=hardware, workload=workload)


def kernels(scenario, rows):
    """Costs of the block's kernels by the name of their op, alone on the GPU."""
    costs = CostModel(scenario)
    shape = Rows(rows, 1, rows, 0)
    ops = scenario.model.block(scenario.workload.parallelism).ops
    return {op.name: costs.kernels(op, shape) for op in ops if op.sublayer == "mlp" and rows}


def test_a_pass_has_the_measured_kernels_of_experts_and_routes_before_them():
    found = kernels(mixtral(), 4096)
    shape = ExpertsShape(6144, 16384, 8, 2, tp=8)
    up, down = experts_cost(4096, shape, gpu=H100.gpu, parameters=H100.experts)
    assert found["mlp_up"][-1].seconds == pytest.approx(up.seconds)
    assert found["mlp_down"][-1].seconds == pytest.approx(down.seconds)
    router, choice = found["mlp_up"][:-1]
    assert router.flops == 2 * 4096 * 8 * 6144
    assert choice.seconds > 0


def test_the_activation_is_part_of_the_measured_kernels_only():
    measured, derived = (kernels(mixtral(hw), 4096)["activation"] for hw in (H100, NOBODY))
    assert [float(cost.seconds) for cost in measured] == [0.0]
    assert derived[0].seconds > 0
    ops = mixtral().model.block(8).ops
    assert [op.name for op in ops if isinstance(op, ExpertsActivation)] == ["activation"]


def test_few_tokens_read_only_the_weights_of_the_experts_that_they_chose():
    moved = [sum(c.mem_bytes for c in kernels(mixtral(), rows)["mlp_down"]) for rows in (1, 64)]
    weights = 6144 * 16384 // 8 * 2
    assert moved[0] == pytest.approx(2 * weights, rel=0.01)
    assert moved[1] == pytest.approx(8 * weights, rel=0.05)


def test_products_over_experts_name_the_figures_behind_them():
    scenario = mixtral(quant="fp8")
    block = scenario.model.block(8).ops
    over_experts = [op for op in block if isinstance(op, Matmul) and op.experts]
    assert {scenario.section_of(op) for op in over_experts} == {"experts.sets.fp8"}
    assert "587" in mixtral().source_of("experts")


def test_what_is_assumed_stands_beside_the_number():
    measured, derived = mixtral(), mixtral(NOBODY)
    assert any("evenly and independently" in text for text in measured.cautions())
    assert any("experts were not measured" in text for text in derived.cautions())
    dense = Scenario(model=load_model("llama-3.1-8b"), hardware=H100, workload=Workload(tp=8))
    assert not any("experts" in text for text in dense.cautions())


def test_experts_in_a_type_that_was_not_measured_are_quantised_and_said_to_stand_in():
    scenario = mixtral(quant="w8a8")
    assert any("experts of h100 was not measured for int8" in t for t in scenario.cautions())
    usual, other = (len(kernels(s, 512)["mlp_down"]) for s in (mixtral(quant="fp8"), scenario))
    assert (usual, other) == (1, 2)


def test_the_error_of_products_is_that_of_the_less_certain_kernels():
    assert mixtral().class_errors()["gemm"] == H100.experts.error
    assert mixtral(NOBODY).class_errors()["gemm"] == H100.errors.gemm
    assert predict(mixtral()).latency_s > predict(mixtral(NOBODY)).latency_s


def test_ranks_that_hold_experts_of_their_own_are_priced_by_the_busiest():
    scenario = mixtral(ep=8)
    found = kernels(scenario, 4096)["mlp_down"][-1]
    shape = ExpertsShape(6144, 16384, 8, 2, ep=8)
    down = experts_cost(4096, shape, gpu=H100.gpu, parameters=H100.experts, imbalance=1.01).down
    assert found.seconds == pytest.approx(down.seconds)
    assert found.flops > 1.5 * kernels(mixtral(), 4096)["mlp_down"][-1].flops
    assert any("busiest rank" in text for text in scenario.cautions())


def test_an_array_of_rows_costs_what_its_elements_cost():
    costs = CostModel(mixtral())
    up = next(op for op in mixtral().model.block(8).ops if op.name == "mlp_up")
    rows = np.array([1, 17, 512, 4096])
    together = sum(cost.seconds for cost in costs.kernels(up, Rows(rows, 1, rows, 0)))
    alone = [sum(c.seconds for c in costs.kernels(up, Rows(int(n), 1, int(n), 0))) for n in rows]
    np.testing.assert_allclose(together, alone)
