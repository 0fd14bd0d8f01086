"""What moving bytes costs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isotune.simulator.kernels import ElementwiseParameters, Gpu, elementwise_cost

GPU = Gpu(sms=108, bf16=312e12, memory=80e9, memory_bandwidth=2.039e12, l2=40e6)
PARAMETERS = ElementwiseParameters(launch=4e-6, bandwidth_efficiency=0.8, l2_speedup=2.0)
ROW = 4 * 2 * 4096

tokens = st.integers(1, 1_000_000)


def cost(tokens, row=ROW, *, gpu=GPU, **options):
    return elementwise_cost(tokens, row, gpu=gpu, parameters=PARAMETERS, **options)


@given(count=tokens)
def test_a_cold_kernel_never_beats_the_memory(count):
    one = cost(count)
    assert one.mem_bytes == count * ROW
    assert one.seconds > one.mem_bytes / GPU.memory_bandwidth


def test_many_tokens_attain_the_bandwidth_and_few_cost_a_launch():
    many = cost(1_000_000)
    assert many.mem_bytes / many.seconds / GPU.memory_bandwidth == pytest.approx(0.8, rel=0.01)
    assert cost(1).seconds == pytest.approx(PARAMETERS.launch, rel=0.01)


@given(count=tokens, more=tokens, warm=st.booleans())
def test_time_grows_with_tokens(count, more, warm):
    assert cost(count + more, warm_l2=warm).seconds > cost(count, warm_l2=warm).seconds


@given(count=tokens, faster=st.floats(1, 4))
def test_more_bandwidth_is_never_slower(count, faster):
    better = GPU.model_copy(update={"memory_bandwidth": faster * GPU.memory_bandwidth})
    assert cost(count, gpu=better).seconds <= cost(count).seconds


@given(count=tokens)
def test_operands_in_l2_are_never_slower(count):
    cold, warm = cost(count), cost(count, warm_l2=True)
    assert warm.seconds <= cold.seconds
    assert warm.mem_bytes <= cold.mem_bytes


def test_what_fits_in_l2_leaves_memory_alone_and_twice_as_much_does_not_benefit():
    fits, twice = GPU.l2 // ROW, 2 * GPU.l2 // ROW + 1
    assert cost(fits, warm_l2=True).mem_bytes == 0
    assert cost(twice, warm_l2=True) == cost(twice)


def test_no_sm_bound_part_and_no_flops():
    assert cost(1000).sm_seconds == 0
    assert cost(1000).flops == 0


def test_an_array_of_calls_costs_what_each_costs_alone():
    counts = np.array([1, 500, 2000, 10**6])
    together = cost(counts, warm_l2=True).seconds
    assert together.tolist() == [cost(count, warm_l2=True).seconds for count in counts]
