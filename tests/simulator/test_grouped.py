"""Plans whose blocks come in groups take as long in the compiled engine as in the reference."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.batch import latencies
from simulator.grouped import grouped_latencies
from simulator.plan import Group, Plan
from simulator.predict import predict
from simulator.predictor import Predictor
from simulator.scenario import Scenario

MakeScenario = Callable[..., Scenario]
LATER = Group(first=2, strategy="iso", chunks=(1024, 1024))


@settings(max_examples=60)
@given(data=st.data())
def test_any_grouped_plan_takes_as_long_as_in_the_reference(
    make_scenario: MakeScenario, plans: Callable[..., Any], data: st.DataObject
) -> None:
    scenario = make_scenario(
        data.draw(st.sampled_from(["llama-2-7b", "opt-13b", "mixtral-8x22b"])),
        data.draw(st.sampled_from(["a800", "h100", "rtx4090"])),
        blocks=data.draw(st.integers(2, 12)),
        phase=data.draw(st.sampled_from(["prefill", "prefill", "decode"])),
        tp=data.draw(st.sampled_from([1, 4, 8])),
        prompt=data.draw(st.integers(1, 5000)),
        batch=data.draw(st.integers(1, 4)),
        weight_dtype="int4",
        runtime=data.draw(st.sampled_from(["cuda_graph", "eager"])),
    )
    several = data.draw(st.lists(plans(scenario, most_groups=4), min_size=1, max_size=4))
    expected = [predict(scenario, plan).latency_s for plan in several]
    assert grouped_latencies(scenario, several) == pytest.approx(expected, rel=1e-9)
    assert Predictor(scenario).latencies(several) == pytest.approx(expected, rel=1e-9)


def test_groups_that_are_all_alike_take_as_long_as_the_plan_without_them(
    make_scenario: MakeScenario,
) -> None:
    scenario = make_scenario("llama-2-70b", blocks=80, prompt=2048)
    plain = Plan(strategy="iso", chunks=(1024, 1024), comm_sms=8, dropped=(1, 5, 70))
    grouped = plain.model_copy(update={"groups": (LATER,)})
    predictor = Predictor(scenario)
    assert predictor.latency(grouped) == pytest.approx(predictor.latency(plain), rel=1e-12)


def test_changing_the_cut_costs_a_copy_and_a_wait(make_scenario: MakeScenario) -> None:
    scenario = make_scenario("llama-2-70b", blocks=8, prompt=2048)
    predictor = Predictor(scenario)
    once = Plan(strategy="iso", chunks=(1152, 896), groups=(LATER,))
    back = Group(first=3, strategy="iso", chunks=(1152, 896))
    twice = once.model_copy(update={"groups": (LATER, back)})
    ends = [predictor.latency(Plan(strategy="iso", chunks=c)) for c in ((1152, 896), LATER.chunks)]
    assert min(ends) < predictor.latency(once)
    assert predictor.latency(twice) > min(ends)
    assert predict(scenario, once).op_seconds["recut"] > 0


def test_the_batch_engine_refuses_what_it_would_get_wrong(make_scenario: MakeScenario) -> None:
    grouped = Plan(strategy="iso", chunks=(1024, 1024), groups=(LATER,))
    with pytest.raises(AssertionError, match=r"simulator\.grouped"):
        latencies(make_scenario(prompt=2048), grouped, np.array([[1024, 1024]]))
