"""Rows of the package aiconfigurator-core: of a small copy of its folders, and of the real one."""

import sys
from importlib.util import find_spec

import pytest

from isotune.cli import main
from isotune.simulator.errors import InputError
from isotune.validation.importers import OPERATIONS, kernel_tables
from isotune.validation.tables import read_table

pyarrow = pytest.importorskip("pyarrow")
WHEEL = find_spec("aiconfigurator_core") is not None
GEMM = {"gemm_dtype": "bfloat16", "m": 8, "n": 4096, "k": 1024, "latency": 0.01}
CONTEXT = {
    "batch_size": 2,
    "isl": 128,
    "step": 64,
    "num_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 128,
    "beam_width": 1,
    "window_size": 0,
    "attn_dtype": "bfloat16",
    "kv_cache_dtype": "bfloat16",
    "latency": 0.02,
}
NCCL = {"op_name": "alltoall", "nccl_dtype": "half", "num_gpus": 4, "message_size": 256}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package with two versions of a table; a function that adds files to it."""
    root = tmp_path / "aiconfigurator_core"

    def add(place, rows):
        file = root / "systems" / "data" / f"{place}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)

    import pyarrow.parquet

    root.mkdir()
    (root / "__init__.py").touch()
    add("big_sxm/gemm/vllm/0.9.0/gemm_perf", [GEMM | {"m": 1}])
    add("big_sxm/gemm/vllm/0.24.0/gemm_perf", [GEMM, GEMM | {"gemm_dtype": "fp8"}])
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "aiconfigurator_core", raising=False)
    return add


def rows_of(tmp_path, *operations, **options):
    path = tmp_path / "rows.csv"
    read = kernel_tables("big_sxm", "vllm", operations, **options)
    path.write_text(read.text)
    return read, read_table(path)


@pytest.mark.usefixtures("package")
def test_the_newest_version_becomes_rows_that_can_be_read(tmp_path):
    read, table = rows_of(tmp_path, "gemm")
    assert read.rows == {"gemm": 2}
    assert table.machines == ("big",)
    assert {rows.dtype for rows in table.groups} == {"bf16", "fp8"}
    for rows in table.groups:
        assert rows.key.engine == "vllm"
        assert rows.sizes["m"].tolist() == [8]
        assert rows.latency_s.tolist() == pytest.approx([10e-6])
    assert table.sources_of("gemm") == ("aiconfigurator vllm 0.24.0",)


def test_keys_of_earlier_context_count_and_what_cannot_be_said_is_left_out(package, tmp_path):
    other = [CONTEXT | {"window_size": 128}, CONTEXT | {"kv_cache_dtype": "fp8"}]
    package("big_sxm/attention/vllm/0.24.0/context_attention_perf", [CONTEXT, *other])
    package("big_sxm/attention/vllm/0.24.0/generation_attention_perf", [CONTEXT | {"isl": 1}])
    read, table = rows_of(tmp_path, "attention")
    (rows,) = table.groups
    assert sorted(rows.sizes["q_len"]) == [1, 128]
    assert sorted(rows.sizes["kv_len"]) == [65, 192]
    assert sum(read.left_out.values()) == 2


def test_messages_are_counted_in_elements_there_and_in_bytes_here(package, tmp_path):
    sizes = [NCCL | {"latency": 0.005}, NCCL | {"op_name": "all_gather", "latency": 0.006}]
    package("big_sxm/comm/nccl/2.29.2/nccl_perf", sizes)
    _, table = rows_of(tmp_path, "all_to_all")
    (rows,) = table.groups
    assert (rows.sizes["bytes"].tolist(), rows.algorithm) == ([512], "nccl")


def test_at_most_so_many_rows_of_each_type_and_the_same_ones_each_time(package, tmp_path):
    many = [GEMM | {"m": m, "gemm_dtype": t} for m in range(1, 100) for t in ("bfloat16", "fp8")]
    package("big_sxm/gemm/vllm/0.25.0/gemm_perf", many)
    first, table = rows_of(tmp_path, "gemm", most=10)
    assert [len(rows) for rows in table.groups] == [10, 10]
    assert rows_of(tmp_path, "gemm", most=10)[0] == first


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("big", "vllm", ("gemm",)), "--system: 'big' .*allowed: big_sxm"),
        (("big_sxm", "vllm2", ("gemm",)), "no gemm_perf of 'vllm2'.*there are: vllm"),
        (("big_sxm", "vllm", ("moe",)), "no moe_perf.*there are: none"),
        (("big_sxm", "vllm", ("gem",)), "--op: 'gem' .did you mean gemm"),
    ],
)
@pytest.mark.usefixtures("package")
def test_what_the_package_lacks_is_said_in_one_line(asked, said):
    with pytest.raises(InputError, match=said):
        kernel_tables(*asked)


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(
        "isotune.validation.importers.wheel_tables.PACKAGE", "no_such_package_of_tables"
    )
    with pytest.raises(InputError, match=r"pip install 'isotune\[tables\]'"):
        kernel_tables("h200_sxm", "vllm", ("gemm",))


def test_the_command_writes_the_table_and_says_what_it_left_out(package, tmp_path, capsys):
    other = [CONTEXT, CONTEXT | {"window_size": 128}]
    package("big_sxm/attention/vllm/0.24.0/context_attention_perf", other)
    package("big_sxm/attention/vllm/0.24.0/generation_attention_perf", [CONTEXT | {"isl": 1}])
    path = tmp_path / "out.csv"
    words = ["--system", "big_sxm", "--engine", "vllm", "--op", "gemm,attention"]
    with pytest.raises(SystemExit) as ended:
        main(["import", "tables", *words, "-o", str(path)])
    assert ended.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "rows 2 of gemm, 2 of attention" in shown
    assert "left out: 1 rows of context_attention_perf: a window" in shown
    assert len(read_table(path)) == 4


@pytest.mark.skipif(not WHEEL, reason="aiconfigurator-core is not installed (extra tables)")
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_of_the_real_package_can_be_read(operation, tmp_path):
    path = tmp_path / "rows.csv"
    engine = "trtllm" if operation == "mla_attention" else "vllm"
    read = kernel_tables("h200_sxm", engine, (operation,), most=20)
    path.write_text(read.text)
    table = read_table(path)
    assert len(table) == read.rows[operation] > 0
    assert table.machines == ("h200",)
