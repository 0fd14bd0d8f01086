"""What a GEMM costs: never below the roofline, monotone, with waves one can see."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isotune.simulator.errors import InputError
from isotune.simulator.kernels import GemmParameters, Gpu, Tile, gemm_cost
from isotune.simulator.number_types import bytes_of

GPU = Gpu(sms=108, bf16=312e12, memory=80e9, memory_bandwidth=2.039e12, l2=40e6)
HOPPER = Gpu(sms=132, bf16=989e12, fp8=1979e12, memory=80e9, memory_bandwidth=3.35e12, l2=50e6)
PARAMETERS = GemmParameters(
    launch=3.5e-6,
    tensor_efficiency=0.95,
    sm_feed=60e9,
    quantisation=0.9,
    prologue=5e-7,
    epilogue=2e-6,
    step=1e-8,
    split_k=2.4e-6,
    memory_efficiency=0.8,
    memory_latency=2e-6,
    l2_bandwidth=4e12,
    l2_residency=0.9,
    l2_reuse=0.5,
    block=800.0,
    sharpness=3.0,
)

tokens = st.integers(1, 8192)
sizes = st.integers(64, 16384)


def seconds(m, n, k, gpu=GPU, **options):
    return float(gemm_cost(m, n, k, gpu=gpu, parameters=PARAMETERS, **options).seconds)


@given(tokens, sizes, sizes)
def test_no_gemm_beats_the_roofline(m, n, k):
    cost = gemm_cost(m, n, k, gpu=GPU, parameters=PARAMETERS)
    compulsory = 2 * (m * k + k * n + m * n)
    assert cost.flops == 2 * m * n * k
    assert cost.mem_bytes >= compulsory * (1 - 1e-12)
    assert cost.seconds >= cost.flops / GPU.bf16
    assert cost.seconds >= compulsory / GPU.memory_bandwidth
    assert 0 < cost.sm_seconds <= cost.seconds


@given(tokens, sizes, sizes, st.integers(1, 4096))
def test_a_deeper_product_never_takes_less_time(m, n, k, more):
    for warm in (False, True):
        assert seconds(m, n, k + more, warm_l2=warm) >= seconds(m, n, k, warm_l2=warm)


@given(tokens, sizes, sizes, st.floats(1, 4), st.sampled_from(["bf16", "memory_bandwidth"]))
def test_a_faster_gpu_never_takes_longer(m, n, k, factor, field):
    faster = GPU.model_copy(update={field: getattr(GPU, field) * factor})
    assert seconds(m, n, k, faster) <= seconds(m, n, k) * (1 + 1e-12)


@given(tokens, sizes, sizes)
def test_more_sms_of_the_same_speed_never_take_longer(m, n, k):
    more = GPU.model_copy(update={"sms": 2 * GPU.sms, "bf16": 2 * GPU.bf16})
    assert seconds(m, n, k, more) <= seconds(m, n, k) * (1 + 1e-12)


@given(tokens, sizes, sizes)
def test_warm_operands_never_take_longer_than_cold(m, n, k):
    warm = gemm_cost(m, n, k, gpu=GPU, parameters=PARAMETERS, warm_l2=True)
    assert warm.seconds <= seconds(m, n, k) * (1 + 1e-12)
    assert 0 <= warm.mem_bytes <= gemm_cost(m, n, k, gpu=GPU, parameters=PARAMETERS).mem_bytes


def test_weights_larger_than_l2_are_never_warm():
    assert seconds(1, 8192, 8192, warm_l2=True) == pytest.approx(seconds(1, 8192, 8192), rel=1e-3)
    assert seconds(1, 1024, 2048, warm_l2=True) < 0.95 * seconds(1, 1024, 2048)


def test_an_array_gives_the_same_answer_as_its_elements():
    m = np.array([1, 17, 128, 1000, 4096])
    n = np.array([[1024], [7168]])
    together = gemm_cost(m, n, 4096, gpu=GPU, parameters=PARAMETERS, warm_l2=True)
    for row in range(2):
        for column in range(5):
            alone = gemm_cost(
                m[column], n[row, 0], 4096, gpu=GPU, parameters=PARAMETERS, warm_l2=True
            )
            for field, value in zip(alone, together, strict=True):
                assert float(field) == pytest.approx(float(value[row, column]), rel=1e-12)


def test_one_token_past_a_full_wave_costs_a_wave():
    tiles = 108 // 54  # rows of 128x256 tiles that fill the SMs when y is 54 tiles wide
    full, past = tiles * 128, tiles * 128 + 1
    aligned = seconds(full, 54 * 256, 8192)
    assert seconds(past, 54 * 256, 8192) > 1.2 * aligned
    assert seconds(full - 1, 54 * 256, 8192) == pytest.approx(aligned, rel=0.01)


def test_splitting_a_tp8_mlp_in_halves_costs_more_than_splitting_at_a_tile():
    def mlp(m):  # Llama-70B, gate and up together, then down, on one of 8 GPUs
        return seconds(m, 7168, 8192, HOPPER) + seconds(m, 8192, 3584, HOPPER)

    whole, halves = mlp(1280), 2 * mlp(640)
    aligned = min(mlp(m) + mlp(1280 - m) for m in range(128, 1280, 128))
    assert halves > 1.05 * whole
    assert aligned < halves


def test_few_tokens_cost_the_time_to_stream_the_weights():
    cost = gemm_cost(np.array([1, 16]), 8192, 8192, gpu=GPU, parameters=PARAMETERS)
    stream = 2 * 8192 * 8192 / (GPU.memory_bandwidth * PARAMETERS.memory_efficiency)
    assert cost.seconds == pytest.approx(stream, rel=0.15)
    assert cost.seconds[1] < 1.05 * cost.seconds[0]


def test_a_large_gemm_reaches_most_of_the_peak():
    cost = gemm_cost(8192, 8192, 8192, gpu=GPU, parameters=PARAMETERS)
    assert 0.7 < float(cost.flops / cost.seconds) / GPU.bf16 < PARAMETERS.tensor_efficiency


def test_splitting_k_helps_when_tiles_are_fewer_than_sms():
    one_tile_each = 16384 / 64 * PARAMETERS.step + 16384 * 2 * 32 * 64 / (GPU.bf16 / GPU.sms)
    assert seconds(16, 256, 16384) < one_tile_each + PARAMETERS.launch


@pytest.mark.parametrize("weights", ["fp8", "int4"])
def test_weight_only_quantisation_saves_bytes_when_decoding_and_costs_time_in_prefill(weights):
    shape = {"n": 8192, "k": 8192, "gpu": GPU, "parameters": PARAMETERS}
    decode, narrow = gemm_cost(1, **shape), gemm_cost(1, weight_dtype=weights, **shape)
    saved = (2 - bytes_of(weights)) * 8192 * 8192
    assert float(decode.mem_bytes - narrow.mem_bytes) == pytest.approx(saved)
    assert narrow.seconds < decode.seconds
    assert gemm_cost(8192, weight_dtype=weights, **shape).seconds > gemm_cost(8192, **shape).seconds


def test_fp8_is_faster_where_there_are_fp8_tensor_cores_and_an_error_elsewhere():
    assert seconds(4096, 8192, 8192, HOPPER, dtype="fp8") < seconds(4096, 8192, 8192, HOPPER)
    with pytest.raises(InputError, match=r"fp8 .*allowed dtypes: bf16, fp16; --quant"):
        seconds(16, 64, 64, dtype="fp8")


def test_a_parameter_out_of_its_range_is_refused():
    with pytest.raises(ValueError, match="tensor_efficiency"):
        GemmParameters.model_validate({**PARAMETERS.model_dump(), "tensor_efficiency": 1.1})


@pytest.mark.parametrize("of", [lambda m: m, lambda m: m + 2_000_000, lambda m: m / 7])
def test_sizes_that_repeat_cost_what_each_costs_alone(of):
    m = of(np.random.default_rng(0).integers(1, 300, (400, 3)))
    many = gemm_cost(m, 4096, 1024, gpu=GPU, parameters=PARAMETERS)
    for row, column in ((0, 0), (17, 1), (399, 2)):
        alone = gemm_cost(m[row, column], 4096, 1024, gpu=GPU, parameters=PARAMETERS)
        assert [field[row, column] for field in many] == list(alone)


def with_figures(**figures):
    parameters = PARAMETERS.model_copy(update=figures)
    return lambda m, n, k: gemm_cost(m, n, k, gpu=HOPPER, parameters=parameters, dtype="fp8")


def test_a_library_with_one_tile_for_each_range_of_m_takes_that_one():
    small, large = Tile(rows=64, columns=64), Tile(rows=128, columns=128, above=64)
    alone = [with_figures(tiles=(Tile(rows=s, columns=s),)) for s in (64, 128)]
    both = with_figures(tiles=(small, large))
    for m, one in ((1, 0), (64, 0), (65, 1), (5000, 1)):
        assert both(m, 4096, 4096).seconds == alone[one](m, 4096, 4096).seconds


def test_without_a_split_of_k_few_deep_tiles_take_as_long_as_their_depth():
    never, often = with_figures(most_splits=1), with_figures()
    assert never(16, 512, 65536).seconds > 2 * often(16, 512, 65536).seconds
    assert never(8192, 8192, 4096).seconds == often(8192, 8192, 4096).seconds


@given(tokens, sizes, sizes)
def test_quantising_activations_before_a_product_moves_them_once_more(m, n, k):
    plain, before = with_figures(), with_figures(quantise_bytes=4.0, quantise_row=1e-9)
    cost, without = before(m, n, k), plain(m, n, k)
    assert cost.mem_bytes - without.mem_bytes == pytest.approx(4 * m * k)
    expected = 4 * m * k / (HOPPER.memory_bandwidth * 0.8) + m * 1e-9
    assert cost.seconds - without.seconds == pytest.approx(expected)
    assert cost.sm_seconds == without.sm_seconds
