"""Every operation of a table is read, and priced or named as one without a model."""

import pytest

from isotune.simulator.errors import InputError
from isotune.simulator.machine import read_profile
from isotune.validation.check import check_table
from isotune.validation.tables import SIZES, read_table

H100 = read_profile("h100")
PLAIN = {
    "kv_len": 512,
    "kv_heads": 1,
    "experts": 64,
    "expert_tp": 1,
    "expert_ep": 2,
    "ranks": 8,
    "top_k": 2,
}
MOE = "op,tokens,hidden,intermediate,experts,top_k,expert_tp,expert_ep,distribution,dtype"


def table(tmp_path, *lines):
    path = tmp_path / "table.csv"
    path.write_text("\n".join(lines) + "\n")
    return read_table(path)


def one_row(tmp_path, op, **more):
    cells = {"op": op} | {name: PLAIN.get(name, 128) for name in SIZES[op]} | more
    cells |= {"latency_us": 50}
    return table(tmp_path, ",".join(cells), ",".join(map(str, cells.values())))


@pytest.mark.parametrize("op", SIZES)
def test_each_operation_is_scored_or_listed_with_the_reason(tmp_path, op):
    done = check_table(one_row(tmp_path, op), H100)
    assert sum(part.score.rows for part in done.ops) + sum(done.unscored.values()) == 1
    for reason in done.unscored:
        assert reason.startswith(f"{op}: ")


def test_an_operation_without_a_model_is_called_that(tmp_path):
    assert check_table(one_row(tmp_path, "ep_dispatch"), H100).unscored == {
        "ep_dispatch: not modelled": 1
    }


@pytest.mark.parametrize(
    ("dtype", "operands"),
    [
        ("fp8_block", ("fp8_block", "fp8_block")),
        ("int8", ("int8", "int8")),
        ("int4_wo", ("bf16", "int4")),
        ("mxfp4_wo", ("bf16", "mxfp4")),
        ("mxfp4_mxfp8", ("mxfp8", "mxfp4")),
    ],
)
def test_a_type_of_weights_alone_is_two_types(tmp_path, dtype, operands):
    (rows,) = one_row(tmp_path, "gemm", dtype=dtype).groups
    assert rows.operands == operands


def test_the_engine_is_the_one_that_the_source_names(tmp_path):
    for source, engine in (("aiconfigurator vllm 0.24.0", "vllm"), ("tokenweave", "")):
        (rows,) = one_row(tmp_path, "gemm", source=source).groups
        assert rows.key.engine == engine


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("moe,8,8,8,8,2,1,3,balanced,bf16,5", "column expert_ep: does not divide experts"),
        ("moe,8,8,8,8,9,1,1,balanced,bf16,5", "column top_k: more than experts"),
        ("moe,8,8,8,8,2,1,1,skewed,bf16,5", r"column distribution: 'skewed' \(allowed: balanced"),
        ("moe,8,8,8,8,2,1,1,balanced,int3,5", r"column dtype: 'int3' \(allowed: .*int4_wo"),
        ("moe,8,8,,8,2,1,1,balanced,bf16,5", "column intermediate is missing"),
    ],
)
def test_a_wrong_row_is_one_line(tmp_path, row, complaint):
    with pytest.raises(InputError, match=complaint):
        table(tmp_path, f"{MOE},latency_us", row)


def test_rows_take_the_set_of_their_engine_and_say_so(tmp_path):
    rows = one_row(tmp_path, "gemm", source="aiconfigurator sglang 0.5")
    (default,) = check_table(rows, H100).ops
    own = H100.gemm.model_copy(update={"sets": {"of-sglang": _set("sglang")}})
    (chosen,) = check_table(rows, H100.model_copy(update={"gemm": own})).ops
    assert ("parameters", "gemm for sglang") in default.groups()
    assert ("parameters", "gemm.sets.of-sglang") in chosen.groups()
    assert chosen.rows[0].predicted_s > default.rows[0].predicted_s


def _set(engine):
    from isotune.simulator.kernels import KernelSet

    return KernelSet(engine=engine, launch="20 us")
