"""Ranks tell each other typed JSON: nothing that comes over a connection is run."""

import os
import pickle
import socket
import sys
import time
from dataclasses import dataclass, fields, is_dataclass
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

import pytest
import torch.distributed as dist

from isotune.simulator.schedule import Plan, StepTimes
from isotune.validation.measure.cases import Case
from isotune.validation.measure.measure_job import MeasureJob, Row
from isotune.validation.ranks import Rank, placements, run
from isotune.validation.ranks.placement import RankPlacement
from isotune.validation.ranks.run_store import Failure, RankState, open_store
from isotune.validation.ranks.wire import NoMessageError, pack_named, unpack, unpack_named
from isotune.validation.real_run import MachineRecord
from isotune.validation.real_run.benchmark_job import BenchmarkJob
from isotune.validation.real_run.messages import (
    FinalRound,
    Numbers,
    PeakMemory,
    PlanStarted,
    TimedRun,
)
from isotune.validation.real_run.validate_job import ValidateJob

EXAMPLES = [
    Numbers(max_rel_error=float("nan"), tolerance=1e-4, reference="r", dtype="bf16", positions=3),
    TimedRun(1, 2, StepTimes((0.0, 0.1 + 0.2), (1e-300, float("inf")))),
    PeakMemory(1.5e9),
    PlanStarted(3, Plan(strategy="iso", chunks=(40, 24), dropped=(0, 1), comm_dtype="int8")),
    FinalRound((0, 3), 7),
    MachineRecord(
        device="H100", torch="2.11", python="3.12", sms=132, environment={"NCCL_ALGO": "Ring"}
    ),
    Row(Case("contention", {"m": 3, "sms": 2}), 1e-6, 0.1, 0.2, 0.3, 0.4),
    Failure("memory", "ran out of memory: \x1b[31m\n"),
]
KINDS = tuple(type(example) for example in EXAMPLES)


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_a_message_comes_back_exactly(message):
    again = unpack_named(pack_named(message), KINDS)
    assert type(again) is type(message)
    assert repr(again) == repr(message)


def test_every_message_of_every_job_has_an_example():
    for job in (ValidateJob, BenchmarkJob, MeasureJob):
        for kind in job.messages:
            assert kind in KINDS
            assert is_dataclass(kind)
            assert fields(kind)


class Evil:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"[]",
        b"null",
        b"[" * 100_000,
        b'["PeakMemory", "[]"]',
        b'["PeakMemory", 3]',
        b'["Path", "\\"/etc/passwd\\""]',
        b'["Failure", "{\\"kind\\": \\"other\\", \\"text\\": \\"\\"}"]',
    ],
)
def test_what_is_no_message_is_refused(data):
    with pytest.raises(NoMessageError, match="is not what a rank sends"):
        unpack_named(data, KINDS)


def test_a_state_is_of_its_type():
    with pytest.raises(NoMessageError):
        unpack(b'{"beat": 1, "progress": [1, 2], "exit_code": null}', RankState)


@dataclass(frozen=True)
class Spoken:
    """Where the store of the run listens."""

    host: str
    port: int


@dataclass(frozen=True)
class Spoofed:
    """A stranger on this machine writes a pickle where rank 1's first message belongs."""

    messages: ClassVar = (Spoken,)
    file: Path

    def __call__(self, rank: Rank) -> None:
        if rank.index == 0:
            store = rank.send.__self__._store.underlying_store  # type: ignore[attr-defined]
            rank.send(Spoken(store.host, store.port))
            stranger = dist.TCPStore(
                store.host,
                store.port,
                is_master=False,
                timeout=timedelta(seconds=30),
                wait_for_workers=False,
            )
            stranger.set("isotune/1/0", pickle.dumps(("message", Evil(self.file))))
            time.sleep(30)  # the run ends as soon as this is read, before rank 1 writes there
        rank.at("measuring")
        dist.barrier()


def test_a_pickle_in_the_store_runs_nothing_and_ends_the_run_in_one_line(tmp_path):
    file = tmp_path / "ran"
    sent: list[Spoken] = []
    failure = run(
        Spoofed(file),
        placements(2),
        device="cpu",
        timeout_s=60,
        on_message=lambda _, message: sent.append(message),
    )
    assert not file.exists()
    assert "rank 1 of 2" in failure
    assert "was spoken for by a stranger" in failure
    assert failure.isprintable()
    assert sent[0].host == "127.0.0.1"


def _listening_addresses() -> set[str]:
    """Local addresses at which this process listens, in the kernel's own notation."""
    inodes = {
        link.readlink().name.removeprefix("socket:[").removesuffix("]")
        for link in Path("/proc/self/fd").iterdir()
        if link.is_symlink() and os.path.lexists(link)
        if str(link.readlink()).startswith("socket:[")
    }
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            cells = line.split()
            if cells[3] == "0A" and cells[9] in inodes:
                found.add(cells[1].partition(":")[0])
    return found


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads Linux' /proc")
@pytest.mark.parametrize("launcher", [None, "127.0.0.1"])
def test_the_store_of_one_machine_listens_on_loopback_only(monkeypatch, launcher):
    before = _listening_addresses()
    if launcher:
        with socket.socket() as free:
            free.bind((launcher, 0))
            port = free.getsockname()[1]
        variables = {"RANK": 0, "WORLD_SIZE": 2, "MASTER_ADDR": launcher, "MASTER_PORT": port}
        for name, value in variables.items():
            monkeypatch.setenv(name, str(value))
    store, _ = open_store(RankPlacement(rank=0, ranks=2, local_rank=0, local_ranks=2), 30)
    store.set("key", "value")
    loopback = "0100007F" if sys.byteorder == "little" else "7F000001"
    assert _listening_addresses() - before == {loopback}
