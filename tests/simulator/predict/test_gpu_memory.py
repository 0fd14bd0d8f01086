"""A plan that does not fit is an error that says by how much and what would fit."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isotune.simulator.architecture import Matmul
from isotune.simulator.errors import DoesNotFitError
from isotune.simulator.predict import GpuMemory, Memory, Scenario
from isotune.simulator.schedule import Plan, Sequences

SERIAL = Plan()
MakeScenario = Callable[..., Scenario]


def needs(scenario: Scenario, plan: Plan = SERIAL) -> Memory:
    return GpuMemory(scenario).of(plan)


def test_llama_2_70b_takes_an_eighth_of_its_138_gb_on_each_of_eight_gpus(
    make_scenario: MakeScenario,
) -> None:
    here = needs(make_scenario("llama-2-70b", blocks=None))
    assert here.weights == pytest.approx(68.98e9 * 2 / 8, rel=0.01)


def test_the_kv_cache_holds_every_token_of_the_batch(make_scenario: MakeScenario) -> None:
    # 80 blocks, keys and values of one of eight KV heads, 128 elements of 2 bytes.
    token = 80 * 2 * 1 * 128 * 2
    at = {"model": "llama-2-70b", "blocks": None, "batch": 3}
    assert needs(make_scenario(**at, prompt=1000)).kv_cache == 3 * 1000 * token
    assert needs(make_scenario(**at, prompt=1000, phase="decode")).kv_cache == 3 * 1001 * token


def test_a_block_with_a_window_keeps_the_keys_in_it_and_those_of_the_pass(
    make_scenario: MakeScenario,
) -> None:
    # 32 blocks of mistral-7b: 8 KV heads of 128 elements of 2 bytes, a window of 4096 tokens.
    token = 32 * 2 * 8 * 128 * 2
    at = {"model": "mistral-7b", "blocks": None, "tp": 1}
    for asked, kept in (
        ({"phase": "decode", "prompt": 1000}, 1001),
        ({"phase": "decode", "prompt": 30_000}, 4096),
        ({"prompt": 30_000}, 30_000),
        ({"sequences": (Sequences(count=1, new_tokens=512, context=30_000),)}, 4095 + 512),
    ):
        assert needs(make_scenario(**at, **asked)).kv_cache == kept * token


@pytest.mark.parametrize(
    ("dtype", "share"), [("fp8", 1 / 2), ("int8", 1 / 2), ("int4", 4.125 / 16)]
)
def test_narrow_weights_shrink_the_blocks(
    make_scenario: MakeScenario, dtype: str, share: float
) -> None:
    wide = make_scenario("llama-2-70b", blocks=None)
    narrow = make_scenario("llama-2-70b", blocks=None, weight_dtype=dtype)
    model = wide.model
    norms = sum(op.parameters for op in model.block(8).ops if not isinstance(op, Matmul))
    outside = 2 * (model.embedding_weight_elements(8) + model.num_hidden_layers * norms)
    saved = (needs(narrow).weights - outside) / (needs(wide).weights - outside)
    assert saved == pytest.approx(share)


def test_a_model_that_does_not_fit_says_what_it_needs_has_and_could_use(
    make_scenario: MakeScenario,
) -> None:
    with pytest.raises(DoesNotFitError) as caught:
        GpuMemory(make_scenario("llama-2-70b", "rtx4090", blocks=None, tp=4)).check(SERIAL)
    text = str(caught.value)
    assert "llama-2-70b (bf16) does not fit in memory: each of 4 GPUs needs" in text
    needed, has = map(float, re.findall(r"needs ([\d.]+) GB .* has ([\d.]+) GB", text)[0])
    assert needed > has
    assert "the smallest tp that fits is 8" in text


def test_the_smallest_tp_offered_fits(make_scenario: MakeScenario) -> None:
    GpuMemory(make_scenario("llama-2-70b", "rtx4090", blocks=None, tp=8)).check(SERIAL)


def test_a_tp_beyond_the_node_is_marked_as_such(make_scenario: MakeScenario) -> None:
    with pytest.raises(DoesNotFitError, match=r"tp that fits is \d+, more than the 8 GPUs of a800"):
        GpuMemory(make_scenario("llama-3.1-405b", blocks=None)).check(SERIAL)


def test_where_no_tp_helps_the_way_out_is_another(make_scenario: MakeScenario) -> None:
    scenario = make_scenario("mistral-7b", blocks=None, batch=60_000, phase="decode")
    with pytest.raises(DoesNotFitError, match=r"no tp fits; use a shorter prompt, a smaller"):
        GpuMemory(scenario).check(SERIAL)


@settings(max_examples=60)
@given(data=st.data())
def test_a_plan_never_needs_more_memory_than_serial(
    make_scenario: MakeScenario, plans: Callable[..., Any], data: st.DataObject
) -> None:
    scenario = make_scenario(
        prompt=data.draw(st.integers(2, 5000)), batch=data.draw(st.integers(1, 4))
    )
    plan = data.draw(plans(scenario))
    assert needs(scenario, plan).needed <= needs(scenario).needed


@settings(max_examples=40)
@given(data=st.data())
def test_many_splits_at_once_need_what_each_needs_alone(
    make_scenario: MakeScenario, plans: Callable[..., Any], data: st.DataObject
) -> None:
    scenario = make_scenario(
        prompt=data.draw(st.integers(2, 5000)), batch=data.draw(st.integers(1, 4))
    )
    plan = data.draw(plans(scenario))
    sizes = np.array([plan.chunks, plan.chunks[::-1]], dtype=np.int64)
    memory = GpuMemory(scenario)
    alone = memory.of(plan)
    assert memory.needed(plan.how, scenario.workload, sizes).tolist() == [alone.needed] * 2
    assert memory.fitting(plan.how, sizes).tolist() == [alone.fits] * 2
