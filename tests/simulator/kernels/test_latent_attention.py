"""What latent attention costs: exact counts, one cache for all heads, and how the time grows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isotune import read_profile
from isotune.simulator.kernels import (
    analytic_latent,
    latent_attention_cost,
    repeated_latent_attention_cost,
)

PROFILE = read_profile("h100")
PARAMETERS = analytic_latent(PROFILE.attention)


def cost(requests, new_tokens, context, heads, **options):
    options = {"gpu": PROFILE.gpu, "parameters": PARAMETERS} | options
    return latent_attention_cost(requests, new_tokens, context, heads, **options)


def test_decode_reads_the_latent_cache_once_for_all_heads():
    few, many = cost(64, 1, 4095, np.array([16, 128]), dtype="bf16").mem_bytes
    cache = 64 * 4096 * 576 * 2
    vectors = 64 * (576 + 512) * 2
    assert few == cache + 16 * vectors
    assert many == cache + 128 * vectors


def test_decode_flops_are_those_of_the_absorbed_form():
    assert cost(3, 1, 99, 16).flops == 3 * 100 * 16 * 2 * (576 + 512)


@given(splits=st.sets(st.integers(1, 4095), max_size=4))
def test_flops_of_a_prompts_chunks_add_up_to_the_prompts(splits):
    ends = np.array([*sorted(splits), 4096])
    tokens = np.diff(ends, prepend=0)
    many = tokens > 1  # one token is a decode step, in the other form
    chunks = cost(2, tokens, ends - tokens, 16).flops[many].sum()
    pairs = np.sum((ends - tokens)[~many] + 1)
    whole = cost(2, 4096, 0, 16).flops
    assert chunks + 2 * 16 * pairs * 2 * (192 + 128) == whole


@given(
    requests=st.integers(1, 256),
    tokens=st.integers(1, 4096),
    context=st.integers(0, 65536),
    heads=st.sampled_from([1, 8, 16, 64, 128]),
    dtype=st.sampled_from(["bf16", "fp8"]),
)
def test_more_keys_and_more_heads_never_cost_less_and_no_roof_is_beaten(
    requests, tokens, context, heads, dtype
):
    one = cost(requests, tokens, context, heads, dtype=dtype)
    assert cost(requests, tokens, context + 64, heads, dtype=dtype).flops > one.flops
    assert cost(2 * requests, tokens, context, heads, dtype=dtype).seconds >= one.seconds * 0.999
    assert one.seconds >= one.mem_bytes / PROFILE.gpu.memory_bandwidth
    assert one.seconds >= one.flops / PROFILE.gpu.tensor_rate(dtype)
    assert 0 < one.sm_seconds <= one.seconds


def test_a_cache_in_fp8_is_half_the_bytes():
    wide, narrow = (cost(128, 1, 32767, 1, dtype=dtype).mem_bytes for dtype in ("bf16", "fp8"))
    assert narrow / wide == pytest.approx(0.5, rel=1e-3)


def test_a_machine_without_measurements_says_what_stands_in():
    unmeasured = PROFILE.model_copy(update={"latent_attention": None})
    found = unmeasured.latent_kernels("fp8")
    assert found.parameters == PARAMETERS
    assert unmeasured.stand_ins(("latent_attention", found)) == (
        "latent_attention of h100 was not measured for this kernel: its grouped-query attention "
        "stands in.",
    )
    assert found.error == 2 * PROFILE.errors.attention


@pytest.mark.parametrize("name", ["a100", "h100", "h200", "b200", "l40s", "rtxpro6000"])
def test_measured_machines_have_a_set_for_each_cache_with_its_error(name):
    machine = read_profile(name)
    for dtype in ("bf16", "fp8"):
        found = machine.latent_kernels(dtype)
        assert found.stands_in_for == ""
        assert "rows held back" in machine.source_of(found.path("latent_attention"))
        assert found.error is not None


def test_a_repeated_call_is_faster_where_the_operands_fit_in_l2():
    machine = read_profile("l40s")
    options = {"gpu": machine.gpu, "parameters": machine.latent_attention}
    small, large = (64, 1, 511, 1), (512, 1, 8191, 1)
    for sizes, faster in ((small, True), (large, False)):
        again = repeated_latent_attention_cost(*sizes, **options)
        assert (again.seconds < latent_attention_cost(*sizes, **options).seconds) is np.bool_(
            faster
        )
