"""A trace that torch.profiler writes: two ranks on this CPU, all-reduces over Gloo."""

import json
import subprocess
import sys

import pytest

pytest.importorskip("torch")

from isotune.results import KINDS
from isotune.validation.tables import read_table
from isotune.validation.traces import blocks_of, bundled_names, passes_of, read_trace
from tests._support.report_cases import saved

STEPS, BLOCKS, TOKENS, HIDDEN = 3, 4, 32, 64
JOB = f"""
import torch, torch.distributed as dist, torch.multiprocessing as mp
from torch.profiler import ProfilerActivity, profile, schedule


def block(x, weights):
    h = torch.nn.functional.rms_norm(x, ({HIDDEN},))
    h = h.view(1, 4, {TOKENS}, -1)
    h = torch.nn.functional.scaled_dot_product_attention(h, h, h).view({TOKENS}, {HIDDEN})
    dist.all_reduce(h)
    x = x + h
    y = torch.nn.functional.linear(torch.nn.functional.linear(x, weights), weights)
    dist.all_reduce(y)
    return x + y


def rank(index, folder):
    torch.set_num_threads(1)
    at = f"file://{{folder}}/store"
    dist.init_process_group("gloo", init_method=at, rank=index, world_size=2)
    x, weights = torch.randn({TOKENS}, {HIDDEN}), torch.randn({HIDDEN}, {HIDDEN})
    save = lambda seen: seen.export_chrome_trace(f"{{folder}}/rank{{index}}.json.gz")
    plan = schedule(wait=0, warmup=1, active={STEPS}, repeat=1)
    with torch.no_grad(), profile(
        activities=[ProfilerActivity.CPU], record_shapes=True, schedule=plan, on_trace_ready=save
    ) as seen:
        for _ in range({STEPS} + 1):
            for _ in range({BLOCKS}):
                block(x, weights)
            seen.step()
    dist.destroy_process_group()


if __name__ == "__main__":
    import sys
    mp.spawn(rank, (sys.argv[1],), nprocs=2)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("traces")
    (folder / "job.py").write_text(JOB)
    subprocess.run([sys.executable, "job.py", str(folder)], cwd=folder, check=True, timeout=120)
    return folder


@pytest.mark.parametrize("rank", [0, 1])
def test_a_trace_of_this_machine_is_read(folder, rank):
    trace = read_trace(folder / f"rank{rank}.json.gz")
    assert (trace.device, trace.rank, trace.ranks, trace.backend) == ("CPU", rank, 2, "gloo")
    passes = passes_of(trace, bundled_names())
    assert len(passes) == STEPS
    for one in passes:
        assert one.name.startswith("ProfilerStep#")
        calls = {kernel.name: kernel.calls for kernel in one.kernels()}
        assert calls["gloo:all_reduce"] == 2 * BLOCKS
        assert calls["aten::linear"] == 2 * BLOCKS
        assert 0 < one.exposed_s <= one.comm_s < one.latency_s
        assert [block.collectives for block in blocks_of(one)] == [2] * BLOCKS


def test_the_command_prints_it_and_writes_its_rows(folder, monkeypatch):
    monkeypatch.chdir(folder)
    options = ("-o", "rows.csv", "--hw", "mine")
    path = saved(folder, "traced", "import", "trace", "rank0.json.gz", *options)
    data = json.loads(path.read_text())
    found = KINDS["trace"].model_validate(data)
    assert len(found.passes) == STEPS
    assert found.unknown == ()
    assert found.timelines["measured"].steps
    table = read_table(folder / "rows.csv")
    (gemms,) = table.of("gemm")
    assert {name: set(values) for name, values in gemms.sizes.items()} == {
        "m": {TOKENS},
        "n": {HIDDEN},
        "k": {HIDDEN},
    }
    (reduces,) = table.of("all_reduce")
    assert (reduces.algorithm, reduces.dtype) == ("gloo", "fp32")
    assert reduces.sizes["bytes"].tolist() == [TOKENS * HIDDEN * 4]
