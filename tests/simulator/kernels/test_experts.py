"""What routed experts cost: exact counts, tiles by expert, imbalance and the busiest rank."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isotune import read_profile
from isotune.simulator.kernels import Cost, ExpertsParameters, ExpertsShape, experts_cost

GPU = read_profile("h100").gpu
PARAMETERS = ExpertsParameters(
    launch=20e-6,
    per_assignment=1e-10,
    tensor_efficiency=0.68,
    sm_feed=200e9,
    step=9e-8,
    tile=1e-6,
    quantisation=0.7,
    memory_efficiency=0.9,
    memory_latency=9e-6,
    row_efficiency=0.7,
    foreign_rows=0.5,
    misaligned=2.0,
    sharpness=5.0,
)
MIXTRAL = ExpertsShape(4096, 14336, 8, 2)
DEEPSEEK = ExpertsShape(7168, 2048, 256, 8)


def parts(tokens, shape=DEEPSEEK, **options):
    return experts_cost(tokens, shape, **{"gpu": GPU, "parameters": PARAMETERS} | options)


def cost(tokens, shape=DEEPSEEK, **options):
    """Both parts together."""
    up, down = parts(tokens, shape, **options)
    return Cost(*(first + second for first, second in zip(up, down, strict=True)))


def test_flops_are_those_of_the_experts_that_each_token_chose():
    assert cost(1024, MIXTRAL).flops == 1024 * 2 * 2 * 3 * 4096 * 14336
    ungated = MIXTRAL._replace(matrices=2)
    assert cost(1024, ungated).flops == pytest.approx(2 / 3 * cost(1024, MIXTRAL).flops)


def test_the_first_products_of_a_gated_expert_compute_twice_what_the_second_do():
    up, down = parts(1024, MIXTRAL)
    assert up.flops == 2 * down.flops
    assert up.seconds > down.seconds


@pytest.mark.parametrize("imbalance", [0.0, 1.01, 1.2])
def test_one_rank_computes_every_choice_however_uneven(imbalance):
    tokens = np.array([1, 64, 4096])
    flops = cost(tokens, MIXTRAL, imbalance=imbalance).flops
    assert flops == pytest.approx(tokens * 2 * 2 * 3 * 4096 * 14336, rel=0.01)


def test_few_tokens_read_the_weights_of_few_experts():
    one, all_ = cost(1).mem_bytes, cost(32).mem_bytes
    weights = 3 * 7168 * 2048 * 2
    assert one == pytest.approx(8 * weights, rel=0.01)
    assert all_ == pytest.approx(256 * weights, rel=0.01)


def test_narrow_weights_move_fewer_bytes():
    assert cost(32, weight_dtype="int4").mem_bytes < 0.3 * cost(32).mem_bytes


@given(
    tokens=st.integers(1, 16384),
    tp=st.sampled_from([1, 2, 8]),
    ep=st.sampled_from([1, 4, 32]),
    imbalance=st.sampled_from([0.0, 1.0, 1.01, 1.2]),
)
def test_more_tokens_never_cost_less_and_no_roof_is_beaten(tokens, tp, ep, imbalance):
    shape = DEEPSEEK._replace(tp=tp, ep=ep)
    one, more = cost(np.array([tokens, 2 * tokens]), shape, imbalance=imbalance).seconds
    assert more >= 0.98 * one  # waves of tiles leave steps
    found = cost(tokens, shape, imbalance=imbalance)
    assert found.seconds > found.flops / GPU.bf16
    assert 0 < found.sm_seconds <= found.seconds


@given(tokens=st.integers(64, 16384), ep=st.sampled_from([2, 8, 64]))
def test_the_busiest_rank_has_more_rows_the_less_even_the_choice(tokens, ep):
    shape = DEEPSEEK._replace(ep=ep)
    even, uneven = (cost(tokens, shape, imbalance=power).flops for power in (0.0, 1.01))
    assert even == pytest.approx(cost(tokens).flops / ep)
    assert uneven > 1.05 * even


def test_no_expert_gets_more_rows_than_there_are_tokens():
    alone = MIXTRAL._replace(ep=8)
    assert cost(4096, alone, imbalance=1.2).flops <= 4096 * 2 * 3 * 4096 * 14336


def test_an_array_costs_what_its_elements_cost():
    tokens = np.array([1, 17, 300, 5000])
    one_by_one = [float(cost(int(size), imbalance=1.01).seconds) for size in tokens]
    assert cost(tokens, imbalance=1.01).seconds.tolist() == one_by_one
