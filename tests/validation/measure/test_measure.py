"""`isotune measure` writes the table that calibrate reads."""

import csv
import json
import math
from dataclasses import replace

import pytest
import torch
from _support.tiny_models import write_config

from isotune.cli import main
from isotune.simulator.architecture import read_model
from isotune.simulator.errors import InputError
from isotune.validation.choices import COLLECTIVES
from isotune.validation.measure import Measurements, Range
from isotune.validation.measure.cases import Case, cases, token_counts
from isotune.validation.measure.measure_job import Row, merged

COLUMNS = (
    "op,hw,dtype,m,n,k,batch,q_len,kv_len,heads,kv_heads,head_dim,tokens,hidden,bytes,ranks,"
    "algorithm,latency_us,source"
)
SIZES = {
    "gemm": {"m", "n", "k"},
    "attention": {"batch", "q_len", "kv_len", "heads", "kv_heads", "head_dim"},
    "rms_norm": {"tokens", "hidden"},
    **{kind: {"bytes", "ranks", "algorithm"} for kind in COLLECTIVES},
}


def test_every_row_has_the_sizes_of_its_op_and_a_latency(tmp_path, capsys):
    folder, table = write_config(tmp_path / "tiny", "llama"), tmp_path / "table.csv"
    arguments = ["measure", "-o", table, "--name", "here", "--model", folder, "--nproc", "2"]
    small = ["--tokens", "96", "--device", "cpu", "--seconds", "0.005", "--json"]
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments + small])
    assert not stop.value.code
    assert table.read_text().splitlines()[0] == COLUMNS
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert {row["op"] for row in rows} == set(SIZES)
    beside = tmp_path / "table-contention.csv"
    told = json.loads(capsys.readouterr().out)
    assert told["rows"] == {str(table): len(rows), str(beside): 5}
    assert told["failure"] is None
    assert told["machine"]["torch"] == torch.__version__
    for row in rows:
        assert {name for name in set().union(*SIZES.values()) if row[name]} == SIZES[row["op"]]
        assert (row["hw"], row["dtype"]) == ("here", "bf16")
        assert float(row["latency_us"]) > 0
        assert "torch" in row["source"]
    with beside.open() as file:
        contended = list(csv.DictReader(file))
    assert [row["op"] for row in contended] == ["gemm"] * 4 + ["attention"]
    for row in contended:
        for name in ("alone_us", "beside_us", "all_reduce_alone_us", "all_reduce_beside_us"):
            assert float(row[name]) > 0
        assert math.isfinite(float(row["skew_us"]))


@pytest.mark.parametrize(("failure", "code"), [("interrupted", 130), ("rank 1 died", 1)])
def test_a_run_that_measured_nothing_leaves_an_earlier_table_alone(
    tmp_path, capsys, monkeypatch, failure, code
):
    monkeypatch.setattr(
        "isotune.validation.measure.measure",
        lambda *_, **__: Measurements(rows=[], failure=failure),
    )
    table = tmp_path / "table.csv"
    table.write_text("an earlier table\n")
    with pytest.raises(SystemExit) as stop:
        main(["measure", "-o", str(table), "--device", "cpu"])
    assert stop.value.code == code
    assert table.read_text() == "an earlier table\n"
    assert capsys.readouterr() == ("", f"isotune: {failure}\n")


def test_what_was_measured_is_printed_where_it_cannot_be_written(tmp_path, capsys, monkeypatch):
    row, kept = Row(Case("rms_norm", {"tokens": 64, "hidden": 64}), 1e-5), []

    def measured(*_, keep, **__):
        keep(Measurements(rows=[row]))
        return Measurements(rows=[row])

    def full(path, _):
        kept.append(path)
        raise InputError(f"{path}: cannot write it (No space left on device)")

    monkeypatch.setattr("isotune.validation.measure.measure", measured)
    monkeypatch.setattr("isotune.commands.measurements.measure.write_text", full)
    with pytest.raises(SystemExit) as stop:
        main(["measure", "-o", str(tmp_path / "t.csv"), "--device", "cpu"])
    out, err = capsys.readouterr()
    assert stop.value.code == 2
    assert "No space left" in err
    assert "rms_norm,this,bf16" in out
    assert len(kept) == 2, "rows are written as they come, and at the end"


def test_a_row_is_the_median_of_its_visits():
    slow, case = Case("rms_norm", {"tokens": 64, "hidden": 64}), Case("gemm", {"m": 1})
    visits = [Row(slow, 1.0), Row(case, 5.0), Row(slow, 9.0), Row(slow, 2.0, skew_s=0.3)]
    assert merged(visits) == [Row(slow, 2.0), Row(case, 5.0)]


def test_shapes_are_those_of_the_models_shards(tmp_path):
    model = read_model(write_config(tmp_path, "llama"))
    wanted = Range(model=model, tp=2, tokens=128, ranks=2)
    found = cases(wanted)
    gemms = {(c.sizes["n"], c.sizes["k"]) for c in found if c.op == "gemm"}
    # qkv of 4 + 2 + 2 heads of 8, its output, gate and up of 48 each, down.
    assert gemms == {(64, 64), (64, 32), (96, 64), (64, 48)}
    assert max(c.sizes["bytes"] for c in found if c.op == "all_reduce") == 128 * 64 * 2
    alone = cases(Range(model=model, tp=2, tokens=128, ranks=1))
    assert {c.op for c in alone} == {"gemm", "attention", "rms_norm"}
    assert token_counts(replace(wanted, tokens=256)) == [1, 16, 32, 64, 96, 128, 192, 256]
    assert token_counts(replace(wanted, least=64)) == [64, 96, 128]
    kernels = cases(replace(wanted, least=64, ops=("attention",)))
    assert {c.sizes["q_len"] for c in kernels} == {64, 96, 128}


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--ops", "gemm,sort"], ["--ops", "sort", "all_reduce"]),
        (["--ops", "all_reduce", "--device", "cpu"], ["all_reduce", "--nproc 2 or more"]),
        (["--dtype", "fp64"], ["--dtype", "bf16, fp16"]),
        (["--device", "tpu"], ["--device", "cpu, cuda"]),
        (["--tokens", "many"], ["--tokens", "'many'"]),
        (["--model", "llama-9"], ["llama-9"]),
        (["--nproc", "3"], ["tp: 3", "llama-2-7b"]),
    ],
)
def test_bad_input_is_refused_in_one_line(tmp_path, capsys, arguments, parts):
    with pytest.raises(SystemExit) as stop:
        main(["measure", "-o", str(tmp_path / "t.csv"), *arguments])
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    for part in parts:
        assert part in err
