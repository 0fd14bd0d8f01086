"""nccl-tests logs, as the tool prints them: rows come out, anything odd is one line."""
# ruff: noqa: E501 - the logs are as wide as the tool prints them

import pytest

from isotune.cli import main
from isotune.simulator.errors import InputError
from isotune.validation.importers import read_log
from isotune.validation.tables import read_table

NEW = """\
# nccl-tests version 2.17.6 nccl-headers=22703 nccl-library=22703
# Collective test starting: all_reduce_perf
# nThread 1 nGpus 2 minBytes 1024 maxBytes 1048576 step: 1024(factor) warmup iters: 5 iters: 20
#
# Using devices
#  Rank  0 Group  0 Pid  28307 on      node1 device  0 [0x16] NVIDIA GeForce RTX 4090
#  Rank  1 Group  0 Pid  28307 on      node1 device  1 [0x27] NVIDIA GeForce RTX 4090
#
#                                                              out-of-place                       in-place
#       size         count      type   redop    root     time   algbw   busbw #wrong     time   algbw   busbw #wrong
#        (B)    (elements)                               (us)  (GB/s)  (GB/s)            (us)  (GB/s)  (GB/s)
           0             0     float     sum      -1     5.70    0.00    0.00      0     5.54    0.00    0.00      0
        1024           512      half     sum      -1    10.26    0.10    0.10      0     9.75    0.11    0.11      0
     1048576        524288      half     sum      -1   123.40    8.50    8.50      0   120.10    8.73    8.73    N/A
# Out of bounds values : 0 OK
# Avg bus bandwidth    : 4.3
#
"""

OLD = """\
# nThread 1 nGpus 2 minBytes 65536 maxBytes 131072 step: 2(factor) warmup iters: 5 iters: 20 validation: 1
#   Rank  0 Pid   1320 on  localhost device  0 [0x00] Tesla V100-SXM2-16GB
#   Rank  1 Pid   1320 on  localhost device  1 [0x00] Tesla V100-SXM2-16GB
#                                                       out-of-place                       in-place
#       size         count      type   redop     time   algbw   busbw  error     time   algbw   busbw  error
#        (B)    (elements)                       (us)  (GB/s)  (GB/s)            (us)  (GB/s)  (GB/s)
       65536         16384     float     sum    16.57    3.95    3.95  0e+00    13.83    4.74    4.74  0e+00
"""


def log(tmp_path, text):
    path = tmp_path / "log.txt"
    path.write_text(text)
    return path


def test_a_log_gives_bytes_ranks_type_and_out_of_place_time(tmp_path):
    read = read_log(log(tmp_path, NEW))
    assert read.nccl == "2.27.3"
    assert [(r.message_bytes, r.ranks, r.dtype, r.latency_us) for r in read.rows] == [
        (1024, 2, "fp16", 10.26),
        (1048576, 2, "fp16", 123.4),
    ]


def test_in_place_times_on_request_and_older_columns(tmp_path):
    assert [r.latency_us for r in read_log(log(tmp_path, NEW), in_place=True).rows] == [9.75, 120.1]
    (row,) = read_log(log(tmp_path, OLD)).rows
    assert (row.message_bytes, row.dtype, row.latency_us) == (65536, "fp32", 16.57)


def test_mpi_prefixes_are_no_part_of_a_line(tmp_path):
    tagged = "".join(f"[1,0]<stdout>:{line}\n" for line in NEW.splitlines())
    assert read_log(log(tmp_path, tagged)).rows == read_log(log(tmp_path, NEW)).rows


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("all_reduce_perf", "broadcast_perf", "line 2: broadcast_perf measures another"),
        ("node1 device  1", "node2 device  1", "2 hosts; a table holds all-reduces of one node"),
        ("#  Rank  1", "#  Rnk  1", "line 12: 1 '#  Rank' lines before it"),
        ("#       size", "#       sz", "line 12: numbers before the line that names"),
        (
            "      half     sum      -1    10.26",
            "      dble     sum  -1 10.26",
            "unknown type 'dble'",
        ),
        ("half     sum      -1    10.26", "half     max      -1    10.26", "redop: 'max', not sum"),
        ("10.26", "ten", "line 13: column time: 'ten' is not a number"),
        ("10.26", "nan", "line 13: column time: 'nan' is not a number"),
        ("10.26", "0.00", "line 13: column time: 0.00 is not above zero"),
        ("  123.40", "", "line 14: 12 values for 13 columns"),
        (
            "# Out of bounds",
            "node1: Test NCCL failure common.cu:1000 '#",
            "line 15: the test failed",
        ),
    ],
)
def test_anything_odd_is_one_line_with_its_line(tmp_path, old, new, complaint):
    assert old in NEW
    with pytest.raises(InputError, match=complaint) as caught:
        read_log(log(tmp_path, NEW.replace(old, new, 1)))
    assert "\n" not in str(caught.value)


def test_a_text_that_is_no_log_is_refused(tmp_path):
    with pytest.raises(InputError, match="no all-reduce rows"):
        read_log(log(tmp_path, "hello\n"))


def test_the_command_writes_a_table_that_calibrate_reads(tmp_path, capsys):
    path = tmp_path / "table.csv"
    with pytest.raises(SystemExit) as stopped:
        main(["import", "nccl-tests", str(log(tmp_path, NEW)), "--hw", "mine", "-o", str(path)])
    assert stopped.value.code == 0
    assert "2 rows, 2 ranks" in " ".join(capsys.readouterr().out.split())
    table = read_table(path)
    (rows,) = table.of("all_reduce")
    assert rows.latency_s == pytest.approx([10.26e-6, 123.4e-6])
    assert (table.machines, table.sources_of("all_reduce")) == (("mine",), ("nccl-tests 2.27.3",))
