"""The invariants a prediction keeps, whatever the plan."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isotune import hw_profiles
from isotune.simulator.architecture import (
    HOST,
    Activation,
    Attend,
    Collective,
    Embed,
    Norm,
    Rope,
)
from isotune.simulator.errors import DoesNotFitError, InputError
from isotune.simulator.kernels import Cost, Gpu
from isotune.simulator.machine import HardwareProfile, read_profile
from isotune.simulator.predict import CostModel, ProgramCosts, Rows, Scenario, StepCost, predict
from isotune.simulator.schedule import SEARCHABLE, STRATEGIES, Plan, expand

MakeScenario = Callable[..., Scenario]
MakePlans = Callable[..., Any]
DENSE = ("llama-2-7b", "llama-2-70b", "opt-13b", "mistral-7b")
BYTE_MOVERS = (Embed, Norm, Rope, Activation)
ROUNDING = 1e-12
TWO_CHUNKS = Plan(strategy="iso", chunks=(300, 700))


@st.composite
def scenarios(draw: st.DrawFn, make: MakeScenario, tp: tuple[int, ...] = (2, 4, 8)) -> Scenario:
    hardware = read_profile(draw(st.sampled_from(hw_profiles.names())))
    return make(
        draw(st.sampled_from(DENSE)),
        hardware,
        blocks=2,
        phase=draw(st.sampled_from(["prefill", "prefill", "decode"])),
        tp=draw(st.sampled_from([ranks for ranks in tp if ranks <= hardware.max_ranks])),
        prompt=draw(st.integers(1, 9000)),
        batch=draw(st.integers(1, 4)),
        runtime=draw(st.sampled_from(["cuda_graph", "eager"])),
    )


def totals(scenario: Scenario, plan: Plan) -> dict[str, float]:
    """What all steps of a plan compute, move and send."""
    program = expand(scenario.model, scenario.workload, plan)
    costs = ProgramCosts(program, CostModel(scenario, plan.comm_dtype, plan.comm_sms))
    total = dict.fromkeys(("flops", "bytes", "sent"), 0.0)
    for index, step in enumerate(program.steps):
        for op, cost in costs.step_cost(index).parts:
            total["flops"] += float(cost.flops)
            total["bytes"] += float(cost.mem_bytes) if isinstance(op, BYTE_MOVERS) else 0.0
            total["sent"] += step.rows if isinstance(op, Collective) else 0
    return total


@settings(max_examples=50)
@given(data=st.data())
def test_flops_and_activation_bytes_of_the_chunks_add_up_to_the_whole(
    make_scenario: MakeScenario, plans: MakePlans, data: st.DataObject
) -> None:
    scenario = data.draw(scenarios(make_scenario))
    plan = data.draw(plans(scenario))
    whole = totals(scenario, Plan(dropped=plan.dropped))
    assert totals(scenario, plan) == pytest.approx(whole, rel=ROUNDING)


def test_causal_attention_of_two_chunks_is_counted_pair_by_pair(
    make_scenario: MakeScenario,
) -> None:
    scenario = make_scenario("llama-2-7b", blocks=1, prompt=1000, tp=8)
    cost_model = CostModel(scenario)
    (attention,) = (op for op in scenario.model.block(8).ops if isinstance(op, Attend))
    flops = 0.0
    for chunk in expand(scenario.model, scenario.workload, TWO_CHUNKS).chunks:
        shape = Rows(chunk.rows, chunk.requests, chunk.tokens, chunk.start)
        ((_, cost),) = cost_model.step((attention,), shape).parts
        flops += float(cost.flops)
    heads, head_dim, pairs = 32 / 8, 128, 1000 * 1001 / 2
    assert flops == 4 * head_dim * heads * pairs


@settings(max_examples=40)
@given(data=st.data())
def test_serial_is_one_chunk_and_an_empty_drop_set(
    make_scenario: MakeScenario, data: st.DataObject
) -> None:
    scenario = data.draw(scenarios(make_scenario))
    strategy = data.draw(st.sampled_from([s for s in SEARCHABLE if s != "serial"]))
    whole = STRATEGIES[strategy].total(scenario.workload)
    one = predict(scenario, Plan(strategy=strategy, chunks=(whole,)))
    assert one.latency_s == one.serial_latency_s == predict(scenario).latency_s
    assert (one.saving, one.overlapped_s) == (0.0, 0.0)


@settings(max_examples=50)
@given(data=st.data())
def test_without_contention_latency_lies_between_the_larger_and_the_sum_of_c_and_m(
    make_scenario: MakeScenario, plans: MakePlans, data: st.DataObject
) -> None:
    scenario = data.draw(scenarios(make_scenario))
    ideal = predict(scenario, data.draw(plans(scenario)), contention=False)
    latency, parts = ideal.latency_s, (ideal.compute_s, ideal.comm_s)
    assert max(parts) * (1 - ROUNDING) <= latency <= sum(parts) * (1 + ROUNDING)
    assert ideal.contention_s == pytest.approx(0.0, abs=latency * ROUNDING)


@settings(max_examples=50)
@given(data=st.data())
def test_the_parts_of_a_prediction_add_up(
    make_scenario: MakeScenario, plans: MakePlans, data: st.DataObject
) -> None:
    p = predict(
        *data.draw(scenarios(make_scenario).flatmap(lambda s: st.tuples(st.just(s), plans(s))))
    )
    close = {"rel": 1e-9, "abs": 1e-12 * p.latency_s}
    assert p.compute_s + p.exposed_comm_s + p.contention_s == pytest.approx(p.latency_s, **close)
    assert sum(p.op_seconds.values()) == pytest.approx(p.compute_s + p.comm_s, **close)
    assert p.bound_s <= p.latency_s * (1 + ROUNDING)
    assert p.contention_s >= -ROUNDING * p.latency_s
    steps = zip(p.program.steps, p.timeline.starts, p.timeline.ends, strict=True)
    computing = sum(end - start for step, start, end in steps if not step.is_sync)
    assert p.latency_s == pytest.approx(max(p.timeline.ends), **close)
    assert p.exposed_comm_s == pytest.approx(p.timeline.latency - computing, **close)


def price(seconds: float, sm_seconds: float, mem_rate: float, sms: float, gpu: Gpu) -> StepCost:
    """A step of one kernel, or a collective that holds `sms` SMs."""
    one, moved = np.ones(()), mem_rate * seconds * gpu.memory_bandwidth
    cost = Cost(seconds * one, sm_seconds * one, moved * one, 0 * one, 0 * one)
    return StepCost(cost.seconds, ((HOST, cost),), sms * one, mem_rate * one, one)


def without_interference(scenario: Scenario) -> Scenario:
    runtime = scenario.hardware.runtime.model_copy(update={"memory_interference": 0.0})
    hardware = scenario.hardware.model_copy(update={"runtime": runtime})
    return Scenario(model=scenario.model, hardware=hardware, workload=scenario.workload)


@pytest.mark.parametrize(
    ("sm_seconds", "mem_rates", "held", "slower"),
    [
        (1.0, (0.0, 0.0), 1 / 4, (4 / 3, 1.0)),
        (0.0, (0.8, 0.6), 1 / 4, (1.4, 1.4)),
        (1.0, (0.8, 0.3), 1 / 4, (4 / 3, 1.1)),
        (0.0, (0.3, 0.3), 1 / 4, (1.0, 1.0)),
    ],
)
def test_beside_a_collective_a_kernel_loses_its_sms_and_shares_memory(
    make_scenario: MakeScenario,
    sm_seconds: float,
    mem_rates: tuple[float, float],
    held: float,
    slower: tuple[float, float],
) -> None:
    scenario = without_interference(make_scenario())
    gpu = scenario.hardware.gpu
    kernel = price(1.0, sm_seconds, mem_rates[0], 0.0, gpu)
    collective = price(1.0, 1.0, mem_rates[1], held * gpu.sms, gpu)
    found = CostModel(scenario).slowdowns(kernel, collective)
    assert [float(part) for part in found] == pytest.approx(slower)


@settings(max_examples=50)
@given(data=st.data())
def test_contention_never_speeds_a_plan_up(
    make_scenario: MakeScenario, plans: MakePlans, data: st.DataObject
) -> None:
    scenario = data.draw(scenarios(make_scenario))
    plan = data.draw(plans(scenario))
    ideal = predict(scenario, plan, contention=False).latency_s
    assert predict(scenario, plan).latency_s >= ideal * (1 - ROUNDING)


def faster_memory(profile: HardwareProfile, factor: float) -> HardwareProfile:
    gpu = profile.gpu
    faster = {"memory_bandwidth": factor * gpu.memory_bandwidth}
    return profile.model_copy(update={"gpu": gpu.model_copy(update=faster)})


def faster_link(profile: HardwareProfile, factor: float) -> HardwareProfile:
    def scaled(table: Any, *names: str) -> dict[str, float]:
        return {name: factor * getattr(table, name) for name in names}

    algorithms = {}
    for name, algorithm in profile.collectives.algorithms.items():
        protocols = tuple(
            line.model_copy(update=scaled(line, "bandwidth", "bandwidth_many"))
            for line in algorithm.protocols
        )
        update = {"protocols": protocols, **scaled(algorithm, "sm_bandwidth")}
        algorithms[name] = algorithm.model_copy(update=update)
    collectives = profile.collectives.model_copy(update={"algorithms": algorithms})
    return profile.model_copy(update={"collectives": collectives})


def both_ways(
    data: st.DataObject, make: MakeScenario, plans: MakePlans, strategies: tuple[Any, ...]
) -> tuple[Scenario, Scenario, Plan]:
    """A scenario, the same one with more bandwidth somewhere, and a plan."""
    slow = data.draw(scenarios(make))
    upgrade = data.draw(st.sampled_from([faster_memory, faster_link]))
    hardware = upgrade(slow.hardware, data.draw(st.sampled_from([1.01, 1.3, 4.0])))
    fast = Scenario(model=slow.model, hardware=hardware, workload=slow.workload)
    return slow, fast, data.draw(plans(slow, strategies))


@settings(max_examples=50)
@given(data=st.data())
def test_more_bandwidth_never_hurts_a_serial_plan(
    make_scenario: MakeScenario, plans: MakePlans, data: st.DataObject
) -> None:
    slow, fast, plan = both_ways(data, make_scenario, plans, ("serial",))
    assert predict(fast, plan).latency_s <= predict(slow, plan).latency_s * (1 + ROUNDING)


@settings(max_examples=50)
@given(data=st.data())
def test_more_bandwidth_never_hurts_any_plan_without_contention(
    make_scenario: MakeScenario, plans: MakePlans, data: st.DataObject
) -> None:
    # The latency is then a longest path, which shorter steps cannot lengthen. Contention takes
    # that proof away: a step that ends earlier moves what the others overlap with.
    slow, fast, plan = both_ways(data, make_scenario, plans, SEARCHABLE)
    before = predict(slow, plan, contention=False).latency_s
    assert predict(fast, plan, contention=False).latency_s <= before * (1 + ROUNDING)


@settings(max_examples=50)
@given(data=st.data())
def test_more_bandwidth_hurts_a_contended_plan_by_less_than_a_thousandth(
    make_scenario: MakeScenario, plans: MakePlans, data: st.DataObject
) -> None:
    slow, fast, plan = both_ways(data, make_scenario, plans, SEARCHABLE)
    assert predict(fast, plan).latency_s <= predict(slow, plan).latency_s * 1.001


@settings(max_examples=50)
@given(data=st.data())
def test_dropping_syncs_saves_at_most_what_was_exposed_of_them(
    make_scenario: MakeScenario, plans: MakePlans, data: st.DataObject
) -> None:
    # Not GEMM overlap: there a dropped block's output GEMM is also spared its cut into tiles.
    scenario = data.draw(scenarios(make_scenario))
    dropping = data.draw(plans(scenario, ("serial", "iso", "request_overlap")))
    keeping = predict(scenario, dropping.model_copy(update={"dropped": ()}), contention=False)
    saved = keeping.latency_s - predict(scenario, dropping, contention=False).latency_s
    assert saved <= keeping.exposed_comm_s + ROUNDING * keeping.latency_s


def test_dropping_a_sync_that_is_fully_hidden_saves_nothing(make_scenario: MakeScenario) -> None:
    scenario = make_scenario("llama-2-70b", "h100", blocks=4, prompt=16_384)
    hidden = Plan(strategy="iso", chunks=(8192, 8192))
    dropping = hidden.model_copy(update={"dropped": (1,)})
    kept, dropped = (predict(scenario, plan, contention=False) for plan in (hidden, dropping))
    added = dropped.op_seconds["partial_add"]
    assert dropped.latency_s == pytest.approx(kept.latency_s + added, rel=ROUNDING)
    serial = predict(scenario).latency_s - predict(scenario, Plan(dropped=(1,))).latency_s
    contended = predict(scenario, hidden).latency_s - predict(scenario, dropping).latency_s
    assert contended + added < serial, "what is left is the contention that it caused"


def test_int8_halves_the_bytes_and_pays_where_the_link_is_slow(make_scenario: MakeScenario) -> None:
    scenario = make_scenario("llama-2-70b", "rtx4090", prompt=4096)
    wide, narrow = predict(scenario), predict(scenario, Plan(comm_dtype="int8"))
    assert 0.5 * wide.comm_s < narrow.comm_s < 0.7 * wide.comm_s
    assert narrow.compute_s == wide.compute_s


def test_one_gpu_has_no_communication(make_scenario: MakeScenario) -> None:
    alone = predict(make_scenario(tp=1, prompt=1000))
    assert (alone.comm_s, alone.exposed_comm_s) == (0.0, pytest.approx(0.0, abs=1e-12))


def test_iso_hides_communication_and_says_how_much(make_scenario: MakeScenario) -> None:
    scenario = make_scenario("llama-2-70b", prompt=8192)
    serial, iso = predict(scenario), predict(scenario, Plan(strategy="iso", chunks=(4096, 4096)))
    assert serial.exposed_comm_s == pytest.approx(serial.comm_s)
    assert iso.exposed_comm_s < 0.5 * iso.comm_s
    assert iso.saving > 0.03
    assert iso.overlapped_s > 0.5 * iso.comm_s


def test_what_cannot_run_is_refused_before_it_is_priced(make_scenario: MakeScenario) -> None:
    with pytest.raises(InputError, match="add up to 2"):
        predict(make_scenario(prompt=100), Plan(strategy="iso", chunks=(1, 1)))
    with pytest.raises(DoesNotFitError):
        predict(make_scenario("llama-3.1-405b", blocks=None))


@pytest.mark.parametrize("tp", [3, 16])
def test_a_tp_that_heads_or_node_do_not_allow_is_refused(
    make_scenario: MakeScenario, tp: int
) -> None:
    with pytest.raises(InputError, match=rf"tp: .*{tp}.*allowed: 1"):
        make_scenario(tp=tp)


def test_what_a_prediction_leaves_out_is_said(make_scenario):
    scenario = make_scenario("llama-2-7b")
    (kind,) = scenario.model.kinds
    normed = replace(kind, attention=replace(kind.attention, qk_norm="projection"))
    norms_all_heads = scenario.with_model(kinds=(normed,))
    assert any("is left out" in text for text in norms_all_heads.cautions())
    alone = norms_all_heads.with_workload(tp=1)
    assert not any("is left out" in text for text in alone.cautions())


def test_a_prompt_beyond_the_models_positions_is_said(make_scenario):
    within, beyond = (make_scenario("llama-2-7b", prompt=tokens) for tokens in (4096, 4097))
    assert not any("positions" in text for text in within.cautions())
    assert any("4,097 tokens are more" in text for text in beyond.cautions())


def test_a_model_in_float32_is_said_to_be_priced_in_bf16(make_scenario):
    scenario = make_scenario("llama-2-7b").with_model(dtype="float32")
    assert any("asks for float32" in text for text in scenario.cautions())
