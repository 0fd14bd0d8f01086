"""Reading measurements: what is right is typed, what is wrong is one line with row and column."""

import gzip

import numpy as np
import pytest

from isotune.simulator.errors import InputError
from isotune.validation.tables import read_table, unique

GOOD = """op,dtype,m,n,k,bytes,ranks,algorithm,latency_us,source
gemm,bf16,16,4096,4096,,,,25.5,me
gemm,bf16,8,4096,4096,,,,24.5,me
all_reduce,fp16,,,,1048576,8,nccl,60,you
"""


def written(tmp_path, text):
    path = tmp_path / "table.csv"
    path.write_text(text)
    return path


def test_rows_come_back_typed_in_seconds_and_by_op(tmp_path):
    table = read_table(written(tmp_path, GOOD))
    (gemm,) = table.of("gemm")
    assert gemm.sizes["m"].tolist() == [16, 8]
    assert gemm.latency_s == pytest.approx([25.5e-6, 24.5e-6])
    assert gemm.line.tolist() == [2, 3]
    (reduce,) = table.of("all_reduce")
    assert (reduce.dtype, reduce.algorithm, reduce.sizes["ranks"].tolist()) == ("fp16", "nccl", [8])
    assert table.of("attention") == ()
    assert table.sources_of("gemm") == ("me",)


def test_a_gzipped_table_is_read_alike(tmp_path):
    path = tmp_path / "table.csv.gz"
    path.write_bytes(gzip.compress(GOOD.encode()))
    assert len(read_table(path)) == len(read_table(written(tmp_path, GOOD))) == 3


def test_a_unit_in_the_column_name_is_the_unit_of_the_column(tmp_path):
    micro = "op,m,n,k,latency_us\ngemm,1,64,64,2500\n"
    milli = "op,m,n,k,latency_ms\ngemm,1,64,64,2.5\n"
    seconds = [read_table(written(tmp_path, t)).groups[0].latency_s[0] for t in (micro, milli)]
    assert seconds[0] == pytest.approx(seconds[1]) == pytest.approx(2.5e-3)


def test_repeated_sizes_become_their_median_in_ascending_order(tmp_path):
    rows = "".join(f"gemm,{m},64,64,{us}\n" for m, us in [(9, 5), (2, 1), (9, 7), (9, 30)])
    (gemm,) = read_table(written(tmp_path, "op,m,n,k,latency_us\n" + rows)).groups
    once = unique(gemm)
    assert once.sizes["m"].tolist() == [2, 9]
    assert np.round(once.latency_s * 1e6, 9).tolist() == [1, 7]


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("latency_us", "latency", r"row 1: needs one latency column .*found none"),
        ("latency_us,source", "latency_us,latency_ms", "row 1: .*both latency_us and latency_ms"),
        ("source", "sauce", "row 1: unknown column 'sauce'"),
        ("op,dtype", "dtype,dtype", "row 1: column 'dtype' is given twice"),
        ("op,", "hw,", "row 1: column 'op' is missing"),
        ("16,4096,4096", "16,,4096", "row 2: column n is missing"),
        ("25.5", "-25.5", "row 2: column latency_us: -25.5 is not above zero"),
        ("25.5", "0", "row 2: column latency_us: 0 is not above zero"),
        ("24.5", "nan", "row 3: column latency_us: nan is not a finite number"),
        ("24.5", "inf", "row 3: column latency_us: inf is not a finite number"),
        ("25.5", "25.5 ms", "row 2: column latency_us: '25.5 ms' is not a number; its unit is us"),
        ("gemm,bf16,16", "conv,bf16,16", r"row 2: column op: 'conv' \(allowed: gemm, att"),
        ("gemm,bf16,8", "gemm,bf17,8", r"row 3: column dtype: 'bf17' \(allowed: .*bf16"),
        ("16,4096,4096", "16.5,4096,4096", "row 2: column m: 16.5 is no whole number above zero"),
        ("1048576,8", "1048576,1", "row 4: column ranks: all_reduce needs 2 ranks"),
        (",you", ",you,more", "row 4: has more or fewer cells"),
        (",nccl,60,you", ",nccl", "row 4: has more or fewer cells"),
    ],
)
def test_a_corrupt_table_is_one_line_that_names_row_and_column(tmp_path, old, new, complaint):
    assert old in GOOD
    with pytest.raises(InputError, match=complaint) as caught:
        read_table(written(tmp_path, GOOD.replace(old, new, 1)))
    assert "\n" not in str(caught.value)
    assert "table.csv: " in str(caught.value)


def test_an_attention_row_with_more_queries_than_keys_is_refused(tmp_path):
    text = "op,batch,q_len,kv_len,heads,kv_heads,head_dim,latency_us\nattention,1,9,8,8,8,128,5\n"
    with pytest.raises(InputError, match="row 2: column q_len: more queries than keys"):
        read_table(written(tmp_path, text))


def test_no_file_an_empty_file_and_a_broken_archive_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_table(tmp_path / "none.csv")
    with pytest.raises(InputError, match="no rows"):
        read_table(written(tmp_path, "op,m,n,k,latency_us\n"))
    broken = tmp_path / "table.csv.gz"
    broken.write_bytes(gzip.compress(GOOD.encode())[:-9])
    with pytest.raises(InputError, match="damaged gzip data"):
        read_table(broken)
