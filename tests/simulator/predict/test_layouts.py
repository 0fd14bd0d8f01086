"""Passes whose GPUs share more than matrices: experts and requests."""

import numpy as np
import pytest

from isotune.simulator.architecture import Attend, Collective, Matmul, Parallelism
from isotune.simulator.batch import Batch, Splits, Timer
from isotune.simulator.errors import InputError
from isotune.simulator.predict import GpuMemory, SimulatedRun, predict
from isotune.simulator.schedule import STRATEGIES, Plan, Workload, expand

SPREAD = {"tp": 2, "dp": 4, "ep": 8}
PLANS = [
    Plan(),
    Plan(strategy="iso", chunks=(300, 340)),
    Plan(strategy="request_overlap", chunks=(1, 1)),
]


@pytest.fixture
def mixtral(make_scenario):
    def make(**fields):
        asked = {"prompt": 640, "batch": 8} | fields
        return make_scenario(model="mixtral-8x22b", hardware="h200", blocks=4, **asked)

    return make


def test_a_layout_of_one_axis_is_todays_scenario(mixtral):
    plain = mixtral(tp=8)
    assert plain.workload.parallelism == Parallelism(tp=8)
    assert "ep" not in plain.workload.model_dump()
    assert "dp" not in plain.workload.model_dump()


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_groups_that_share_only_requests_are_replicas(mixtral, phase):
    replica = predict(mixtral(tp=2, batch=2, phase=phase), must_fit=False)
    four = predict(mixtral(tp=2, dp=4, batch=8, phase=phase), must_fit=False)
    assert four.latency_s == replica.latency_s
    assert four.memory == replica.memory


def test_uneven_requests_take_what_the_busiest_group_takes(mixtral):
    four = predict(mixtral(tp=2, dp=4, batch=5), must_fit=False)
    assert four.latency_s == predict(mixtral(tp=2, batch=2), must_fit=False).latency_s
    assert any("5 requests do not divide by dp 4" in caution for caution in four.cautions)


def test_experts_divided_over_tensor_parallel_ranks_need_no_all_to_all(mixtral):
    whole, divided = (predict(mixtral(tp=8, ep=ep), must_fit=False) for ep in (1, 8))
    assert divided.comm_s == whole.comm_s
    assert divided.memory.weights == whole.memory.weights


def expert_flops(scenario):
    steps = expand(scenario.model, scenario.workload, Plan()).steps
    return sum(
        2.0 * step.rows * op.experts.gathered * op.experts.per_token / op.experts.ep * op.n * op.k
        for step in steps
        for op in step.ops
        if isinstance(op, Matmul) and op.experts
    )


@pytest.mark.parametrize("sizes", [SPREAD, {"tp": 1, "dp": 8, "ep": 8}, {"tp": 8, "ep": 8}])
def test_experts_work_on_every_token_once_however_they_are_divided(mixtral, sizes):
    assert expert_flops(mixtral(**sizes)) == pytest.approx(expert_flops(mixtral(tp=8)), rel=1e-12)


def test_a_token_travels_once_to_each_rank_that_has_one_of_its_experts(mixtral):
    scenario = mixtral(tp=1, dp=8, ep=8)
    steps = expand(scenario.model, scenario.workload, Plan()).steps
    (dispatch,) = {op for step in steps for op in step.ops if op.name == "dispatch_all_to_all"}
    assert isinstance(dispatch, Collective)
    copies = 8 * (1 - (7 / 8) ** 2)  # two of eight experts, one on each rank
    assert dispatch.elements == round(copies * scenario.model.hidden_size)
    (rows,) = {step.rows for step in steps if step.ops == (dispatch,)}
    assert rows == 640  # its one request of eight


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.strategy)
def test_the_timer_agrees_with_the_reference_timeline(mixtral, plan):
    scenario = mixtral(**SPREAD)
    reference = SimulatedRun.of(scenario, plan).timeline.latency
    assert predict(scenario, plan, must_fit=False).latency_s == pytest.approx(reference, rel=1e-9)
    assert Timer(scenario).latency(plan) == pytest.approx(reference, rel=1e-9)
    splits = Splits.of(scenario.workload, np.array([plan.chunks], dtype=np.int64))
    batch = Batch(scenario=scenario, plan=plan, splits=splits)
    assert Timer(scenario).run(batch)[0] == pytest.approx(reference, rel=1e-9)


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.strategy)
def test_overlap_hides_no_more_than_there_is(mixtral, plan):
    found = predict(mixtral(**SPREAD), plan, contention=False, must_fit=False)
    assert max(found.compute_s, found.comm_s) * (1 - 1e-9) <= found.latency_s
    assert found.latency_s <= (found.compute_s + found.comm_s) * (1 + 1e-9)


def test_more_links_hurt_no_layout(mixtral):
    scenario = mixtral(**SPREAD)

    def twice(lines):
        return tuple(
            line.model_copy(
                update={
                    "bandwidth": 2 * line.bandwidth,
                    "bandwidth_many": 2 * line.bandwidth_many,
                }
            )
            for line in lines
        )

    faster = scenario.hardware.collectives.model_copy(
        update={
            "algorithms": {
                name: one.model_copy(
                    update={
                        "sm_bandwidth": 2 * one.sm_bandwidth,
                        "protocols": twice(one.protocols),
                        "kinds": {kind: twice(lines) for kind, lines in one.kinds.items()},
                    }
                )
                for name, one in scenario.hardware.collectives.algorithms.items()
            }
        }
    )
    quick = scenario.with_hardware(collectives=faster)
    slow = predict(scenario, must_fit=False).latency_s
    assert predict(quick, must_fit=False).latency_s < slow


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_a_strategy_that_knows_all_reduces_only_refuses_rows_that_travel(mixtral, name):
    how, ranks = STRATEGIES[name], Parallelism(**SPREAD)
    refusal = how.unsuited(mixtral(tp=8).model, ranks)
    assert (refusal is None) == how.any_collective
    if refusal is not None:
        assert "have other collectives too" in refusal


def test_a_plan_divides_the_requests_of_one_group(mixtral):
    with pytest.raises(InputError, match="chunks that add up to 2"):
        predict(mixtral(**SPREAD), Plan(strategy="request_overlap", chunks=(4, 4)))
    groups = mixtral(tp=2, dp=4, batch=16)
    split = Plan(strategy="request_overlap", chunks=(1, 3))
    assert (
        predict(groups, split, must_fit=False).latency_s
        == predict(mixtral(tp=2, batch=4), split, must_fit=False).latency_s
    )


def test_an_all_to_all_sends_bf16(mixtral):
    with pytest.raises(InputError, match="only all-reduces can send int8"):
        predict(mixtral(**SPREAD), Plan(comm_dtype="int8"), must_fit=False)
    predict(mixtral(tp=8, ep=8), Plan(comm_dtype="int8"), must_fit=False)


def test_requests_are_shared_in_memory_too(mixtral):
    one, four = (GpuMemory(mixtral(tp=2, dp=dp)).of(Plan()) for dp in (1, 4))
    assert four.kv_cache * 4 == one.kv_cache
    assert four.weights == one.weights


def test_more_gpus_than_the_machine_has_are_refused(mixtral):
    with pytest.raises(InputError, match=r"tp 2 x dp 8: h200 has 8 GPUs, not 16"):
        mixtral(tp=2, dp=8)


def test_sizes_that_contradict_each_other_are_no_workload():
    with pytest.raises(InputError, match="experts are divided over all ranks"):
        Workload(tp=2, dp=2, ep=2)


PROMPT_SHARED = {"tp": 2, "cp": 4, "batch": 2}


def ops_of(scenario, kind):
    """The steps of a serial pass that have an op of this type, and the op."""
    steps = expand(scenario.model, scenario.workload, Plan()).steps
    return [(step, op) for step in steps for op in step.ops if isinstance(op, kind)]


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.strategy)
@pytest.mark.parametrize("sizes", [PROMPT_SHARED, {"tp": 1, "cp": 4, "dp": 2, "ep": 8, "batch": 4}])
def test_ranks_that_share_a_prompt_are_timed_as_the_reference(mixtral, plan, sizes):
    scenario = mixtral(**sizes)
    reference = SimulatedRun.of(scenario, plan).timeline.latency
    assert Timer(scenario).latency(plan) == pytest.approx(reference, rel=1e-9)


def test_products_work_on_a_share_of_the_tokens(mixtral):
    shared, whole = (
        sum(
            step.rows * op.n * op.k
            for step, op in ops_of(mixtral(**sizes), Matmul)
            if step.block in range(4)
        )
        for sizes in (PROMPT_SHARED, {"tp": 2, "batch": 2})
    )
    assert shared * 4 == whole


def test_attention_of_all_ranks_is_the_attention_of_the_prompt(mixtral):
    found = []
    for sizes in (PROMPT_SHARED, {"tp": 2, "batch": 2}):
        scenario = mixtral(**sizes)
        costs = SimulatedRun.of(scenario, Plan())
        (flops,) = {
            round(sum(cost.flops for op, cost in costs.costs.step_cost(index).parts if op == one))
            for index, step in enumerate(costs.program.steps)
            for one in step.ops
            if isinstance(one, Attend)
        }
        found.append(flops)
    # Causal halves count the diagonal whole: a piece of n tokens sees n more pairs of its own.
    assert found[0] * 4 == pytest.approx(found[1], rel=0.02)


def test_keys_and_values_of_the_whole_prompt_are_gathered_before_attention(mixtral):
    scenario = mixtral(**PROMPT_SHARED)
    steps = expand(scenario.model, scenario.workload, Plan()).steps
    gathers = [at for at, step in enumerate(steps) if step.ops[0].name == "kv_all_gather"]
    assert len(gathers) == 4
    for at in gathers:
        (gather,) = steps[at].ops
        assert steps[at].rows == 2 * 640
        assert gather.group == "cp"
        assert gather.elements == 2 * 4 * 128  # keys and values of four of eight heads
        assert at in steps[at + 1].depends_on
        assert isinstance(steps[at + 1].ops[0], Attend)


def test_all_reduces_send_the_rows_of_one_part_of_the_prompt(mixtral):
    scenario = mixtral(**PROMPT_SHARED)
    rows = {step.rows for step, op in ops_of(scenario, Collective) if op.kind == "all_reduce"}
    assert rows == {2 * 640 // 4}


def test_the_tail_runs_the_last_token_of_every_request(mixtral):
    scenario = mixtral(**PROMPT_SHARED)
    assert expand(scenario.model, scenario.workload, Plan()).steps[-1].rows == 2


@pytest.mark.parametrize(
    "fields", [{"phase": "decode"}, {"prompt": 7}, {"sequences": ("1x640+0", "2x1+640")}]
)
def test_what_has_no_prompt_to_share_is_refused(fields):
    with pytest.raises(InputError, match="share the tokens of prompts"):
        Workload(tp=2, cp=4, **fields)


def test_long_prompts_gain_from_it_where_all_reduces_are_slow(make_scenario):
    def seconds(**sizes):
        scenario = make_scenario(model="llama-2-70b", hardware="l40s", prompt=32_768, **sizes)
        return predict(scenario, must_fit=False).latency_s

    assert seconds(tp=4, cp=2) < seconds(tp=8)
