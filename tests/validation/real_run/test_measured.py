"""Clocks become a timeline in the simulator's form, and what a failed run measured is kept."""

import json
from types import SimpleNamespace

import pytest
import yaml
from _support.tiny_models import model_reference, write_config

from isotune.cli import main
from isotune.simulator.architecture import read_model
from isotune.simulator.predict import Scenario, predict
from isotune.simulator.schedule import (
    Plan,
    StepTimes,
    Workload,
    expand,
    exposed_comm_s,
    kind_seconds,
    measurement,
    timeline_of,
)
from isotune.validation.executor.streams import CpuStreams
from isotune.validation.real_run import run_validation as front
from isotune.validation.real_run.messages import TimedRun


@pytest.fixture
def prediction(tmp_path):
    import isotune

    model = read_model(write_config(tmp_path, "llama"))
    scenario = Scenario(
        model=model,
        hardware=isotune.read_profile("a800"),
        workload=Workload(prompt=64, tp=2),
    )
    return predict(scenario, Plan(strategy="iso", chunks=(40, 24)))


def test_a_clocked_prediction_is_the_prediction(prediction):
    program, times = prediction.program, prediction.timeline
    again = timeline_of(program, StepTimes(times.starts, times.ends))
    assert again.latency == times.latency
    assert again.overlapped == pytest.approx(times.overlapped)
    assert exposed_comm_s(program, again) == pytest.approx(prediction.exposed_comm_s)
    kinds = kind_seconds(program, again)
    assert list(kinds) == [
        "embed",
        "attention",
        "attention_all_reduce",
        "mlp",
        "mlp_all_reduce",
        "head",
    ]
    busy = sum(end - start for start, end in zip(times.starts, times.ends, strict=True))
    assert sum(kinds.values()) == pytest.approx(busy)


def test_the_slowest_rank_of_the_median_repeat_stands_for_a_measurement(prediction):
    program = prediction.program
    steps = len(program.steps)

    def run(latency):
        return timeline_of(program, StepTimes((0.0,) * steps, (latency,) * steps))

    found = measurement(program, [[run(1.0), run(5.0)], [run(2.0), run(1.0)], [run(3.0), run(3.0)]])
    assert found.latencies == (5.0, 2.0, 3.0)
    assert found.median_s == found.timeline.latency == 3.0


def test_on_cpu_a_sync_runs_beside_the_next_chunks_compute(prediction):
    import time

    program = prediction.program
    clocked = CpuStreams().play(program, lambda _: time.sleep(0.002))
    timeline = timeline_of(program, clocked)
    assert timeline.overlapped > 0.2 * timeline.latency
    for index, step in enumerate(program.steps):
        assert all(clocked.ends[awaited] <= clocked.starts[index] for awaited in step.depends_on)


def test_a_step_that_raises_ends_the_run_with_its_own_error(prediction):
    def perform(index):
        if prediction.program.steps[index].is_sync:
            raise RuntimeError(f"step {index}")

    with pytest.raises(RuntimeError, match="step "):
        CpuStreams().play(prediction.program, perform)


def test_a_run_that_fails_still_shows_the_repeats_that_all_ranks_finished(
    tmp_path, monkeypatch, capsys
):
    folder = write_config(tmp_path / "tiny", "llama")
    plan = tmp_path / "plan.yaml"
    fields = {
        "hardware": "a800",
        "model": model_reference(folder),
        "workload": {"prompt": 64, "tp": 2},
        "plan": {"strategy": "iso", "chunks": [40, 24]},
    }
    plan.write_text(yaml.safe_dump(fields))

    def run(job, here, *, on_message, **_):
        for number, program in enumerate(job.programs()):
            steps = len(program.steps)
            for rank in range(len(here)):
                clocks = StepTimes((0.0,) * steps, (0.5 + number,) * steps)
                on_message(rank, TimedRun(number, 0, clocks))
        on_message(0, TimedRun(0, 1, SimpleNamespace()))  # the other rank never got there
        return "rank 1 of 2 (measuring) was killed by SIGKILL"

    monkeypatch.setattr(front, "run", run)
    with pytest.raises(SystemExit) as stop:
        main(["validate", str(plan), "--device", "cpu", "--json"])
    assert stop.value.code == 1
    done = capsys.readouterr()
    assert done.err == "isotune: rank 1 of 2 (measuring) was killed by SIGKILL\n"
    found = json.loads(done.out)
    assert not found["complete"]
    assert "SIGKILL" in found["failure"]
    assert found["time"]["serial_measured_all_s"] == [0.5]
    assert found["time"]["measured_all_s"] == [1.5]


def test_a_program_that_was_measured_is_the_one_that_was_predicted(prediction):
    scenario = prediction.scenario
    assert expand(scenario.model, scenario.workload, prediction.plan) == prediction.program
