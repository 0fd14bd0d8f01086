"""Many plans at once take as long as each alone, whatever the strategy, machine and workload."""

import numpy as np
import pytest
from _support.patterned import patterned
from hypothesis import given, settings
from hypothesis import strategies as st

from isotune import hw_profiles
from isotune.simulator.architecture import bundled_models, load_model
from isotune.simulator.batch import Batch, DropSets, Splits, Timer
from isotune.simulator.batch import many_plans as batch
from isotune.simulator.machine import read_profile
from isotune.simulator.predict import CostModel, ProgramCosts, Scenario, predict
from isotune.simulator.schedule import SEARCHABLE, Plan, Workload, expand, simulate

MODELS = ("llama-2-7b", "mixtral-8x22b", "opt-6.7b")


def random_scenario(rng):
    hardware = read_profile(str(rng.choice(hw_profiles.names())))
    phase = str(rng.choice(["prefill", "prefill", "decode"]))
    workload = Workload(
        phase=phase,
        batch=int(rng.integers(1, 9)),
        prompt=int(rng.integers(2, 1200)),
        tp=int(rng.choice([1, 2, hardware.node.gpus])),
        weight_dtype="int4",
        runtime=str(rng.choice(["cuda_graph", "eager"])),
    )
    return Scenario(model=load_model(str(rng.choice(MODELS))), hardware=hardware, workload=workload)


def latencies(scenario, plan, sizes, drops=None):
    """Seconds of `plan` with its chunks replaced, in turn, by each row of `sizes`."""
    splits = Splits.of(scenario.workload, sizes)
    return Timer(scenario).run(Batch(scenario=scenario, plan=plan, splits=splits, drops=drops))


def reference(scenario, plan):
    """`predict(...).latency_s` where memory does not matter."""
    program = expand(scenario.model, scenario.workload, plan)
    cost_model = CostModel(scenario, plan.comm_dtype, plan.comm_sms)
    return simulate(program, ProgramCosts(program, cost_model)).latency


def random_cut(rng, total, most):
    parts = int(rng.integers(1, min(total, most) + 1))
    edges = np.sort(rng.choice(np.arange(1, total), size=parts - 1, replace=False))
    return tuple(np.diff([0, *edges, total]).tolist())


def random_plan(rng, scenario):
    work = scenario.workload
    wholes = {
        "serial": 0,
        "iso": work.tokens,
        "request_overlap": work.batch,
        "gemm_overlap": work.batch * work.tokens,
    }
    strategy = str(rng.choice(list(wholes)))
    blocks = scenario.model.num_hidden_layers
    return Plan(
        strategy=strategy,
        chunks=() if strategy == "serial" else random_cut(rng, wholes[strategy], 5),
        comm_dtype=str(rng.choice(["bf16", "fp8", "int8"])),
        comm_sms=None if strategy == "serial" or rng.random() < 0.5 else int(rng.integers(1, 33)),
        dropped=tuple(np.flatnonzero(rng.random(blocks) < rng.choice([0, 0.5, 1])).tolist()),
    )


@pytest.mark.parametrize("seed", range(12))
def test_plans_of_every_strategy_take_as_long_as_predicted_one_by_one(seed):
    rng = np.random.default_rng(seed)
    scenario = random_scenario(rng)
    plans = [random_plan(rng, scenario) for _ in range(8)]
    timer = Timer(scenario)
    together = timer.seconds(plans)
    for plan, seconds in zip(plans, together, strict=True):
        expected = reference(scenario, plan)
        assert seconds == pytest.approx(expected, rel=1e-9)
        assert timer.latency(plan) == pytest.approx(expected, rel=1e-9)


def test_a_neighbour_priced_along_the_way_is_priced_right():
    scenario = Scenario(
        model=load_model("llama-2-7b"), hardware=read_profile("a800"), workload=Workload(prompt=999)
    )
    timer = Timer(scenario)
    for first in (500, 501, 383, 384, 640, 1, 998):
        plan = Plan(strategy="iso", chunks=(first, 999 - first), dropped=(3,))
        expected = predict(scenario, plan).latency_s
        assert timer.latency(plan) == pytest.approx(expected, rel=1e-9)


def test_one_call_serves_many_workloads_and_machines():
    rng = np.random.default_rng(5)
    model, plan = load_model("llama-2-7b"), Plan(strategy="iso", chunks=(1, 1))
    lengths = rng.integers(10, 2000, size=6)
    sizes = np.stack([lengths // 3, lengths - lengths // 3], axis=1)
    ones = np.ones_like(lengths)
    splits = Splits(batch=ones, tokens=lengths, context=0 * ones, sizes=sizes)
    profiles = [read_profile(name) for name in ("a800", "rtx4090")]
    scenarios = [Scenario(model=model, hardware=p, workload=Workload(tp=4)) for p in profiles]
    times = [Timer(s).run(Batch(scenario=s, plan=plan, splits=splits)) for s in scenarios]
    for scenario, latency in zip(scenarios, times, strict=True):
        for length, chunks, seconds in zip(lengths.tolist(), sizes.tolist(), latency, strict=True):
            there = Scenario(
                model=model, hardware=scenario.hardware, workload=Workload(tp=4, prompt=length)
            )
            alone = predict(there, Plan(strategy="iso", chunks=tuple(chunks))).latency_s
            assert seconds == pytest.approx(alone, rel=1e-9)


def test_plans_in_any_order_and_number_find_their_own_cut_and_drop_set():
    rng = np.random.default_rng(1)
    scenario = Scenario(
        model=load_model("llama-2-7b"), hardware=read_profile("h100"), workload=Workload()
    )
    first = np.arange(512, 4096, 512)
    splits = Splits.of(scenario.workload, np.stack([first, 4096 - first], axis=1))
    split_of, dropped = rng.integers(0, len(first), 70_000), rng.random((70_000, 32)) < 0.5
    plan = Plan(strategy="iso", chunks=(1, 1))
    whole = Batch(
        scenario=scenario, plan=plan, splits=splits, split_of=split_of, drops=DropSets.of(dropped)
    )
    seconds = Timer(scenario).run(whole)
    for index in [*rng.integers(0, len(split_of), 20).tolist(), 65_535, 65_536, 69_999]:
        drops = DropSets.of(dropped[index : index + 1])
        sizes = splits.sizes[split_of[index : index + 1]]
        assert latencies(scenario, plan, sizes, drops)[0] == pytest.approx(
            seconds[index], rel=1e-12
        )


@pytest.mark.parametrize("strategy", SEARCHABLE)
@settings(max_examples=40)
@given(data=st.data())
def test_it_equals_the_reference_on_any_plan(make_scenario, plans, strategy, data):
    hardware = read_profile(data.draw(st.sampled_from(hw_profiles.names())))
    scenario = make_scenario(
        data.draw(st.sampled_from(["llama-2-7b", "llama-2-70b", "opt-13b", "mixtral-8x22b"])),
        hardware,
        blocks=2,
        phase=data.draw(st.sampled_from(["prefill", "prefill", "decode"])),
        tp=data.draw(st.sampled_from([1, 2, hardware.node.gpus])),
        prompt=data.draw(st.integers(1, 6000)),
        batch=data.draw(st.integers(1, 5)),
        weight_dtype=data.draw(st.sampled_from(["bf16", "int4"])),
        runtime=data.draw(st.sampled_from(["cuda_graph", "eager"])),
    )
    plan = data.draw(plans(scenario, (strategy,)))
    reference = predict(scenario, plan).latency_s
    assert latencies(scenario, plan, np.array([plan.chunks], dtype=np.int64)) == pytest.approx(
        [reference], rel=1e-9
    )


@settings(max_examples=20)
@given(data=st.data())
def test_a_plan_costs_the_same_alone_and_among_others(make_scenario, plans, data):
    scenario = make_scenario("llama-2-70b", prompt=3000, batch=2)
    several = data.draw(st.lists(plans(scenario, ("iso",)), min_size=2, max_size=6))
    alike = [plan for plan in several if len(plan.chunks) == len(several[0].chunks)]
    together = latencies(scenario, several[0], np.array([plan.chunks for plan in alike]))
    for plan, latency in zip(alike, together, strict=True):
        same = several[0].model_copy(update={"chunks": plan.chunks})
        assert latency == pytest.approx(predict(scenario, same).latency_s, rel=1e-9)


def test_more_cuts_than_are_priced_at_once_keep_their_order(make_scenario, monkeypatch):
    scenario = make_scenario(prompt=1000)
    sizes = np.stack([np.arange(100, 800, 100), 1000 - np.arange(100, 800, 100)], axis=1)
    plan = Plan(strategy="iso", chunks=(500, 500))
    whole = latencies(scenario, plan, sizes)
    monkeypatch.setattr(batch, "SPLITS_AT_ONCE", 3)
    assert latencies(scenario, plan, sizes).tolist() == pytest.approx(whole.tolist(), rel=1e-12)
    assert len(set(whole)) == len(sizes)


def test_no_plans_take_no_time():
    scenario = Scenario(
        model=load_model("llama-2-7b"), hardware=read_profile("h100"), workload=Workload()
    )
    plan = Plan(strategy="iso", chunks=(1, 1))
    assert latencies(scenario, plan, np.empty((0, 2), dtype=np.int64)).shape == (0,)


def test_blocks_of_several_kinds_take_as_long_as_in_the_reference():
    rng = np.random.default_rng(11)
    kinds = ((0, 1, 1, 0, 2, 1) * 4, (0, 0, 1, 1, 1, 1, 1, 2))
    for model in (patterned(load_model("llama-2-7b"), pattern) for pattern in kinds):
        scenario = Scenario(
            model=model, hardware=read_profile("a800"), workload=Workload(batch=4, prompt=2048)
        )
        timer = Timer(scenario)
        for _ in range(20):
            plan = random_plan(rng, scenario)
            assert timer.latency(plan) == pytest.approx(reference(scenario, plan), rel=1e-9)


@pytest.mark.parametrize("name", bundled_models())
def test_every_bundled_model_is_compiled(name):
    """What only the reference timeline runs is searched for minutes instead of a second."""
    scenario = Scenario(
        model=load_model(name), hardware=read_profile("b200"), workload=Workload(prompt=512, tp=2)
    )
    assert Timer(scenario).compiles(Plan(strategy="iso", chunks=(256, 256)))


def test_blocks_that_leave_all_reduces_of_other_names_behind_take_as_long_as_in_the_reference():
    scenario = Scenario(
        model=load_model("nemotron-3-nano-30b-a3b"),  # state space, attention, experts: one each
        hardware=read_profile("h100"),
        workload=Workload(prompt=4096, tp=2),
    )
    timer = Timer(scenario)
    for chunks in ((2048, 2048), (1000, 3096), (1024, 2048, 1024)):
        plan = Plan(strategy="iso", chunks=chunks)
        assert timer.latency(plan) == pytest.approx(reference(scenario, plan), rel=1e-9)
