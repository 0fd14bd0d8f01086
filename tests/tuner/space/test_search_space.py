"""Trials stand for legal plans, and every plan the search starts from stands for itself."""

from collections.abc import Callable

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isotune.simulator.number_types import COMM_DTYPES
from isotune.simulator.predict import Scenario
from isotune.simulator.schedule import SEARCHABLE, STRATEGIES, Plan, check_plan
from isotune.tuner.space import MAX_CHUNKS, Space, even_plan

MakeScenario = Callable[..., Scenario]
DROP_ORDER = (2, 0, 1)
SHARES = st.floats(0.0, 1.0)


def space_of(scenario: Scenario) -> Space:
    return Space(
        scenario=scenario,
        strategies=SEARCHABLE,
        comm_dtypes=COMM_DTYPES,
        drop_order=DROP_ORDER,
    )


@st.composite
def trials(draw: st.DrawFn, scenario: Scenario) -> dict[str, object]:
    """Any point of the space."""
    return {
        "comm_dtype": draw(st.sampled_from(COMM_DTYPES)),
        "drops": draw(st.integers(0, len(DROP_ORDER))),
        "comm_sms": draw(st.integers(0, len(scenario.sm_budgets) - 1)),
        "strategy": draw(st.sampled_from(SEARCHABLE)),
        "chunks": draw(st.integers(2, MAX_CHUNKS)),
    } | {f"share_{index}": draw(SHARES) for index in range(MAX_CHUNKS - 1)}


def draw_case(data: st.DataObject, make: MakeScenario) -> tuple[Space, Plan]:
    prompt, batch = data.draw(st.integers(1, 9000)), data.draw(st.integers(1, 9))
    phase = data.draw(st.sampled_from(["prefill", "decode"]))
    scenario = make(prompt=prompt, batch=batch, phase=phase)
    space = space_of(scenario)
    return space, space.plan(optuna.trial.FixedTrial(data.draw(trials(scenario))))


@settings(max_examples=120)
@given(data=st.data())
def test_every_trial_stands_for_a_legal_plan(
    make_scenario: MakeScenario, data: st.DataObject
) -> None:
    space, plan = draw_case(data, make_scenario)
    check_plan(plan, space.scenario.model, space.scenario.workload)
    assert len(plan.chunks) <= MAX_CHUNKS
    assert set(plan.dropped) == set(DROP_ORDER[: len(plan.dropped)])


@settings(max_examples=120)
@given(data=st.data())
def test_split_points_fall_on_the_grain(make_scenario: MakeScenario, data: st.DataObject) -> None:
    _, plan = draw_case(data, make_scenario)
    grain = plan.how.grain(sum(plan.chunks))
    assert all(size % grain == 0 for size in plan.chunks[:-1])


@settings(max_examples=60)
@given(data=st.data())
def test_neighbours_are_other_plans_of_the_space(
    make_scenario: MakeScenario, data: st.DataObject
) -> None:
    space, plan = draw_case(data, make_scenario)
    for other in space.neighbours(plan):
        check_plan(other, space.scenario.model, space.scenario.workload)
        assert other != plan
        assert space.plan(optuna.trial.FixedTrial(space.parameters(other))) == other


@settings(max_examples=120)
@given(data=st.data())
def test_the_parameters_of_a_plan_stand_for_that_plan(
    make_scenario: MakeScenario, data: st.DataObject
) -> None:
    space, plan = draw_case(data, make_scenario)
    again = space.plan(optuna.trial.FixedTrial(space.parameters(plan)))
    assert again == plan


@pytest.mark.parametrize("strategy", ["iso", "request_overlap", "gemm_overlap"])
@settings(max_examples=60)
@given(prompt=st.integers(1, 9000), batch=st.integers(1, 9), count=st.integers(2, 8))
def test_an_even_split_is_as_even_as_the_grain_allows(
    make_scenario: MakeScenario, strategy: str, prompt: int, batch: int, count: int
) -> None:
    scenario = make_scenario(prompt=prompt, batch=batch)
    how = STRATEGIES[strategy]
    total = how.total(scenario.workload)
    grain = how.grain(total)
    plan = even_plan(scenario, strategy, count)
    if plan is None:
        assert total < count * grain + grain
        return
    check_plan(plan, scenario.model, scenario.workload)
    assert len(plan.chunks) == count
    assert max(plan.chunks) - min(plan.chunks) < 2 * grain


@pytest.mark.parametrize(
    ("total", "count", "sizes"), [(4096, 2, (2048, 2048)), (4096, 3, (1408, 1280, 1408))]
)
def test_an_even_split_by_hand(
    make_scenario: MakeScenario, total: int, count: int, sizes: tuple[int, ...]
) -> None:
    plan = even_plan(make_scenario(prompt=total), "iso", count)
    assert plan is not None
    assert plan.chunks == sizes


@settings(max_examples=60)
@given(prompt=st.integers(2, 9000), count=st.integers(2, MAX_CHUNKS))
def test_the_search_can_start_from_an_even_split(
    make_scenario: MakeScenario, prompt: int, count: int
) -> None:
    space = space_of(make_scenario(prompt=prompt))
    plan = even_plan(space.scenario, "iso", count)
    if plan is not None:
        assert space.plan(optuna.trial.FixedTrial(space.parameters(plan))) == plan
