"""Calibration: it finds what the rows determine, and leaves the rest alone."""

import json
from itertools import product

import numpy as np
import pytest

from isotune.cli import main
from isotune.simulator.errors import InputError
from isotune.simulator.machine import read_profile, write_profile
from isotune.validation.calibrate import calibrate
from isotune.validation.calibrate.calibration import standard_error
from isotune.validation.calibrate.estimate import put
from isotune.validation.calibrate.holdout import op_error
from isotune.validation.tables import kernel_seconds, read_table

BASE = put(
    read_profile("a100"),
    {
        "gemm.launch": 3.5e-6,
        "gemm.tensor_efficiency": 0.95,
        "gemm.sm_feed": 6e10,
        "gemm.quantisation": 0.9,
        "gemm.prologue": 5e-7,
        "gemm.epilogue": 1.5e-6,
        "gemm.step": 1e-8,
        "gemm.split_k": 2.5e-6,
        "gemm.memory_efficiency": 0.8,
        "gemm.memory_latency": 1e-6,
        "gemm.l2_bandwidth": 4e12,
        "gemm.l2_residency": 0.3,
        "gemm.l2_reuse": 0.5,
        "gemm.block": 800.0,
        "gemm.sharpness": 3.0,
    },
)
TRUTH = put(
    BASE,
    {
        "gemm.launch": 5.2e-6,
        "gemm.memory_efficiency": 0.66,
        "gemm.tensor_efficiency": 0.74,
        "attention.decode.bandwidth_efficiency": 0.62,
        "attention.decode.launch": 6e-6,
        "elementwise.launch": 2.5e-6,
        "collectives.algorithms.nccl.protocols.2.bandwidth": 1.4e11,
        "collectives.algorithms.nccl.protocols.2.bandwidth_many": 1.6e11,
    },
)
GEMM = [
    ("gemm", {"m": m, "n": n, "k": k})
    for m, (n, k) in product(
        (1, 8, 64, 256, 1024, 2048, 8192), ((4096, 4096), (8192, 8192), (28672, 8192), (1024, 8192))
    )
]
DECODE = [
    (
        "attention",
        {"batch": b, "q_len": 1, "kv_len": kv, "heads": 32, "kv_heads": 8, "head_dim": 128},
    )
    for b, kv in product((1, 8, 32, 128), (128, 1024, 4096, 16384))
]
REDUCE = [("all_reduce", {"bytes": 2**p, "ranks": n}) for p, n in product(range(12, 29), (2, 4, 8))]
SIZES = (
    "m",
    "n",
    "k",
    "batch",
    "q_len",
    "kv_len",
    "heads",
    "kv_heads",
    "head_dim",
    "bytes",
    "ranks",
)


def table(tmp_path, cases, *, noise=0.0, seed=1, unit="us", order=None, name="table.csv"):
    """A table of what `TRUTH` takes for the cases, with log-normal noise."""
    path = tmp_path / name

    def write(latencies):
        lines = [
            ",".join([op, *(str(sizes.get(column, "")) for column in SIZES), repr(float(latency))])
            for (op, sizes), latency in zip(cases, latencies, strict=True)
        ]
        lines = [lines[i] for i in order] if order is not None else lines
        path.write_text("\n".join([",".join(["op", *SIZES, f"latency_{unit}"]), *lines]) + "\n")

    write(np.ones(len(cases)))
    exact = np.empty(len(cases))
    saved, order = order, None
    write(np.ones(len(cases)))
    for rows in read_table(path).groups:
        exact[rows.line.astype(int) - 2] = kernel_seconds(rows, TRUTH)
    order = saved
    off = np.exp(np.random.default_rng(seed).normal(0, noise, len(cases))) if noise else 1.0
    write(exact * off * {"us": 1e6, "ms": 1e3, "s": 1.0}[unit])
    return read_table(path)


def fitted(*tables, **options):
    return calibrate(tables, BASE, name="mine", date="2026-01-02", **options)


def found(done):
    return {p.path: p for section in done.sections for p in section.parameters}


def test_known_parameters_are_recovered_from_noisy_rows(tmp_path):
    done = fitted(table(tmp_path, GEMM + DECODE + REDUCE, noise=0.02))
    gemm, decode = done.profile.gemm, done.profile.attention.decode
    assert gemm.launch == pytest.approx(5.2e-6, rel=0.1)
    assert gemm.memory_efficiency == pytest.approx(0.66, rel=0.05)
    assert gemm.tensor_efficiency == pytest.approx(0.74, rel=0.05)
    assert decode.bandwidth_efficiency == pytest.approx(0.62, rel=0.05)
    simple = done.profile.collectives.algorithms["nccl"].protocols[2]
    assert simple.bandwidth == pytest.approx(1.4e11, rel=0.05)
    assert simple.bandwidth_many == pytest.approx(1.6e11, rel=0.05)
    for section in done.sections:
        assert section.error.held_back > 0
        assert section.error.mape < section.before.mape / 2


def test_a_few_wild_rows_do_not_drag_the_fit(tmp_path):
    calm = table(tmp_path, GEMM)
    wild = table(tmp_path, GEMM, name="wild.csv")
    wild.groups[0].latency_s[[3, 11]] *= 8
    assert fitted(wild).profile.gemm.memory_efficiency == pytest.approx(
        fitted(calm).profile.gemm.memory_efficiency, rel=0.05
    )


def test_row_order_and_units_change_nothing(tmp_path):
    cases = GEMM + REDUCE
    turned = np.random.default_rng(3).permutation(len(cases))
    plain = fitted(table(tmp_path, cases, noise=0.03))
    for other in (
        fitted(table(tmp_path, cases, noise=0.03, order=turned)),
        fitted(table(tmp_path, cases, noise=0.03, unit="ms")),
    ):
        assert other.profile == plain.profile


def test_twenty_rows_move_only_what_they_determine(tmp_path):
    twenty = [("gemm", {"m": 1 + i % 4, "n": 8192, "k": 4096 + 1024 * (i // 4)}) for i in range(20)]
    done = fitted(table(tmp_path, twenty, noise=0.01))
    assert done.profile.gemm.memory_efficiency == pytest.approx(0.66, rel=0.1)
    parameters = found(done)
    for path in ("gemm.tensor_efficiency", "gemm.quantisation", "gemm.sm_feed", "gemm.block"):
        assert path in done.undetermined
        assert parameters[path].value == parameters[path].base
    assert done.profile.attention == BASE.attention
    assert done.profile.collectives == BASE.collectives
    assert done.profile.source_of("attention") == BASE.source_of("attention")
    assert "kept from a100" in done.profile.source_of("gemm.quantisation")
    assert "table.csv" in done.profile.source_of("gemm.memory_efficiency")


def test_one_rank_count_does_not_pretend_to_know_the_others(tmp_path):
    rows = [case for case in REDUCE if case[1]["ranks"] == 8]
    parameters = found(fitted(table(tmp_path, rows)))
    line = "collectives.algorithms.nccl.protocols.2."
    assert parameters[line + "bandwidth_many"].determined
    assert not parameters[line + "bandwidth"].determined


def test_rows_of_two_machines_are_no_table_of_one(tmp_path):
    text = "op,hw,m,n,k,latency_us\ngemm,a100,1,64,64,5\ngemm,h100,1,64,64,4\n"
    (tmp_path / "both.csv").write_text(text)
    with pytest.raises(InputError, match=r"both.csv: column hw: rows of several .*a100, h100"):
        fitted(read_table(tmp_path / "both.csv"))


def test_the_record_says_rows_date_base_and_error(tmp_path):
    record = fitted(table(tmp_path, GEMM, noise=0.02)).profile.calibration
    assert record is not None
    assert (record.base, record.date, record.tables) == ("a100", "2026-01-02", ("table.csv",))
    assert record.errors["gemm"].rows + record.errors["gemm"].held_back == len(GEMM)


def test_a_relatives_gemms_help_but_are_not_scored(tmp_path):
    few = [case for case in GEMM if case[1]["n"] == 4096]
    own = table(tmp_path, few)
    alone, helped = fitted(own), fitted(own, relatives=[table(tmp_path, GEMM, name="other.csv")])
    assert (
        helped.profile.calibration.errors["gemm"].held_back
        == alone.profile.calibration.errors["gemm"].held_back
    )
    assert "other.csv" in helped.profile.source_of("gemm.launch")


def test_the_written_profile_reads_back_the_same(tmp_path):
    profile = fitted(table(tmp_path, GEMM)).profile
    write_profile(profile, tmp_path / "mine.yaml", "A line.\nAnother.")
    assert (tmp_path / "mine.yaml").read_text().startswith("# A line.\n# Another.\nname: mine\n")
    assert read_profile(str(tmp_path / "mine.yaml")) == profile


@pytest.mark.parametrize(
    ("cases", "own", "inherited"),
    [(REDUCE, "collectives", "kernels of a100"), (GEMM, "gemm", "attention and collectives")],
)
def test_measuring_part_of_a_derived_machine_keeps_the_rest_inherited(
    tmp_path, cases, own, inherited
):
    rows = table(tmp_path, cases, noise=0.02)
    done = calibrate([rows], read_profile("a100-pcie"), name="mine", date="2026-01-02")
    write_profile(done.profile, tmp_path / "mine.yaml", "Mine.")
    mine = read_profile(str(tmp_path / "mine.yaml"))
    assert mine == done.profile
    assert not mine.inherits(own)
    text = " ".join(mine.cautions())
    for part in inherited.split(" and "):
        assert part in text


def test_measuring_kernels_and_collectives_ends_the_derivation(tmp_path):
    rows = table(tmp_path, GEMM + DECODE + REDUCE, noise=0.02)
    base = read_profile("a100-pcie")
    mine = calibrate([rows], base, name="mine", date="2026-01-02").profile
    assert (mine.derived_from, mine.derived_error_factor) == (None, 1)


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return stopped.value.code, *capsys.readouterr()


def test_the_command_writes_a_profile_and_says_what_was_left_open(tmp_path, capsys):
    table(tmp_path, GEMM, noise=0.02)
    output = tmp_path / "my-node.yaml"
    arguments = ("calibrate", tmp_path / "table.csv", "--base", "a100", "--date", "2026-01-02")
    code, out, _ = run(capsys, *arguments, "-o", output)
    assert code == 0
    assert "Not determined by the rows, kept from the base: " in out
    assert read_profile(str(output)).name == "my-node"
    first = output.read_text()
    code, out, _ = run(capsys, *arguments, "-o", output, "--json")
    assert output.read_text() == first
    assert json.loads(out)["sections"][0]["op"] == "gemm"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"--date": "yesterday"}, "--date: 'yesterday' is not a date"),
        ({"--base": "a1000"}, "did you mean a100"),
        ({"-o": "/nowhere/x.yaml"}, "cannot write it"),
    ],
)
def test_bad_options_are_one_line_and_exit_code_2(tmp_path, capsys, change, complaint):
    table(tmp_path, GEMM[:4])
    options = {"--base": "a100", "-o": tmp_path / "x.yaml"} | change
    code, _, err = run(
        capsys, "calibrate", tmp_path / "table.csv", *(x for pair in options.items() for x in pair)
    )
    assert code == 2
    assert complaint in err
    assert err.count("\n") == 1


def test_a_fit_that_is_off_by_any_factor_has_a_standard_error_of_at_most_one() -> None:
    hopeless = op_error(np.array([10.0, 30.0, 90.0]), fitted=3, held_back=0)
    fair = op_error(np.array([0.9, 1.1, 1.0, 1.05]), fitted=4, held_back=0)
    assert standard_error(hopeless) == 1.0
    assert 0.05 < standard_error(fair) < 0.15
