"""Traces of torch.profiler: what ran, what was exposed, which sizes are known."""

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isotune.simulator.errors import InputError
from isotune.validation.tables import read_table
from isotune.validation.traces import (
    Event,
    TracedPass,
    Work,
    blocks_of,
    bundled_names,
    passes_of,
    read_names,
    read_trace,
    rows_of,
    rows_text,
)
from tests._support import traces as made

NAMES = bundled_names()


def read(tmp_path, trace, name="trace.json"):
    path = tmp_path / name
    path.write_text(json.dumps(trace.data() if isinstance(trace, made.GpuTrace) else trace))
    return read_trace(path)


def only(tmp_path, trace):
    """The only pass of a trace."""
    (one,) = passes_of(read(tmp_path, trace), NAMES)
    return one


def test_a_serial_pass_exposes_all_of_its_communication(tmp_path):
    trace = made.GpuTrace()
    end = made.serial_pass(trace, 0.0, blocks=4)
    one = only(tmp_path, trace)
    assert one.latency_s == pytest.approx(end * 1e-6)
    assert one.comm_s == pytest.approx(8 * 12e-6)
    assert one.exposed_s == pytest.approx(one.comm_s)
    assert one.overlapped_s == pytest.approx(0.0, abs=1e-12)
    assert one.idle_s == pytest.approx(0.0, abs=1e-12)


def test_overlapped_communication_is_not_exposed(tmp_path):
    trace = made.GpuTrace()
    made.overlapped_pass(trace, 0.0, blocks=4)
    one = only(tmp_path, trace)
    assert one.comm_s == pytest.approx(16 * 15e-6)
    assert one.exposed_s == pytest.approx(15e-6), "of the last all-reduce"
    assert one.overlapped_s == pytest.approx(15 * 15e-6)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["compute", "communication"]),
            st.floats(0, 1, allow_subnormal=False),
            st.floats(1e-6, 1, allow_subnormal=False),
        ),
        min_size=1,
        max_size=20,
    )
)
@settings(deadline=None)
def test_the_parts_of_a_pass_add_up_to_it(spans):
    work = [
        Work(event=event(start, start + took), op="x", stream=stream)
        for stream, start, took in sorted(spans, key=lambda span: span[1])
    ]
    one = TracedPass(name="p", work=tuple(work))
    assert one.compute_s + one.exposed_s + one.idle_s == pytest.approx(one.latency_s)
    assert one.overlapped_s <= min(one.compute_s, one.comm_s) + 1e-12


def event(start, end):
    return Event(name="k", category="kernel", start=start, end=end, thread=("0", "7"), arguments={})


def test_blocks_are_what_repeats_between_collectives(tmp_path):
    trace = made.GpuTrace()
    made.serial_pass(trace, 0.0, blocks=5)
    blocks = blocks_of(only(tmp_path, trace))
    assert [block.collectives for block in blocks] == [2] * 5
    lengths = [block.span[1] - block.span[0] for block in blocks]
    assert lengths[1:] == pytest.approx([made.SERIAL_BLOCK_US * 1e-6] * 4)
    assert lengths[0] == pytest.approx((made.SERIAL_BLOCK_US + 2) * 1e-6), "with the embedding"
    assert all(block.part.exposed_s == pytest.approx(24e-6) for block in blocks)


def test_two_chunks_make_blocks_of_four_collectives(tmp_path):
    trace = made.GpuTrace()
    made.overlapped_pass(trace, 0.0, blocks=6)
    blocks = blocks_of(only(tmp_path, trace))
    assert [block.collectives for block in blocks] == [4] * 6
    spans = [block.span for block in blocks]
    assert all(before[1] == after[0] for before, after in pairwise(spans))


def test_collectives_before_the_blocks_belong_to_none(tmp_path):
    trace = made.GpuTrace()
    trace.kernel("vocab_parallel_embedding_kernel", -20, 4)
    trace.all_reduce(-16, 10)
    made.serial_pass(trace, 0.0, blocks=4)
    blocks = blocks_of(only(tmp_path, trace))
    assert len(blocks) == 4
    assert blocks[0].span[0] == pytest.approx(15e-6), "after the all-reduce of the embedding"


def test_nothing_repeats_without_collectives(tmp_path):
    trace = made.GpuTrace()
    trace.kernel(made.GEMM, 0, 10)
    assert blocks_of(only(tmp_path, trace)) == ()


def test_a_pass_is_what_was_launched_inside_its_annotation(tmp_path):
    trace = made.GpuTrace()
    for step in range(3):
        trace.annotation(f"ProfilerStep#{step}", step * 100, 50)
        trace.kernel(made.GEMM, step * 100 + 70, 20, launch=step * 100 + 10)
        trace.all_reduce(step * 100 + 90, 5 + step, launch=step * 100 + 20)
    trace.kernel(made.GEMM, 500, 20)
    found = passes_of(read(tmp_path, trace), NAMES)
    assert [one.name for one in found] == ["ProfilerStep#0", "ProfilerStep#1", "ProfilerStep#2"]
    assert [one.latency_s for one in found] == pytest.approx([25e-6, 26e-6, 27e-6])


def test_the_engines_own_annotation_is_taken_before_the_profilers(tmp_path):
    trace = made.GpuTrace()
    trace.annotation("ProfilerStep#1", 0, 200)
    trace.annotation("step[EXTEND bs=1 toks=64]", 10, 30)
    trace.annotation("step[DECODE bs=4]", 100, 30)
    trace.kernel(made.GEMM, 12, 20)
    trace.kernel(made.GEMM, 110, 5)
    trace.kernel(made.GEMM, 180, 5)
    read_in = read(tmp_path, trace)
    assert [one.name[:11] for one in passes_of(read_in, NAMES)] == ["step[EXTEND", "step[DECODE"]
    (decode,) = passes_of(read_in, NAMES, "DECODE")
    assert decode.latency_s == pytest.approx(5e-6)


def test_an_annotation_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    trace = made.GpuTrace()
    trace.annotation("mine", 0, 10)
    trace.kernel(made.GEMM, 1, 5)
    with pytest.raises(InputError, match=r"--pass: no annotation contains 'yours' .*'mine'"):
        passes_of(read(tmp_path, trace), NAMES, "yours")


@pytest.mark.parametrize(
    ("name", "op", "stream"),
    [
        (made.NCCL, "all_reduce", "communication"),
        ("void vllm::cross_device_reduce_1stage<__nv_bfloat16, 8>", "all_reduce", "communication"),
        ("flashinfer::trtllm_allreduce_fusion::allreduce_fusion_kernel", "all_reduce", None),
        ("multimem_all_reduce_kernel", "all_reduce", "communication"),
        ("ncclDevKernel_ReduceScatter_Sum_bf16_RING_LL", "reduce_scatter", "communication"),
        ("ncclDevKernel_AllGather_RING_LL", "all_gather", "communication"),
        ("ncclDevKernel_SendRecv", "send", "communication"),
        ("ncclDevKernel_Broadcast_RING_LL", "broadcast", "communication"),
        (made.GEMM, "gemm", "compute"),
        ("ampere_bf16_s16816gemm_bf16_128x256_ldg8_f2f_stages_64x3_tn", "gemm", "compute"),
        ("Cijk_Alik_Bljk_BBS_BH_MT256x256x64", "gemm", "compute"),
        (made.FLASH, "attention", "compute"),
        (
            "void cutlass::device_kernel<flash::enable_sm90<flash::FlashAttnFwdSm90>>",
            "attention",
            None,
        ),
        ("fmhaSm100aKernel_QkvBfloat16", "attention", "compute"),
        ("void vllm::reshape_and_cache_flash_kernel<__nv_bfloat16>", "elementwise", "compute"),
        ("fused_moe_kernel", "experts", "compute"),
        ("triton_red_fused__to_copy_add_mean_mul_pow_rsqrt_0", "elementwise", "compute"),
        (made.NORM, "elementwise", "compute"),
        ("chunk_gated_delta_rule_fwd_kernel_h", "scan", "compute"),
    ],
)
def test_kernels_of_the_engines_are_known(name, op, stream):
    found = NAMES.of(name)
    assert found is not None
    assert found.op == op
    assert found.stream == (stream or found.stream)


def test_an_unknown_kernel_counts_as_compute_under_its_own_name(tmp_path):
    trace = made.GpuTrace()
    trace.kernel(made.MINE, 0, 10)
    (kernel,) = only(tmp_path, trace).kernels()
    assert (kernel.name, kernel.op, kernel.calls) == (made.MINE, "unknown", 1)
    assert only(tmp_path, trace).compute_s == pytest.approx(10e-6)


def test_a_users_names_come_before_the_bundled_ones(tmp_path):
    path = tmp_path / "names.yaml"
    path.write_text("kernels:\n- {op: my_op, stream: communication, words: [nvjet_tst]}\n")
    names = read_names(path)
    assert names.of(made.GEMM).op == "my_op"
    assert names.of(made.NCCL).op == "all_reduce"


def test_rows_have_the_sizes_of_products_and_all_reduces(tmp_path):
    trace = made.GpuTrace(ranks=4)
    made.serial_pass(trace, 0.0, blocks=3)
    trace.all_reduce(400, 9)
    found = rows_of(read(tmp_path, trace), [only(tmp_path, trace)])
    path = tmp_path / "rows.csv"
    path.write_text(rows_text(found, hw="h100", source="a trace"))
    table = read_table(path)
    (gemms,) = table.of("gemm")
    assert {name: set(values) for name, values in gemms.sizes.items()} == {
        "m": {made.TOKENS},
        "n": {3072},
        "k": {made.HIDDEN},
    }
    assert gemms.latency_s == pytest.approx(10e-6)
    (reduces,) = table.of("all_reduce")
    assert reduces.sizes["bytes"].tolist() == [made.TOKENS * made.HIDDEN * 2]
    assert reduces.sizes["ranks"].tolist() == [4]
    assert reduces.latency_s == pytest.approx(9e-6), "the repeat that waited least"
    assert found.left_out == 3 * 2 + 1, "products without an operator"


def test_what_ran_beside_another_kernel_is_no_row(tmp_path):
    trace = made.GpuTrace()
    trace.kernel(made.GEMM, 0, 20, operator=made.product(64, 64, 64))
    trace.all_reduce(10, 30)
    found = rows_of(read(tmp_path, trace), [only(tmp_path, trace)])
    assert found.rows == ()
    assert found.left_out == 2
    with pytest.raises(InputError, match="record_shapes=True"):
        rows_text(found, hw="", source="")


def test_a_product_of_several_kernels_is_no_row(tmp_path):
    trace = made.GpuTrace()
    trace.kernel(made.GEMM, 0, 20, operator=made.product(64, 64, 64))
    trace.kernel("cublasLt::splitKreduce_kernel", 20, 5, **{"External id": 1})
    assert rows_of(read(tmp_path, trace), [only(tmp_path, trace)]).rows == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"traceEvents": None}, "traceEvents: no list of events"),
        ({"traceEvents": []}, "no kernels and no operators in it"),
        (
            {"traceEvents": [{"ph": "X", "cat": "kernel", "name": 3, "ts": 0, "dur": 1}]},
            r"\[0\]: name",
        ),
        (
            {"traceEvents": [{"ph": "X", "cat": "kernel", "name": "k", "ts": "0", "dur": 1}]},
            "ts: not a",
        ),
        (
            {"traceEvents": [{"ph": "X", "cat": "kernel", "name": "k", "ts": 0, "dur": -1}]},
            "below zero",
        ),
        (
            {"traceEvents": [{"ph": "X", "cat": "kernel", "name": "k", "ts": 0, "dur": 1e300}]},
            "too large",
        ),
    ],
)
def test_a_broken_trace_is_refused_in_one_line(tmp_path, change, message):
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path, made.GpuTrace().data() | change)
    assert "\n" not in str(caught.value)


def test_kernels_of_several_gpus_are_refused(tmp_path):
    trace = made.GpuTrace()
    trace.kernel(made.GEMM, 0, 10)
    trace.kernel(made.GEMM, 0, 10, device=1)
    with pytest.raises(InputError, match="kernels of 2 GPUs"):
        read(tmp_path, trace)
