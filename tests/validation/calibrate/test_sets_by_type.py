"""Rows of a number type estimate that type's set of kernel parameters and nothing else."""

from itertools import product

import numpy as np
import pytest

from isotune.cli import main
from isotune.simulator.kernels import gemm_cost
from isotune.simulator.machine import read_profile
from isotune.validation.calibrate import calibrate
from isotune.validation.tables import read_table

BASE = read_profile("rtx4090")
FP8 = BASE.gemm.model_copy(update={"launch": 9e-6, "tensor_efficiency": 0.5})
SIZES = list(product((1, 16, 256, 2048, 8192), (1024, 4096, 8192), (2048, 8192)))


def rows(path, dtypes, parameters):
    lines = ["op,dtype,m,n,k,latency_us"]
    for dtype, (m, n, k) in product(dtypes, SIZES):
        chosen = parameters if dtype == "fp8" else BASE.gemm
        cost = gemm_cost(m, n, k, gpu=BASE.gpu, parameters=chosen, dtype=dtype, warm_l2=True)
        lines.append(f"gemm,{dtype},{m},{n},{k},{float(cost.seconds) * 1e6!r}")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    table = read_table(rows(tmp_path_factory.mktemp("fp8") / "fp8.csv", ["fp8"], FP8))
    return calibrate([table], BASE, name="mine", date="2026-01-02")


def test_the_set_finds_what_its_rows_determine(done):
    found = done.profile.gemm.of("fp8")
    assert found.parameters.launch == pytest.approx(9e-6, rel=0.05)
    assert found.parameters.tensor_efficiency == pytest.approx(0.5, rel=0.1)
    assert found.error is not None
    assert found.error < 0.05


def test_the_default_set_and_what_it_says_of_itself_stay(done):
    before, after = BASE.gemm, done.profile.gemm
    assert after.model_copy(update={"sets": {}}) == before.model_copy(update={"sets": {}})
    assert done.profile.errors == BASE.errors
    assert done.profile.source_of("gemm") == BASE.source_of("gemm")
    assert done.profile.calibration.tables == (*BASE.calibration.tables, "fp8.csv")


def test_the_set_states_only_what_was_determined_and_has_its_own_record(done):
    determined = {p.path.rpartition(".")[2] for p in done.sections[0].parameters if p.determined}
    stated = done.profile.gemm.sets["fp8"].stated
    assert set(stated) == determined
    assert not [name for name in stated if name.startswith("l2_")]
    assert "fitted to 15 rows of fp8.csv" in done.profile.source_of("gemm.sets.fp8")
    assert done.profile.calibration.errors["gemm.fp8"].held_back == 15


def test_rows_of_two_types_fit_two_sets(tmp_path):
    table = read_table(rows(tmp_path / "both.csv", ["bf16", "fp8"], FP8))
    done = calibrate([table], BASE, name="mine", date="2026-01-02")
    assert [section.key for section in done.sections] == ["gemm", "gemm.sets.fp8"]
    assert np.isclose(done.profile.gemm.launch, BASE.gemm.launch, rtol=0.05)


def test_the_command_shows_and_writes_the_set(tmp_path, capsys):
    table, output = rows(tmp_path / "fp8.csv", ["fp8"], FP8), tmp_path / "mine.yaml"
    for arguments in (
        ["calibrate", table, "--base", "rtx4090", "--date", "2026-01-02", "-o", output],
        ["check", table, "--hw", output],
        ["hw", "diff", "rtx4090", output],
    ):
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert "gemm.sets.fp8.launch" in shown
    assert "mine is off on rows held back from its fit: gemm.sets.fp8" in shown
