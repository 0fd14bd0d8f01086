"""Scores: zero where the table is the model's own, and the planted error where it is not."""

from pathlib import Path

import numpy as np
import pytest

from isotune.simulator.machine import HardwareProfile
from isotune.validation.check import check_runs, check_table
from isotune.validation.tables import kernel_seconds, read_runs, read_table

SERIAL = "h100,llama-3-8b,8,8,1024,prefill,1,nvlink_nccl,vllm_eager,serial,me"
CASE = [SERIAL, *(SERIAL.replace("serial", name) for name in ("spd_all", "no_comm", "ladder"))]


def gemms(tmp_path: Path, profile: HardwareProfile, off: float = 1.0) -> Path:
    """A table of products that take `off` times what the profile predicts."""
    path = tmp_path / "table.csv"
    sizes = [(m, n, 4096) for m in (1, 64, 512, 4096, 16384) for n in (1024, 14336)]
    lines = ["op,hw,dtype,m,n,k,bytes,ranks,algorithm,latency_us"]
    lines += [f"gemm,h100,bf16,{m},{n},{k},,,,1" for m, n, k in sizes]
    path.write_text("\n".join(lines))
    seconds = kernel_seconds(read_table(path).groups[0], profile) * off * 1e6
    rows = zip(sizes, seconds, strict=True)
    lines[1:] = [f"gemm,h100,bf16,{m},{n},{k},,,,{us:.9g}" for (m, n, k), us in rows]
    lines.append("all_reduce,h100,bf16,,,,1048576,8,carrier_pigeon,50")
    path.write_text("\n".join(lines))
    return path


def test_a_table_of_the_profiles_own_predictions_scores_zero(
    tmp_path: Path, h100: HardwareProfile
) -> None:
    done = check_table(read_table(gemms(tmp_path, h100)), h100)
    (part,) = done.ops
    assert (part.name, part.score.rows, part.coverage) == ("gemm", 10, 1.0)
    assert part.score.mape < 1e-6


def test_measurements_a_quarter_slower_are_a_bias_of_minus_a_fifth(
    tmp_path: Path, h100: HardwareProfile
) -> None:
    done = check_table(read_table(gemms(tmp_path, h100, 1.25)), h100)
    (part,) = done.ops
    assert part.score.bias == pytest.approx(-0.2, abs=1e-6)
    assert part.coverage == 0.0, "far outside of the interval"
    assert all(row.ratio == pytest.approx(0.8, abs=1e-6) for row in part.worst(3))


def test_rows_are_scored_by_size_and_each_row_once_per_kind(
    tmp_path: Path, h100: HardwareProfile
) -> None:
    (part,) = check_table(read_table(gemms(tmp_path, h100)), h100).ops
    groups = part.groups()
    labels = [label for kind, label in groups if kind == "m"]
    assert labels == ["<= 16", "<= 128", "<= 1024", "<= 8192", "> 8192"]
    for kind in ("m", "operands", "dtype"):
        assert sum(found.rows for (of, _), found in groups.items() if of == kind) == 10


def test_rows_that_cannot_be_scored_are_counted_with_the_reason(
    tmp_path: Path, h100: HardwareProfile
) -> None:
    done = check_table(read_table(gemms(tmp_path, h100)), h100)
    ((reason, count),) = done.unscored.items()
    assert count == 1
    assert "carrier_pigeon" in reason


def test_held_back_is_the_fifth_that_calibrate_keeps_from_the_fit(
    tmp_path: Path, h100: HardwareProfile
) -> None:
    rows = "\n".join(f"gemm,{m},4096,4096,{10 + m}" for m in range(1, 51))
    path = tmp_path / "many.csv"
    path.write_text("op,m,n,k,latency_us\n" + rows)
    (part,) = check_table(read_table(path), h100, held_back=True).ops
    assert part.score.rows == 10


def test_a_saving_is_compared_with_the_serial_run_of_its_case(run_table, h100) -> None:
    path = run_table(*CASE)
    exact = check_runs("t", read_runs(path), h100).end_to_end
    assert exact.score.mape < 1e-9
    assert exact.saving_mae_points == pytest.approx(0.0, abs=1e-6)
    assert (exact.coverage, exact.saving_coverage) == (1.0, 1.0)


def test_a_serial_run_measured_a_tenth_slower_makes_every_saving_larger(run_table, h100) -> None:
    path = run_table(*CASE, factor={"serial": 1.1})
    found = check_runs("t", read_runs(path), h100).end_to_end
    kept = [1.0 - row.saving.predicted for row in found.rows if row.saving]
    # The measured pass keeps its time, the measured baseline grew: (1 - s) shrinks by 1 / 1.1.
    expected = 100 * np.mean([share * (1 - 1 / 1.1) for share in kept])
    assert found.saving_mae_points == pytest.approx(expected)


def test_runs_without_a_serial_run_have_no_saving(run_table, h100) -> None:
    found = check_runs("t", read_runs(run_table(*CASE[1:])), h100).end_to_end
    assert found.saving_mae_points is None
    assert found.saving_coverage is None


def test_runs_of_unknown_models_are_counted_and_the_others_scored(run_table, h100) -> None:
    path = run_table(*CASE)
    runs = read_runs(path)
    path.write_text(path.read_text() + path.read_text().splitlines()[1].replace("3-8b", "9-8b"))
    done = check_runs("t", read_runs(path), h100)
    assert done.end_to_end.score.rows == len(runs)
    assert done.unscored == {"model 'llama-9-8b' is not bundled": 1}
