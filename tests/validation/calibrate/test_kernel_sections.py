"""Rows of latent attention and of experts estimate sections that the base need not have."""

from itertools import product

import pytest

from isotune.simulator.machine import read_profile, write_profile
from isotune.validation.calibrate import calibrate, split
from isotune.validation.calibrate.fits import seeded
from isotune.validation.tables import kernel_seconds, read_table

BASE = read_profile("rtx4090")
START = seeded(BASE, {("mla_attention", ""), ("moe", "")})
LATENT = START.latent_attention
EXPERTS = START.experts.model_copy(update={"launch": 60e-6, "memory_efficiency": 0.6})
MLA = [
    (batch, q_len, q_len + context, heads)
    for batch, (q_len, context), heads in product(
        (1, 8, 64, 512),
        ((1, 1023), (1, 8191), (1, 32767), (512, 0), (4096, 0)),
        (1, 16, 128),
    )
]
MOE = list(product((1, 16, 256, 4096), (2048, 4096), (1024, 2048), (64,), (2, 8), (1,), (1, 8)))
NAMES = {
    "quantize": "tokens,hidden",
    "all_to_all": "bytes,ranks",
    "mla_attention": "batch,q_len,kv_len,heads",
    "moe": "tokens,hidden,intermediate,experts,top_k,expert_tp,expert_ep",
}


def planted(path, op, sizes, truth, dtypes=("bf16",)):
    """A table whose latencies are those of a profile."""
    lines = [f"op,dtype,{NAMES[op]},latency_us"]
    lines += [f"{op},{dtype}," + ",".join(map(str, row)) for dtype, row in product(dtypes, sizes)]
    path.write_text("\n".join([lines[0], *(f"{line},1" for line in lines[1:])]))
    at = {}
    for rows in read_table(path).groups:
        seconds = kernel_seconds(rows, truth)
        at |= dict(zip(rows.line.astype(int).tolist(), seconds.tolist(), strict=True))
    text = [f"{line},{at[place] * 1e6!r}" for place, line in enumerate(lines[1:], start=2)]
    path.write_text("\n".join([lines[0], *text]))
    return read_table(path)


@pytest.fixture(scope="module")
def experts(tmp_path_factory):
    truth = START.model_copy(update={"experts": EXPERTS})
    path = tmp_path_factory.mktemp("moe") / "moe.csv"
    return calibrate([planted(path, "moe", MOE, truth)], BASE, name="mine", date="2026-01-02")


def test_a_base_without_the_section_gets_one_with_its_error_and_its_source(experts, tmp_path):
    found = experts.profile.experts
    assert BASE.experts is None
    assert found.launch == pytest.approx(60e-6, rel=0.05)
    assert found.memory_efficiency == pytest.approx(0.6, rel=0.05)
    assert found.error < 0.05
    assert "rows held back" in experts.profile.source_of("experts.launch")
    assert experts.profile.errors == BASE.errors, "other kernels keep the error of their class"
    write_profile(experts.profile, tmp_path / "mine.yaml", "")
    assert read_profile(str(tmp_path / "mine.yaml")).experts == found


def test_latent_attention_of_two_caches_is_a_section_and_a_set(tmp_path):
    slow = LATENT.decode.model_copy(update={"launch": 20e-6})
    truth = START.model_copy(
        update={"latent_attention": LATENT.model_copy(update={"decode": slow})}
    )
    table = planted(tmp_path / "mla.csv", "mla_attention", MLA, truth, ("bf16", "fp8"))
    done = calibrate([table], BASE, name="mine", date="2026-01-02")
    keys = ["latent_attention", "latent_attention.sets.fp8"]
    assert [section.key for section in done.sections] == keys
    for dtype in ("bf16", "fp8"):
        found = done.profile.latent_kernels(dtype)
        assert found.parameters.decode.launch == pytest.approx(20e-6, rel=0.05)
        assert found.stands_in_for == ""
    assert done.profile.calibration.errors["mla_attention"].mape < 0.03


def test_rows_of_another_collective_give_it_lines_of_its_own(tmp_path):
    kind, start = "all_to_all", seeded(BASE, {("all_to_all", "nccl")}).collectives
    lines = start.algorithms["nccl"].kinds[kind]
    slow = tuple(line.model_copy(update={"latency": 3 * line.latency}) for line in lines)
    algorithms = dict(start.algorithms)
    algorithms["nccl"] = algorithms["nccl"].model_copy(update={"kinds": {kind: slow}})
    truth = BASE.model_copy(
        update={"collectives": start.model_copy(update={"algorithms": algorithms})}
    )
    sizes = list(product((2**power for power in range(9, 30)), (2, 4, 8)))
    table = planted(tmp_path / "rows.csv", kind, sizes, truth)
    done = calibrate([table], BASE, name="mine", date="2026-01-02")
    (report,) = done.sections
    assert report.key == f"collectives.algorithms.nccl.kinds.{kind}"
    assert report.before.mape > 0.2
    assert report.error.mape < 0.03
    found = done.profile.collectives.algorithms["nccl"]
    assert found.protocols == BASE.collectives.algorithms["nccl"].protocols
    assert done.profile.errors == BASE.errors
    assert "rows held back" in done.profile.source_of(f"{report.key}.0.latency")


def test_rows_of_quantise_are_a_set_of_the_kernels_that_move_bytes(tmp_path):
    slow = BASE.elementwise.model_copy(update={"launch": 3 * BASE.elementwise.launch})
    truth = BASE.model_copy(update={"elementwise": slow})
    sizes = list(product((1, 16, 64, 256, 1024, 8192, 65536), (1024, 4096, 8192, 28672)))
    table = planted(tmp_path / "rows.csv", "quantize", sizes, truth, ("fp8",))
    done = calibrate([table], BASE, name="mine", date="2026-01-02")
    (report,) = done.sections
    assert report.key == "elementwise.sets.fp8"
    found = done.profile.elementwise
    assert found.launch == BASE.elementwise.launch, "norms keep their figures"
    assert found.of("fp8").parameters.launch == pytest.approx(slow.launch, rel=0.05)


def test_no_shape_is_both_fitted_and_held_back(tmp_path):
    table = planted(tmp_path / "mla.csv", "mla_attention", MLA, START, ("bf16", "fp8"))
    shapes = [
        {tuple(row) for rows in part for row in zip(*rows.sizes.values(), strict=True)}
        for part in split(table.groups, 0)
    ]
    assert not shapes[0] & shapes[1]
    assert min(map(len, shapes)) > len(MLA) / 3
