"""What a run ran on stands beside its numbers, and what makes its times no prediction's is said."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from isotune.simulator.architecture import load_model
from isotune.simulator.files import PlanFile
from isotune.simulator.machine import read_profile
from isotune.simulator.predict import Scenario, predict
from isotune.simulator.schedule import Plan, StepTimes, Workload
from isotune.validation.real_run import MachineRecord, Setup
from isotune.validation.real_run.comparison import Collected, validation
from isotune.validation.real_run.messages import TimedRun

H100 = read_profile("h100")
HERE = MachineRecord(
    device="NVIDIA H100 80GB HBM3", torch="2.11", python="3.12", sms=132, memory=85.0e9
)


def test_a_record_names_the_device_the_libraries_and_the_variables(monkeypatch):
    monkeypatch.setenv("NCCL_ALGO", "Ring")
    monkeypatch.setenv("A_SECRET", "not for results")
    record = MachineRecord.of(torch.device("cpu"), "tiles")
    assert record.torch == torch.__version__
    assert "cores" in record.device
    assert record.environment["NCCL_ALGO"] == "Ring"
    assert "A_SECRET" not in record.environment
    assert record.attention == "tiles"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, None),
        ({"device": "NVIDIA A100", "sms": 108}, "another GPU: NVIDIA A100 (108 SMs"),
        ({"device": "NVIDIA H200", "memory": 150e9}, "another GPU: NVIDIA H200 (132 SMs, 150 GB)"),
        ({"environment": {"CUDA_LAUNCH_BLOCKING": "1"}}, "CUDA_LAUNCH_BLOCKING is set"),
        ({"environment": {"CUDA_LAUNCH_BLOCKING": "0"}}, None),
        ({"sms": 0, "memory": 0.0}, None),  # a CPU: the setup says so
    ],
)
def test_what_differs_from_the_profiles_machine_is_said(changes, said):
    notes = list(replace(HERE, **changes).notes(H100))
    assert notes == [] if said is None else said in notes[0]


@pytest.mark.parametrize(("host_share", "bound"), [(0.0, False), (0.5, False), (0.8, True)])
def test_a_run_that_waits_for_its_host_is_called_host_bound(host_share, bound):
    scenario = Scenario(
        model=replace(load_model("llama-2-7b"), num_hidden_layers=2),
        hardware=H100,
        workload=Workload(prompt=256, tp=2),
    )
    setup = SimpleNamespace(
        scenario=scenario, plan=Plan(), baseline=(Plan(),), notes=("of the setup",), emulated=False
    )
    collected = Collected(ranks=2)
    times = predict(scenario).timeline
    for number in (0, 1):
        for rank in (0, 1):
            # The slower of two hosts decides.
            host = host_share * times.latency * (1 if rank else 0.1)
            clocked = StepTimes(times.starts, times.ends, host)
            collected.take(rank, TimedRun(number, 0, clocked))
    collected.take(0, HERE)
    done = validation(setup, collected)
    assert done.plan.host_bound is bound
    said = [note for note in done.notes if "host-bound" in note]
    assert len(said) == (2 if bound else 0)
    assert done.notes[0] == "of the setup"
    assert done.machine == HERE
    if host_share:
        assert done.plan.host_s == pytest.approx(host_share * times.latency)
    else:
        assert done.plan.host_s is None


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_no_time_of_an_engine_is_in_the_prediction_of_a_real_run(tmp_path, device):
    scenario = Scenario(
        model=load_model("llama-3.1-8b"), hardware=H100, workload=Workload(prompt=512, tp=8)
    ).with_workload(runtime="eager")
    assert H100.runtime.eager_step > 1e-3
    file = PlanFile.of(predict(scenario), "h100", "llama-3.1-8b")
    setup = Setup.of(file, tmp_path, device=device)
    assert setup.scenario.workload.runtime == "eager"
    spared = predict(scenario).latency_s - predict(setup.scenario).latency_s
    assert spared == pytest.approx(H100.runtime.eager_step)
