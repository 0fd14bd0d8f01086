"""GPUs are found, counted and left without touching them from the process that starts ranks."""

import subprocess
import sys
import threading
import time
from datetime import timedelta
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist

from isotune.simulator.errors import InputError
from isotune.validation.executor import collective_ops
from isotune.validation.ranks import RankPlacement, check_gpus, free_gpu_bytes, gpus, process


def placed(local_rank, local_ranks=8):
    return RankPlacement(
        rank=local_rank, ranks=local_ranks, local_rank=local_rank, local_ranks=local_ranks
    )


@pytest.mark.parametrize(("visible", "gpu"), [(8, 5), (1, 0)])
def test_a_rank_that_is_shown_one_gpu_takes_it(monkeypatch, visible, gpu):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    assert gpus.gpu_of(placed(5)) == gpu
    check_gpus([placed(5)])


@pytest.mark.parametrize("visible", [0, 1, 7])
def test_ranks_that_would_share_a_gpu_are_refused(monkeypatch, visible):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    with pytest.raises(InputError, match=f"8 ranks need as many GPUs, this machine has {visible}"):
        check_gpus([placed(rank) for rank in range(8)])


def test_free_memory_is_asked_by_a_process_that_ends(monkeypatch):
    asked = []

    def run(command, **_):
        asked.append(command)
        return SimpleNamespace(returncode=0, stdout="[5000, 3000]", stderr="")

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: pytest.fail("a context is made"))
    monkeypatch.setattr(subprocess, "run", run)
    assert free_gpu_bytes([placed(2), placed(3)]) == 3000
    assert asked[0][0] == sys.executable
    assert "for gpu in [2, 3]" in asked[0][2]


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_driver_that_does_not_answer_is_one_line():
    with pytest.raises(InputError, match=r"the GPUs do not answer: .+ \(allowed: --device cpu\)"):
        free_gpu_bytes([placed(0, 1)])


def test_a_rank_that_has_said_all_ends_though_its_group_does_not(monkeypatch):
    never = threading.Event()
    monkeypatch.setattr(dist, "destroy_process_group", never.wait)
    monkeypatch.setattr(process, "LEAVE_S", 0.05)
    begin = time.perf_counter()
    process._leave()
    assert time.perf_counter() - begin < 5
    never.set()


def test_products_in_float32_are_float32_in_a_rank(monkeypatch):
    torch.set_float32_matmul_precision("high")  # as some containers have it
    monkeypatch.setattr(dist, "init_process_group", lambda *_, **__: None)
    address = SimpleNamespace(connect=lambda _: (None, None))
    rank = SimpleNamespace(at=lambda _: None, device=torch.device("cpu"), index=0, ranks=1)
    try:
        process._join(rank, address)
        assert torch.get_float32_matmul_precision() == "highest"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_options_of_a_group_carry_its_timeout_since_torch_warns_otherwise(monkeypatch):
    class Options:
        def __init__(self, *, is_high_priority_stream):
            self.urgent, self.config = is_high_priority_stream, SimpleNamespace()

    monkeypatch.setattr(dist, "ProcessGroupNCCL", SimpleNamespace(Options=Options), raising=False)
    options = collective_ops.nccl_options(4, timedelta(seconds=5))
    assert options.urgent
    assert options._timeout == timedelta(seconds=5)
    assert options.config.min_ctas == options.config.max_ctas == 4
