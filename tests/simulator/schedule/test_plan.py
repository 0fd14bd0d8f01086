"""A plan is checked against its model and workload before anything is computed."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from isotune.simulator.errors import InputError
from isotune.simulator.io import validate
from isotune.simulator.predict import Scenario
from isotune.simulator.schedule import STRATEGIES, Plan, check_plan


def check(scenario: Scenario, **fields: Any) -> None:
    check_plan(Plan(**fields), scenario.model, scenario.workload)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"strategy": "magic"},
            "strategy: unknown strategy 'magic' (allowed: serial, gemm",
        ),
        ({"comm_dtype": "int3"}, "comm_dtype: Input should be 'bf16', 'fp8' or 'int8'"),
        ({"chunks": [2048, 0]}, "chunks.1: Input should be greater than 0 (got 0)"),
        ({"chunks": [-1]}, "chunks.0: Input should be greater than 0"),
        ({"chunks": [True]}, "chunks.0: Input should be a valid integer (got True)"),
        ({"chunks": ["2048"]}, "chunks.0: Input should be a valid integer (got '2048')"),
        ({"chunks": [1.5]}, "chunks.0: Input should be a valid integer"),
        ({"chunks": 4096}, "chunks: Input should be a valid tuple"),
        ({"comm_sms": 0}, "comm_sms: Input should be greater than 0"),
        ({"comm_sms": True}, "comm_sms: Input should be a valid integer"),
        ({"dropped": [1, 0]}, "dropped: blocks must be in ascending order"),
        ({"dropped": [1, 1]}, "dropped: blocks must be in ascending order"),
        ({"dropped": ["a"]}, "dropped.0: Input should be a valid integer"),
        ({"colour": 1}, "colour: Extra inputs are not permitted"),
    ],
)
def test_a_bad_field_is_named_with_what_is_allowed(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        validate(Plan, fields, "plan.yaml")
    assert str(caught.value).startswith(f"plan.yaml: {message}")


def test_a_plan_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Plan().strategy = "iso"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("plan", "lossy"),
    [
        (Plan(), False),
        (Plan(strategy="iso", chunks=(1, 1), comm_sms=4), False),
        (Plan(dropped=(0,)), True),
        (Plan(comm_dtype="int8"), True),
        (Plan(comm_dtype="fp8"), True),
    ],
)
def test_a_plan_is_lossy_where_it_changes_the_models_numbers(plan: Plan, lossy: bool) -> None:
    assert plan.lossy is lossy


@pytest.mark.parametrize(
    ("strategy", "total"),
    [("iso", 1000), ("request_overlap", 4), ("gemm_overlap", 4000)],
)
def test_chunks_must_add_up_in_the_strategys_own_unit(
    make_scenario: Callable[..., Scenario], strategy: str, total: int
) -> None:
    scenario = make_scenario(prompt=1000, batch=4)
    check(scenario, strategy=strategy, chunks=(1, total - 1))
    with pytest.raises(InputError, match=rf"needs chunks that add up to {total} .* such as"):
        check(scenario, strategy=strategy, chunks=())
    for wrong in ((1, total), (total - 2, 1)):
        with pytest.raises(InputError, match=rf"chunks: .*add up to {sum(wrong)}; .* to {total} "):
            check(scenario, strategy=strategy, chunks=wrong)


def test_in_decode_a_request_has_one_token_to_cut(make_scenario: Callable[..., Scenario]) -> None:
    workload = make_scenario(phase="decode", prompt=1000, batch=4).workload
    assert [STRATEGIES[s].total(workload) for s in ("iso", "request_overlap", "gemm_overlap")] == [
        1,
        4,
        4,
    ]


def test_a_serial_plan_has_no_chunks(make_scenario: Callable[..., Scenario]) -> None:
    with pytest.raises(InputError, match=r"chunks: a serial plan has none \(allowed: \[\]\)"):
        check(make_scenario(), chunks=(4096,))


@pytest.mark.parametrize(("dropped", "named"), [((-1,), -1), ((0, 3), 3), ((-2, 7), -2)])
def test_only_blocks_of_the_model_can_be_dropped(
    make_scenario: Callable[..., Scenario], dropped: tuple[int, ...], named: int
) -> None:
    with pytest.raises(InputError, match=rf"dropped: llama-2-7b has blocks 0 to 2, not {named}"):
        check(make_scenario(blocks=3), dropped=dropped)


@given(data=st.data())
def test_every_plan_made_for_a_scenario_is_accepted_and_survives_a_round_trip(
    make_scenario: Callable[..., Scenario], plans: Callable[..., Any], data: st.DataObject
) -> None:
    scenario = make_scenario(
        prompt=data.draw(st.integers(1, 600)), batch=data.draw(st.integers(1, 5))
    )
    plan = data.draw(plans(scenario, tuple(STRATEGIES)))
    check_plan(plan, scenario.model, scenario.workload)
    assert validate(Plan, plan.model_dump(mode="json"), "plan") == plan
