"""What compute and a collective take from each other, as a user may rely on it."""

import numpy as np
import pytest

from isotune.simulator.architecture import Matmul, Norm, Op, load_model
from isotune.simulator.kernels import Cost
from isotune.simulator.machine import HardwareProfile, read_profile
from isotune.simulator.predict import CostModel, Rows, Scenario, StepCost, predict
from isotune.simulator.schedule import Plan, Workload

OPS = load_model("llama-2-70b").block(8).ops
UP = next(op for op in OPS if isinstance(op, Matmul) and op.sublayer == "mlp")
NORM = next(op for op in OPS if isinstance(op, Norm))


def machine(name: str, **runtime: float) -> HardwareProfile:
    profile = read_profile(name)
    return profile.model_copy(update={"runtime": profile.runtime.model_copy(update=runtime)})


def cost_model(hardware: HardwareProfile, **workload: object) -> CostModel:
    asked = Workload.model_validate({"tp": 8} | workload)
    model = load_model("llama-2-70b")
    return CostModel(Scenario(model=model, hardware=hardware, workload=asked))


def rows(tokens: int) -> Rows:
    return Rows(tokens, 1, tokens, 0)


def collective(sms: float, mem_rate: float = 0.0) -> StepCost:
    one = np.ones(())
    return StepCost(one, (), sms * one, mem_rate * one, one)


def slowdown(prices: CostModel, op: Op, tokens: int, sync: StepCost) -> float:
    return float(prices.slowdowns(prices.step((op,), rows(tokens)), sync)[0])


def product(load: float) -> StepCost:
    """A compute-bound GEMM of a millisecond with `load` tiles per SM."""
    second = np.full((), 1e-3)
    cost = Cost(second, second, 0 * second, 0 * second, load + 0 * second)
    return StepCost(second, ((UP, cost),), 0 * second, 0 * second, 1 + 0 * second)


def test_a_product_that_fits_on_the_sms_left_loses_nothing_one_that_filled_them_all_does() -> None:
    prices = cost_model(machine("a800"))
    fits, fills = (prices.slowdowns(product(load), collective(16))[0] for load in (0.8, 1.0))
    assert fits == pytest.approx(1.0)
    assert fills > 1.3


def test_a_product_loses_at_least_the_share_of_sms_that_the_collective_holds() -> None:
    prices = cost_model(machine("a800"))
    lost = [slowdown(prices, UP, 8192, collective(sms)) for sms in (0, 8, 16, 32)]
    assert lost[0] == pytest.approx(1.0)
    assert lost == sorted(lost)
    assert lost[2] > 1 / (1 - 16 / 108) - 0.03


def test_a_kernel_slows_with_the_share_of_memory_bandwidth_the_collective_takes() -> None:
    prices = cost_model(machine("h100", memory_interference=2.0))
    quiet, loud = (
        float(prices.slowdowns(product(20.0), collective(8, mem_rate))[0])
        for mem_rate in (0.0, 0.25)
    )
    assert loud == pytest.approx(quiet * 1.5)


def test_streams_that_exceed_the_memory_bandwidth_share_it() -> None:
    prices = cost_model(machine("a800", memory_interference=0.0))
    norm = prices.step((NORM,), rows(65536))
    slower, sync = prices.slowdowns(norm, collective(sms=16, mem_rate=0.6))
    assert slower == sync == pytest.approx(float(norm.mem_rate) + 0.6)


def test_an_eager_engine_pays_for_its_host_once_per_pass_however_many_chunks() -> None:
    def latency(eager_step: float, plan: Plan) -> float:
        prices = cost_model(machine("h100", eager_step=eager_step), runtime="eager")
        return predict(prices.scenario, plan).latency_s

    for plan in (Plan(), Plan(strategy="iso", chunks=(1024, 1024, 1024, 1024))):
        assert latency(9e-3, plan) - latency(1e-3, plan) == pytest.approx(8e-3)


def test_a_cuda_graph_hides_launches_but_never_a_whole_kernel() -> None:
    seconds = [
        float(cost_model(machine("h100", graph_overlap=hidden)).step((NORM,), rows(1)).seconds)
        for hidden in (0.0, 2e-6, 1e-5)
    ]
    assert seconds[0] - seconds[1] == pytest.approx(2e-6)
    assert seconds[2] == pytest.approx(seconds[0] / 2)
