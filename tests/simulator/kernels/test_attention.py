"""What attention costs: exact counts, the roofline, and how the time grows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isotune.simulator.errors import InputError
from isotune.simulator.kernels import AttentionParameters, Gpu, attention_cost
from isotune.simulator.kernels.attention import DecodeParameters, PrefillParameters

GPU = Gpu(sms=132, bf16=989e12, fp8=1979e12, memory=80e9, memory_bandwidth=3.35e12, l2=50e6)
PARAMETERS = AttentionParameters(
    prefill=PrefillParameters(
        launch=10e-6,
        block_overhead=2.5e-6,
        query_tile=64,
        tensor_efficiency=0.69,
        solo_rate=0.5,
        tail=0.2,
        bandwidth_efficiency=0.7,
    ),
    decode=DecodeParameters(
        launch=8e-6,
        block_overhead=3.5e-6,
        block_bandwidth=50e9,
        split_keys=128.0,
        max_splits=32.0,
        combine=0.5e-6,
        combine_part=0.06e-6,
        regroup=0.2e-6,
        bandwidth_efficiency=0.85,
    ),
    append_efficiency=0.6,
    l2_speedup=1.5,
    l2_resident=0.7,
)
HEADS = {"heads": 8, "kv_heads": 2, "head_dim": 128}

batches = st.integers(1, 256)
lengths = st.integers(1, 8192)
contexts = st.sampled_from([0, 1, 100, 4096, 60000])
windows = st.sampled_from([None, 1, 512, 4096])


def cost(batch, q_len, kv_len, *, gpu=GPU, parameters=PARAMETERS, **options):
    shape = HEADS | {name: options.pop(name) for name in HEADS if name in options}
    return attention_cost(
        batch, q_len, kv_len, *shape.values(), gpu=gpu, parameters=parameters, **options
    )


@given(splits=st.sets(st.integers(1, 4095), max_size=4), window=windows)
def test_flops_of_a_prompts_chunks_add_up_to_the_prompts(splits, window):
    ends = np.array([*sorted(splits), 4096])
    chunks = cost(2, np.diff(ends, prepend=0), ends, window=window)
    assert chunks.flops.sum() == cost(2, 4096, 4096, window=window).flops


@given(q_len=st.integers(1, 40), context=st.integers(0, 40), window=st.integers(1, 50) | st.none())
def test_flops_count_every_visible_pair_once(q_len, context, window):
    visible = [min(context + i + 1, window or 1000) for i in range(q_len)]
    expected = 4 * 128 * 8 * sum(visible)
    assert cost(1, q_len, context + q_len, window=window).flops == expected


@given(batch=batches, q_len=lengths, context=contexts, window=windows)
def test_a_cold_call_never_beats_the_roofline(batch, q_len, context, window):
    alone = cost(batch, q_len, context + q_len, window=window)
    assert alone.seconds > alone.flops / GPU.bf16
    assert alone.seconds > alone.mem_bytes / GPU.memory_bandwidth
    assert 0 < alone.sm_seconds < alone.seconds


@given(batch=batches, q_len=lengths, context=contexts)
def test_a_chunk_reads_the_whole_cache(batch, q_len, context):
    cache = 2 * 2 * batch * (context + q_len) * 2 * 128
    assert cost(batch, q_len, context + q_len).mem_bytes > cache


@given(batch=batches, q_len=lengths, context=contexts, more=st.integers(1, 8192))
def test_more_context_never_costs_less(batch, q_len, context, more):
    kv_len = context + q_len
    short, long = cost(batch, q_len, kv_len), cost(batch, q_len, kv_len + more)
    assert long.flops > short.flops
    assert long.seconds >= short.seconds


@given(batch=batches, q_len=lengths, context=contexts)
def test_a_larger_batch_never_costs_less_than_a_wave_effect(batch, q_len, context):
    small, large = (cost(b, q_len, context + q_len).seconds for b in (batch, batch + 1))
    assert large >= 0.75 * small
    assert cost(4 * batch, q_len, context + q_len).seconds >= small


@given(batch=batches, q_len=lengths, context=contexts, faster=st.floats(1, 4))
def test_more_bandwidth_is_never_slower(batch, q_len, context, faster):
    better = GPU.model_copy(update={"memory_bandwidth": faster * GPU.memory_bandwidth})
    kv_len = context + q_len
    assert cost(batch, q_len, kv_len, gpu=better).seconds <= cost(batch, q_len, kv_len).seconds


@given(batch=batches, q_len=lengths, context=contexts)
def test_operands_in_l2_are_never_slower_and_save_memory_traffic(batch, q_len, context):
    cold = cost(batch, q_len, context + q_len)
    warm = cost(batch, q_len, context + q_len, warm_l2=True)
    assert warm.seconds <= cold.seconds
    assert warm.mem_bytes <= cold.mem_bytes
    assert cost(1, 1, 1024, warm_l2=True).mem_bytes == 0


@pytest.mark.parametrize("q_len", [1, 64, 2048])
def test_fewer_kv_heads_read_fewer_bytes_for_the_same_flops(q_len):
    kv_heads = np.array([1, 2, 4, 8])
    costs = cost(16, q_len, 4096, kv_heads=kv_heads)
    assert (np.diff(costs.mem_bytes) > 0).all()
    assert np.ptp(costs.flops) == 0


@pytest.mark.parametrize("q_len", [1, 512])
def test_a_window_caps_the_cost_of_a_long_context(q_len):
    near, far = (cost(8, q_len, kv_len, window=4096) for kv_len in (16384, 131072))
    assert near == far
    assert near.seconds < cost(8, q_len, 16384).seconds


def test_a_window_as_long_as_the_cache_changes_nothing():
    assert cost(8, 512, 4096, window=4096) == cost(8, 512, 4096)


def test_decode_time_approaches_the_cache_over_the_bandwidth():
    long = cost(64, 1, 65536)
    attained = long.mem_bytes / long.seconds / GPU.memory_bandwidth
    assert attained == pytest.approx(PARAMETERS.decode.bandwidth_efficiency, rel=0.02)


def test_prefill_time_approaches_the_attained_tensor_rate():
    long = cost(8, 32768, 32768)
    attained = long.flops / long.seconds / GPU.bf16
    assert attained == pytest.approx(PARAMETERS.prefill.tensor_efficiency, rel=0.05)


def test_splitting_keys_makes_a_single_long_decode_faster():
    one_part = PARAMETERS.decode.model_copy(update={"max_splits": 1.0})
    unsplit = PARAMETERS.model_copy(update={"decode": one_part})
    assert cost(1, 1, 65536).seconds < 0.2 * cost(1, 1, 65536, parameters=unsplit).seconds


def test_an_fp8_cache_halves_the_bytes_of_decode():
    shape = {"heads": 2}
    bf16, fp8 = (cost(64, 1, 65536, kv_dtype=kind, **shape) for kind in ("bf16", "fp8"))
    assert fp8.mem_bytes == pytest.approx(bf16.mem_bytes / 2, rel=1e-3)
    assert fp8.seconds == pytest.approx(bf16.seconds / 2, rel=0.05)


@pytest.mark.parametrize("field", ["seconds", "sm_seconds", "mem_bytes", "flops"])
def test_an_array_of_calls_costs_what_each_costs_alone(field):
    batch, q_len = np.meshgrid([1, 7, 64], [1, 63, 64, 65, 5000])
    together = cost(batch, q_len, q_len + 300, window=2000)
    for index in np.ndindex(batch.shape):
        alone = cost(batch[index], q_len[index], q_len[index] + 300, window=2000)
        assert getattr(together, field)[index] == getattr(alone, field)


def test_a_type_without_tensor_cores_is_refused():
    with pytest.raises(InputError, match="int8"):
        cost(1, 64, 64, dtype="int8")
