"""`isotune validate` end to end, as a user runs it."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec

import pytest
import yaml
from _support.runs import save_random_model
from _support.tiny_models import model_reference, write_config
from _support.trace_format import check_trace

from isotune.hw_profiles import FOLDER
from isotune.simulator.files import read_plan
from isotune.simulator.predict import SERIAL, GpuMemory
from isotune.simulator.schedule import expand
from isotune.validation import extra
from isotune.validation.real_run import Setup

PLAN = {"strategy": "iso", "chunks": [40, 24], "dropped": [1]}


@pytest.fixture
def plan(tmp_path):
    folder = write_config(tmp_path / "tiny", "qwen2")

    def write(plan=PLAN, model=folder, **workload):
        fields = {
            "hardware": "a800",
            "model": model_reference(model),
            "workload": {"prompt": 64, "tp": 2, "batch": 2} | workload,
            "plan": plan,
        }
        path = tmp_path / "plan.yaml"
        path.write_text(yaml.safe_dump(fields))
        return path

    write.folder = folder
    return write


def test_a_plan_runs_on_its_own_ranks_with_the_numbers_and_a_measured_timeline(
    isotune, plan, tmp_path
):
    save_random_model(plan.folder)
    trace = tmp_path / "trace.json"
    fast = ("--device", "cpu", "--repeat", "3", "--warmup", "1", "--trace", trace)
    code, out, err = isotune("validate", plan(), "--json", *fast)
    assert code == 0, err
    found = json.loads(out)
    assert found["weights"] == "safetensors"
    assert found["complete"]
    assert 0 < found["numbers"]["max_rel_error"] < 1e-4
    assert "transformers" in found["numbers"]["reference"]
    time = found["time"]
    for key in ("measured_s", "predicted_s", "serial_measured_s", "serial_predicted_s"):
        assert time[key] > 0, key
    assert len(time["measured_all_s"]) == 3
    assert time["measured_saving"] == 1 - time["measured_s"] / time["serial_measured_s"]
    assert set(time["kinds"]) == {
        "embed",
        "attention",
        "attention_all_reduce",
        "mlp",
        "mlp_all_reduce",
        "head",
    }
    assert all(kind["measured_s"] > 0 for kind in time["kinds"].values())
    assert len(found["memory"]["peak_bytes"]) == 2
    written = json.loads(trace.read_text())
    check_trace(written)
    events = written["traceEvents"]
    steps = [[e for e in events if e["ph"] == "X" and e["pid"] == pid] for pid in (1, 2)]
    assert len(steps[0]) == len(steps[1]) > 0
    names = {e["args"]["name"] for e in events if e["name"] == "process_name"}
    assert names == {"predicted", "measured"}


def test_where_the_serial_run_alone_does_not_fit_the_plan_is_measured_without_it(
    isotune, plan, tmp_path
):
    path = plan({"strategy": "iso", "chunks": [40, 24]})
    setup = Setup.of(read_plan(path), tmp_path, device="cpu")
    between = sum(GpuMemory(setup.scenario).of(each).needed for each in (setup.plan, SERIAL)) / 2
    profile = (FOLDER / "a800.yaml").read_text()
    small = profile.replace("memory: 80 GiB", f"memory: {between / 1e9:.9f} GB")
    (tmp_path / "small.yaml").write_text(small)
    fast = ("--device", "cpu", "--repeat", "2", "--warmup", "1", "--check-dtype", "none")
    code, out, err = isotune("validate", path, "--hw", tmp_path / "small.yaml", "--json", *fast)
    assert code == 0, err
    found = json.loads(out)
    assert found["complete"]
    time = found["time"]
    assert len(time["measured_all_s"]) == 2
    assert (time["serial_measured_s"], time["measured_saving"]) == (None, None)
    assert time["serial_predicted_s"] > 0
    (note,) = [note for note in found["notes"] if "serial" in note]
    assert "the serial run is not measured: it needs 1.5 GB per GPU of 1.5 GB" in note


def test_under_torchrun_each_process_is_a_rank_and_the_first_one_reports(plan):
    path = plan({"dropped": [1], "comm_dtype": "int8"}, phase="decode", prompt=20)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ("--json", "--device", "cpu", "--repeat", "2")
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", "isotune", "validate", path, *options],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ
            | {"RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2"}
            | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            | {"PYTHONPATH": os.pathsep.join(sys.path), "GLOO_SOCKET_IFNAME": "lo"},
        )
        for rank in range(2)
    ]
    first, second = (rank.communicate(timeout=120)[0] for rank in ranks)
    assert [rank.returncode for rank in ranks] == [0, 0]
    assert second == ""
    found = json.loads(first)
    assert found["weights"] == "random"
    assert found["numbers"]["ok"]
    assert "1 dropped all-reduce, int8 transfer" in found["numbers"]["reference"]
    assert len(found["time"]["measured_all_s"]) == 2


@pytest.mark.parametrize(
    ("plan_fields", "workload", "arguments", "parts"),
    [
        (PLAN, {}, ("--nproc", "4"), ["tp 2", "not for 4 ranks", "--nproc 2"]),
        (PLAN, {}, ("--layers", "3"), ["--layers", "2 blocks", "1 to 2"]),
        (PLAN, {}, ("--device", "tpu"), ["--device", "'tpu'", "cpu, cuda"]),
        (PLAN, {}, ("--check-dtype", "fp8"), ["--check-dtype", "float32"]),
        (PLAN, {}, ("--trace", "no/such/folder/t.json"), ["no/such/folder/t.json"]),
        (PLAN, {"weight_dtype": "int8"}, (), ["weight_dtype", "int8", "bf16"]),
        (PLAN, {"quant": "int4"}, (), ["quant", "products in int4", "allowed: quant bf16"]),
        (PLAN, {"kv_dtype": "fp8"}, (), ["kv_dtype", "KV cache in fp8"]),
        (PLAN | {"dropped": [2]}, {}, (), ["blocks 0 to 1", "2"]),
        (PLAN | {"chunks": [40, 25]}, {}, (), ["add up to 65", "64"]),
        (PLAN, {"tp": 3}, (), ["tp: 3 does not suit", "num_attention_heads 8"]),
        (PLAN, {}, ("--model", "llama-2-7b"), ["the plan is for", "llama-2-7b (32 blocks"]),
    ],
)
def test_what_cannot_run_is_refused_before_any_process_starts(
    isotune, plan, monkeypatch, plan_fields, workload, arguments, parts
):
    monkeypatch.setattr("isotune.validation.real_run.run_validation.run", pytest.fail)
    device = () if "--device" in arguments else ("--device", "cpu")
    code, out, err = isotune("validate", plan(plan_fields, **workload), *device, *arguments)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    for part in parts:
        assert part in err


def test_pickled_weights_unsupported_models_and_absent_gpus_are_refused(isotune, plan, monkeypatch):
    monkeypatch.setattr("isotune.validation.real_run.run_validation.run", pytest.fail)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    code, _, err = isotune("validate", plan(), "--device", "cuda")
    assert code == 2
    assert "2 ranks need as many GPUs, this machine has 1" in err
    (plan.folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    code, _, err = isotune("validate", plan(), "--device", "cpu")
    assert code == 2
    assert "pickled" in err
    config = json.loads((plan.folder / "config.json").read_text())
    (plan.folder / "config.json").write_text(json.dumps(config | {"model_type": "olmo"}))
    code, _, err = isotune("validate", plan(), "--device", "cpu")
    assert code == 2
    assert "'olmo'" in err
    assert "mixtral" in err


def test_a_missing_package_names_the_extra_to_install(isotune, plan, monkeypatch):
    monkeypatch.setattr(
        extra, "find_spec", lambda name: None if name == "torch" else find_spec(name)
    )
    code, _, err = isotune("validate", plan())
    assert code == 2
    assert "torch" in err
    assert "pip install 'isotune[validate]'" in err


def test_ranks_must_share_the_options_but_not_the_place_of_the_model(plan, tmp_path):
    path = plan()
    setup = Setup.of(read_plan(path), path.parent, device="cpu")
    elsewhere = replace(setup, config=tmp_path / "another" / "config.json")
    assert elsewhere.agreed == setup.agreed
    others = [{"repeat": 3}, {"warmup": 0}, {"check_dtype": "none"}, {"weights": tmp_path}]
    for other in others:
        assert replace(setup, **other).agreed != setup.agreed, other


def test_cutting_the_model_cuts_its_drop_set_and_its_prediction(plan):
    from isotune.simulator.files import read_plan

    path = plan()
    setup = Setup.of(read_plan(path), path.parent, device="cpu", layers=1)
    assert setup.plan.dropped == ()
    assert setup.notes == (
        "model truncated to its first 1 of 2 blocks",
        "times are predicted for a800 and measured on this cpu",
    )
    program = expand(setup.scenario.model, setup.scenario.workload, setup.plan)
    assert {step.block for step in program.steps} == {-1, 0, 1}
