"""The vectorised engine gives the reference's answer, for every kind of plan."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hw_profiles
from simulator import batch
from simulator.batch import latencies
from simulator.plan import STRATEGIES, Plan
from simulator.predict import predict
from simulator.scenario import Scenario

MakeScenario = Callable[..., Scenario]


def sizes_of(*plans: Plan) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array([plan.chunks for plan in plans], dtype=np.int64)


@pytest.mark.parametrize("strategy", STRATEGIES)
@settings(max_examples=40)
@given(data=st.data())
def test_it_equals_the_reference_on_any_plan(
    make_scenario: MakeScenario, plans: Callable[..., Any], strategy: str, data: st.DataObject
) -> None:
    scenario = make_scenario(
        data.draw(st.sampled_from(["llama-2-7b", "llama-2-70b", "opt-13b", "mixtral-8x22b"])),
        data.draw(st.sampled_from(hw_profiles.names())),
        blocks=2,
        phase=data.draw(st.sampled_from(["prefill", "prefill", "decode"])),
        tp=data.draw(st.sampled_from([1, 2, 8])),
        prompt=data.draw(st.integers(1, 6000)),
        batch=data.draw(st.integers(1, 5)),
        weight_dtype=data.draw(st.sampled_from(["bf16", "int4"])),
        runtime=data.draw(st.sampled_from(["cuda_graph", "eager"])),
    )
    plan = data.draw(plans(scenario, (strategy,)))
    reference = predict(scenario, plan).latency_s
    assert latencies(scenario, plan, sizes_of(plan)) == pytest.approx([reference], rel=1e-9)


@settings(max_examples=20)
@given(data=st.data())
def test_a_plan_costs_the_same_alone_and_among_others(
    make_scenario: MakeScenario, plans: Callable[..., Any], data: st.DataObject
) -> None:
    scenario = make_scenario("llama-2-70b", prompt=3000, batch=2)
    several = data.draw(st.lists(plans(scenario, ("iso",)), min_size=2, max_size=6))
    alike = [plan for plan in several if len(plan.chunks) == len(several[0].chunks)]
    together = latencies(scenario, several[0], sizes_of(*alike))
    for plan, latency in zip(alike, together, strict=True):
        same = several[0].model_copy(update={"chunks": plan.chunks})
        assert latency == pytest.approx(predict(scenario, same).latency_s, rel=1e-9)


def test_more_plans_than_are_priced_at_once_keep_their_order(
    make_scenario: MakeScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = make_scenario(prompt=1000)
    sizes = np.stack([np.arange(100, 800, 100), 1000 - np.arange(100, 800, 100)], axis=1)
    plan = Plan(strategy="iso", chunks=(500, 500))
    whole = latencies(scenario, plan, sizes)
    monkeypatch.setattr(batch, "_PLANS_AT_ONCE", 3)
    assert latencies(scenario, plan, sizes).tolist() == pytest.approx(whole.tolist(), rel=1e-12)
    assert len(set(whole)) == len(sizes)


def test_no_plans_take_no_time_to_answer(make_scenario: MakeScenario) -> None:
    plan = Plan(strategy="iso", chunks=(500, 500))
    assert latencies(make_scenario(prompt=1000), plan, np.empty((0, 2), dtype=np.int64)).size == 0
