"""One device plays one rank of many: its compute is real, its all-reduces are paced copies."""

import json
import sys
import time
from types import SimpleNamespace

import pytest
import torch
import yaml
from _support.tiny_models import model_reference, write_config

from isotune.cli import main
from isotune.simulator.architecture import read_model
from isotune.simulator.errors import InputError
from isotune.simulator.machine import read_profile
from isotune.simulator.predict import Scenario, predict
from isotune.simulator.schedule import Plan, Workload
from isotune.validation.executor import emulation
from isotune.validation.executor.emulation import CpuCopy, Emulated, Message, SmCopy, message_of


@pytest.fixture
def scenario(tmp_path):
    model = read_model(write_config(tmp_path / "tiny", "llama"))
    workload = Workload(prompt=96, tp=4)
    return Scenario(model=model, hardware=read_profile("a800"), workload=workload)


def test_a_copy_takes_the_profiles_time_and_moves_the_bytes_of_a_ring(scenario):
    message = message_of(scenario, Plan(), 96)
    assert message.sent == 2 * 3 / 4 * 96 * 64 * 2
    syncs = predict(scenario).op_seconds["mlp_all_reduce"]
    assert message.seconds == pytest.approx(syncs / scenario.model.num_hidden_layers)
    assert message_of(scenario, Plan(comm_dtype="int8"), 96).sent == message.sent / 2


def test_a_copy_ends_at_its_time_and_not_before():
    copy = CpuCopy()
    copy(Message(sent=1 << 20, seconds=0.0, sms=1))  # its memory is there now
    begin = time.perf_counter()
    copy(Message(sent=1 << 20, seconds=0.05, sms=1))
    assert 0.05 <= time.perf_counter() - begin < 0.25


@pytest.fixture
def copies(monkeypatch):
    """The copies that `SmCopy` asks of a kernel of our own: (first word, words, SMs, seconds)."""
    asked = []

    def hold_and_copy(source, target, sms, seconds):
        assert source.numel() == target.numel()
        asked.append((source.storage_offset(), source.numel(), sms, seconds))

    module = "isotune.validation.executor.sm_copy"
    monkeypatch.setitem(sys.modules, module, SimpleNamespace(hold_and_copy=hold_and_copy))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _: None)
    monkeypatch.setattr(emulation, "_COLD_WORDS", 1000)
    return asked


def test_copies_on_sms_move_words_that_no_cache_has_any_more(copies):
    copy = SmCopy(torch.device("cpu"))
    for _ in range(4):
        copy(Message(sent=1600, seconds=1e-3, sms=8))
    assert copies == [(first, 400, 8, 1e-3) for first in (0, 400, 0, 400)]
    copy(Message(sent=8000, seconds=1e-3, sms=8))
    assert copies[-1] == (0, 2000, 8, 1e-3)


def test_a_copy_that_cannot_be_compiled_says_what_it_takes(copies, monkeypatch):
    def no_compiler(*_):
        raise RuntimeError("Failed to find C compiler. Please specify via CC.")

    copy = SmCopy(torch.device("cpu"))
    monkeypatch.setattr(copy, "_hold_and_copy", no_compiler)
    with pytest.raises(InputError, match=r"C compiler, Python\.h .*TRITON_CACHE_DIR"):
        copy(Message(sent=1600, seconds=1e-3, sms=8))
    assert not copies


def test_the_sums_stay_as_they_are(scenario):
    partial = torch.ones(96, 64)
    Emulated(scenario, Plan(), torch.device("cpu"))(partial)
    assert torch.equal(partial, torch.ones(96, 64))


def test_one_process_plays_one_rank_of_four_and_says_that_it_is_an_emulation(tmp_path, capsys):
    folder, trace = write_config(tmp_path / "tiny", "llama"), tmp_path / "trace.json"
    slow = read_profile("a800").model_dump(mode="json", exclude_none=True)
    for protocol in slow["collectives"]["algorithms"]["nccl"]["protocols"]:
        protocol |= {"latency": "1 ms"}
    (tmp_path / "slow.yaml").write_text(yaml.safe_dump(slow))
    plan = tmp_path / "plan.yaml"
    fields = {
        "hardware": str(tmp_path / "slow.yaml"),
        "model": model_reference(folder),
        "workload": {"prompt": 96, "tp": 2},
        "plan": {"strategy": "iso", "chunks": [48, 48], "dropped": [1]},
    }
    plan.write_text(yaml.safe_dump(fields))
    arguments = ["validate", str(plan), "--emulate-tp", "4", "--device", "cpu", "--repeat", "3"]
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "--json", "--trace", str(trace)])
    out, err = capsys.readouterr()
    assert not stop.value.code, err
    found = json.loads(out)
    assert found["emulated_tp"] == 4
    assert found["numbers"] is None
    assert found["notes"][0].startswith("EMULATION: one device plays rank 0 of 4")
    assert len(found["memory"]["peak_bytes"]) == 1
    # Six all-reduces of a millisecond each: two chunks of a whole and of a dropped block.
    assert found["time"]["kinds"]["mlp_all_reduce"]["measured_s"] >= 4e-3
    assert found["time"]["kinds"]["attention_all_reduce"]["measured_s"] >= 2e-3
    names = [
        e["args"]["name"]
        for e in json.loads(trace.read_text())["traceEvents"]
        if "name" in e.get("args", {})
    ]
    assert "emulated" in names
    assert "measured" not in names


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--emulate-tp", "1"], ["--emulate-tp", "2 or more"]),
        (["--emulate-tp", "3"], ["tp: 3", "num_attention_heads 8"]),
        (["--emulate-tp", "4", "--nproc", "2"], ["--emulate-tp", "--nproc 1"]),
    ],
)
def test_what_cannot_be_emulated_is_refused(tmp_path, capsys, arguments, parts):
    folder, plan = write_config(tmp_path / "tiny", "llama"), tmp_path / "plan.yaml"
    fields = {"hardware": "a800", "model": model_reference(folder), "workload": {"prompt": 96}}
    plan.write_text(yaml.safe_dump(fields | {"plan": {}}))
    with pytest.raises(SystemExit) as stop:
        main(["validate", str(plan), "--device", "cpu", *arguments])
    err = capsys.readouterr().err
    assert stop.value.code == 2
    assert err.count("\n") == 1
    for part in parts:
        assert part in err
