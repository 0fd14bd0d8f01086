"""A sweep's rows are predictions, and an interrupted sweep goes on where it stopped."""

import csv
import json

import numpy as np
import pytest
from pydantic import ValidationError

from isotune import hw_profiles
from isotune.simulator.architecture import load_model
from isotune.simulator.errors import InputError
from isotune.simulator.machine import read_profile
from isotune.simulator.predict import Scenario, predict
from isotune.simulator.schedule import Plan, Workload
from isotune.tuner.sweep import Grid, sweep
from isotune.tuner.sweep.design_space import Part, _compute, _folder, rows_of

GRID = Grid(
    hardware=("a800", "rtx4090"),
    model=("llama-2-7b",),
    tp=(3, 4),
    batch=(1, 3),
    prompt=(64, 600, 2000),
    phase=("prefill", "decode"),
    strategy=("serial", "gemm_overlap", "request_overlap", "iso", "spd", "iso_spd"),
)
ONE = Grid(hardware=("a800",), model=("llama-2-7b",), tp=(4,), strategy=("iso",))


def plan_of(row):
    tokens = int(row["prompt"]) if row["phase"] == "prefill" else 1
    dropped = tuple(range(32 - round(0.7 * 32), 32)) if "spd" in row["strategy"] else ()
    match row["strategy"]:
        case "serial" | "spd":
            return Plan(dropped=dropped)
        case "request_overlap":
            return Plan(strategy="request_overlap", chunks=(2, 1)) if row["batch"] == 3 else None
        case "iso" | "iso_spd":
            first = {64: 32, 600: 256, 2000: 1024, 1: 0}[tokens]
            chunks = (first, tokens - first)
            return Plan(strategy="iso", chunks=chunks, dropped=dropped) if first else None


def test_every_row_is_the_prediction_of_its_plan():
    columns = rows_of(GRID, Part("a800", "llama-2-7b", 4, "bf16"))
    rows = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    assert len(rows) == 2 * 2 * 3 * 6
    for row in rows:
        batch, prompt = int(row["batch"]), int(row["prompt"])
        workload = Workload(phase=row["phase"], batch=batch, prompt=prompt, tp=4)
        scenario = Scenario(
            model=load_model("llama-2-7b"), hardware=read_profile("a800"), workload=workload
        )
        if row["strategy"] == "gemm_overlap":
            continue
        plan = plan_of(row)
        if plan is None:
            assert np.isnan(row["latency_s"])
            continue
        expected = predict(scenario, plan)
        assert row["latency_s"] == pytest.approx(expected.latency_s, rel=1e-9)
        assert row["saving"] == pytest.approx(expected.saving, abs=1e-9)
        assert row["memory_bytes"] == pytest.approx(expected.memory.needed, rel=1e-12)
        assert row["fits"]


def test_a_sweep_writes_all_rows_and_counts_what_is_impossible(tmp_path):
    result = sweep(GRID, tmp_path / "all.csv", jobs=1)
    with (tmp_path / "all.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert result.rows == len(rows) == 2 * 2 * 2 * 3 * 6
    assert sum(result.skipped.values()) == GRID.rows - result.rows
    assert all("tp: 3" in why for why in result.skipped)
    assert list(tmp_path.iterdir()) == [tmp_path / "all.csv"]


def test_rows_of_a_quantised_checkpoint_name_its_weights(tmp_path):
    config = {
        "model_type": "llama",
        "hidden_size": 1024,
        "num_hidden_layers": 2,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "intermediate_size": 2048,
        "vocab_size": 32000,
        "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    grid = Grid(hardware=("h100",), model=(str(tmp_path),), tp=(4,), weight_dtype=("bf16", "int4"))
    rows = [rows_of(grid, Part("h100", str(tmp_path), 4, name)) for name in grid.weight_dtype]
    assert [set(row["weight_dtype"]) for row in rows] == [{"fp8_block"}, {"int4"}]


def test_an_interrupted_sweep_takes_over_what_is_done(tmp_path):
    output = tmp_path / "all.csv"
    with _folder(GRID, output) as folder:
        part = folder / "000000.npz"
        _compute(GRID, Part("a800", "llama-2-7b", 4, "bf16"), part)
    with np.load(part) as columns:
        changed = dict(columns) | {"hardware": np.full_like(columns["hardware"], "kept")}
    np.savez(part, **changed)
    result = sweep(GRID, output, jobs=1)
    assert result.resumed == 1
    assert output.read_text().count("kept") == len(changed["hardware"])


def test_parquet_has_the_same_rows_as_csv(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    grid = GRID.model_copy(update={"tp": (4,), "strategy": ("serial", "iso")})
    for name in ("all.parquet", "all.csv"):
        sweep(grid, tmp_path / name, jobs=1)
    table = parquet.read_table(tmp_path / "all.parquet").to_pylist()
    with (tmp_path / "all.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(table) == len(rows)
    for one, other in zip(table, rows, strict=True):
        assert one["hardware"] == other["hardware"]
        assert one["latency_s"] == (float(other["latency_s"]) if other["latency_s"] else None)


def killed(grid, output):
    """An unfinished sweep, whose first part is marked."""
    with _folder(grid, output) as folder:
        part = folder / "000000.npz"
        _compute(grid, Part(grid.hardware[0], grid.model[0], grid.tp[0], "bf16"), part)
    with np.load(part) as columns:
        np.savez(part, **dict(columns) | {"hardware": np.full_like(columns["hardware"], "old")})
    return folder


def test_another_grid_does_not_mix_with_an_unfinished_one(tmp_path):
    output = tmp_path / "all.csv"
    folder = killed(ONE, output)
    (tmp_path / f"{folder.name}.x.gone").mkdir()  # killed while it was removed
    result = sweep(ONE.model_copy(update={"batch": (2,)}), output, jobs=1)
    assert result.resumed == 0
    assert "old" not in output.read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["all.csv"]


def test_a_profile_that_changed_gives_new_rows(tmp_path):
    text = (hw_profiles.FOLDER / "a800.yaml").read_text()
    profile = tmp_path / "mine.yaml"
    profile.write_text(text)
    grid = ONE.model_copy(update={"hardware": (str(profile),)})
    killed(grid, tmp_path / "all.csv")
    profile.write_text(text.replace("sustained_clock: 0.869", "sustained_clock: 0.9"))
    result = sweep(grid, tmp_path / "all.csv", jobs=1)
    assert result.resumed == 0
    assert "old" not in (tmp_path / "all.csv").read_text()


def test_a_second_sweep_into_one_output_is_refused_while_the_first_runs(tmp_path):
    output = tmp_path / "all.csv"
    with _folder(ONE, output), pytest.raises(InputError, match="another sweep is writing it"):
        sweep(ONE, output, jobs=1)
    assert sweep(ONE, output, jobs=1).rows == 1


@pytest.mark.parametrize(
    "axes",
    [
        {"tp": ()},
        {"strategy": ()},
        {"tp": (2000,)},
        {"batch": (2**64,)},
        {"prompt": tuple(range(1, 100_001)), "batch": tuple(range(1, 10_001))},
    ],
)
def test_an_axis_that_is_empty_or_beyond_any_machine_is_refused(axes):
    with pytest.raises(ValidationError):
        Grid.model_validate(ONE.model_dump() | axes)


def test_a_table_of_an_unknown_kind_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"allowed: \.parquet, \.csv"):
        sweep(GRID, tmp_path / "all.xlsx")
