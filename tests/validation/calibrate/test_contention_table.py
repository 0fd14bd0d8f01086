"""What compute and collectives take from each other is found again in rows that show it."""

import pytest

from isotune.cli import main
from isotune.simulator.machine import read_profile
from isotune.simulator.predict import slowdowns
from isotune.validation.calibrate import contention_fit as contention
from isotune.validation.calibrate import read_contention, with_contention
from isotune.validation.calibrate.contention_fit import ContentionRow

HEADER = (
    "op,hw,dtype,m,n,k,batch,q_len,kv_len,heads,kv_heads,head_dim,bytes,ranks,algorithm,sms,"
    "alone_us,beside_us,all_reduce_alone_us,all_reduce_beside_us,skew_us,source"
)
ROW = "gemm,x,bf16,512,768,512,,,,,,,524288,2,gloo,0,1000,1250,4000,5000,200,measured"
ATTENTION = (
    "attention,x,bf16,,,,1,512,1024,4,4,64,524288,2,gloo,0,1000,1250,4000,5000,-200,measured"
)


def changed(row, **fields):
    return row.model_copy(update=fields)


def rows_that_show(profile, memory_interference, interference, skew_s):
    """Rows as a machine with these figures would give them, among them a disturbed one."""
    runtime = profile.runtime.model_copy(update={"memory_interference": memory_interference})
    machine = profile.model_copy(update={"runtime": runtime})
    heads = {"heads": 8, "kv_heads": 1, "head_dim": 128}
    kernels = (
        ("gemm", {"m": 1024, "n": 4096, "k": 4096}, 0),
        ("gemm", {"m": 2048, "n": 8192, "k": 1024}, 8),
        ("attention", {"batch": 1, "q_len": 2048, "kv_len": 4096, **heads}, 0),
    )
    rows = []
    for op, sizes, sms in kernels:
        row = ContentionRow(
            line=1,
            op=op,
            **sizes,
            bytes=1 << 24,
            ranks=8,
            sms=sms,
            alone_us=100,
            beside_us=100,
            all_reduce_alone_us=100,
            all_reduce_beside_us=100 * interference,
            skew_us=1e6 * skew_s,
        )
        slower = float(
            slowdowns(
                *contention._steps(machine, row),
                gpu=machine.gpu,
                gemm=machine.gemm,
                memory_interference=machine.runtime.memory_interference,
            )[0]
        )
        rows.append(changed(row, beside_us=100 * slower))
    disturbed = changed(rows[0], beside_us=900, all_reduce_beside_us=900, skew_us=1e6)
    return (*rows, disturbed, rows[0])


def test_what_rows_show_is_what_the_profile_says_afterwards():
    base = read_profile("h100")
    rows = rows_that_show(base, memory_interference=0.7, interference=1.3, skew_s=20e-6)
    found = with_contention(base, rows, "these rows")
    assert found.collectives.algorithms[base.collectives.default].interference == 1.3
    assert found.runtime.memory_interference == pytest.approx(0.7, rel=0.05)
    assert found.runtime.sync_skew == pytest.approx(20e-6)
    assert found.source_of("runtime.memory_interference") == "these rows"
    assert found.gemm == base.gemm


def test_the_kernels_that_take_the_time_say_what_compute_loses():
    base = read_profile("h100")
    calm = rows_that_show(base, memory_interference=0.2, interference=1.0, skew_s=0.0)[:2]
    disturbed = rows_that_show(base, memory_interference=0.9, interference=1.0, skew_s=0.0)[2]
    longer = 10 * disturbed.beside_us
    found = with_contention(
        base, (*calm, changed(disturbed, alone_us=1000, beside_us=longer)), "these rows"
    )
    assert found.runtime.memory_interference == pytest.approx(0.9, rel=0.05)


def test_a_pass_that_takes_less_than_its_parts_has_no_skew(tmp_path):
    path = tmp_path / "beside.csv"
    path.write_text(f"{HEADER}\n{ATTENTION}\n")
    base = read_profile("h100")
    rows = read_contention(path)
    assert rows[0].sizes["kv_len"] == 1024
    assert with_contention(base, rows, "this row").runtime.sync_skew == 0.0


def test_calibrate_writes_a_profile_with_it(tmp_path):
    kernels, beside = tmp_path / "kernels.csv", tmp_path / "beside.csv"
    kernels.write_text(
        "op,hw,dtype,tokens,hidden,latency_us\n"
        + "".join(f"rms_norm,x,bf16,{tokens},8192,{tokens / 50}\n" for tokens in (512, 1024, 4096))
    )
    beside.write_text(f"{HEADER}\n{ROW}\n")
    profile = tmp_path / "mine.yaml"
    with pytest.raises(SystemExit) as stop:
        main(
            [
                *("calibrate", str(kernels), "--contention", str(beside)),
                *("--base", "h100", "-o", str(profile)),
            ]
        )
    assert not stop.value.code
    found = read_profile(str(profile))
    assert found.collectives.algorithms[found.collectives.default].interference == 1.25
    assert found.runtime.sync_skew == pytest.approx(200e-6)
    assert "1 rows of beside.csv" in found.source_of("runtime.sync_skew")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (HEADER.replace("bytes,", "") + f"\n{ROW}\n", ["row 1", "column 'bytes' is missing"]),
        (f"{HEADER}\n", ["no rows"]),
        (f"{HEADER}\n{ROW.replace('1250', 'fast')}\n", ["row 2", "beside_us", "'fast'"]),
        (f"{HEADER}\n{ROW.replace('1000', '0')}\n", ["row 2", "alone_us", "above zero"]),
        (f"{HEADER}\n{ROW.replace('gemm', 'norm')}\n", ["row 2", "'norm'", "gemm, attention"]),
    ],
)
def test_a_table_that_is_no_contention_table_is_refused(tmp_path, text, parts):
    path = tmp_path / "beside.csv"
    path.write_text(text)
    with pytest.raises(Exception) as refused:  # noqa: PT011  (its text is what matters)
        read_contention(path)
    assert type(refused.value).__name__ == "InputError"
    for part in (str(path), *parts):
        assert part in str(refused.value)
