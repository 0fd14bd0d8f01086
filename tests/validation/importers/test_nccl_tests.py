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
        ("all_reduce_perf", "broadcast_perf", "no all-reduce rows .it holds broadcast_perf."),
        ("      0     9.75", "      7     9.75", "line 13: column #wrong: 7 wrong values"),
        ("values : 0 OK", "values : 2 FAILED", "line 15: the test failed"),
        ("8.50    8.50", "8.50    4.25", "line 14: busbw is 0.50 of algbw, which is not an all"),
        ("Rank  1", "Rank  0", "line 7: rank 0 a second time"),
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


RUN = """\
{command}
# nThread 1 nGpus {ranks} minBytes 8 maxBytes 128 step: 2(factor) warmup iters: 5 iters: 20
# Using devices
{devices}
#       size         count      type   redop    root     time   algbw   busbw #wrong     time   algbw   busbw #wrong
   {size}        262144     float     sum      -1   {time}    0.10    0.18      0    95.00    0.10    0.18      0
# Out of bounds values : 0 OK
"""


def run(ranks, time, command="./all_reduce_perf -g 2", size=1048576):
    devices = "\n".join(
        f"#  Rank {rank:2d} Group  0 Pid   7 on  node1 device {rank:2d} [0x16] GPU"
        for rank in range(ranks)
    )
    return RUN.format(command=command, ranks=ranks, devices=devices, size=size, time=time)


def test_each_run_of_a_file_has_its_own_ranks(tmp_path):
    read = read_log(log(tmp_path, run(2, 60.5) + run(4, 80.5) + run(8, 99.5)))
    assert [(r.ranks, r.latency_us) for r in read.rows] == [(2, 60.5), (4, 80.5), (8, 99.5)]


def test_other_collectives_of_a_file_are_left_out_and_named(tmp_path):
    old = (
        run(2, 16.5, "./all_gather_perf -g 2")
        .replace("redop    root", "")
        .replace("sum      -1", "")
    )
    text = run(2, 60.5) + run(2, 30.5, "mpirun -np 2 ./build/reduce_scatter_perf") + old
    read = read_log(log(tmp_path, text))
    assert [r.latency_us for r in read.rows] == [60.5]
    assert read.left_out == {"reduce_scatter_perf": 1, "all_gather_perf": 1}


def test_a_setting_that_a_command_forces_is_told(tmp_path, capsys):
    forced = run(2, 60.5, "NCCL_ALGO=RING ./all_reduce_perf") + run(
        2, 50.5, "NCCL_ALGO=TREE ./all_reduce_perf"
    )
    path = tmp_path / "table.csv"
    with pytest.raises(SystemExit):
        main(["import", "nccl-tests", str(log(tmp_path, forced)), "-o", str(path)])
    assert "NCCL_ALGO=RING, NCCL_ALGO=TREE: not what NCCL would choose" in capsys.readouterr().out
    assert read_table(path).sources_of("all_reduce") == (
        "nccl-tests NCCL_ALGO=RING NCCL_ALGO=TREE",
    )


@pytest.mark.parametrize(
    "prefix",
    [
        "[0] ",
        "3: ",
        "2025-03-14T10:00:00.123Z ",
        "[pod/nccl/worker] 2025-03-14T10:00:00Z ",
        "[1,0]<stderr>:",
        "\x1b[32m",
    ],
)
def test_what_launchers_and_terminals_put_before_a_line_is_passed_over(tmp_path, prefix):
    tagged = "".join(f"{prefix}{line}\n" for line in NEW.splitlines())
    assert read_log(log(tmp_path, tagged)).rows == read_log(log(tmp_path, NEW)).rows


@pytest.mark.parametrize(
    "noise",
    [
        "8 more processes have sent help message help-mtl-ofi.txt / OFI call fail",
        "10.0.0.5:77:90 [3] NCCL INFO comm 0x7f rank 3 nranks 8 cudaDev 3 - Init COMPLETE",
        "node1:77:90 [0] NCCL INFO Connected all rings",
        "WARNING: Open MPI accepted a TCP connection",
    ],
)
def test_lines_of_other_programs_between_the_rows_are_passed_over(tmp_path, noise):
    rows = NEW.splitlines(keepends=True)
    mixed = "".join([*rows[:12], noise + "\n", *rows[12:13], noise + "\n", *rows[13:]])
    assert read_log(log(tmp_path, mixed)).rows[0].latency_us == 10.26
    assert len(read_log(log(tmp_path, mixed)).rows) == 2


def test_ranks_are_said_where_the_log_has_lost_them(tmp_path):
    lost = "".join(line for line in NEW.splitlines(keepends=True) if "Rank" not in line)
    with pytest.raises(InputError, match=r"0 '#  Rank' lines before it.*or --ranks"):
        read_log(log(tmp_path, lost))
    assert {row.ranks for row in read_log(log(tmp_path, lost), ranks=2).rows} == {2}
    with pytest.raises(InputError, match="not an all-reduce of 8 ranks"):
        read_log(log(tmp_path, lost), ranks=8)
    with pytest.raises(InputError, match="--ranks is 4, but the run has 2 ranks"):
        read_log(log(tmp_path, NEW), ranks=4)


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
