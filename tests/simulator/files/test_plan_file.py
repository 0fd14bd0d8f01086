"""`plan.yaml` carries everything that a prediction needs, to the last digit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isotune import hw_profiles
from isotune.simulator.errors import InputError
from isotune.simulator.files import PlanFile, read_plan, scenario_of
from isotune.simulator.machine import read_profile
from isotune.simulator.predict import Scenario, predict
from isotune.simulator.schedule import Plan

ISO = Plan(strategy="iso", chunks=(600, 424), comm_sms=4, dropped=(0, 31))


@pytest.fixture
def scenario(make_scenario: Callable[..., Scenario]) -> Scenario:
    return make_scenario("llama-2-7b", blocks=None, prompt=1024)


@pytest.fixture
def file(tmp_path: Path, scenario: Scenario) -> Path:
    path = tmp_path / "plan.yaml"
    PlanFile.of(predict(scenario, ISO), "a800", "llama-2-7b").write(path)
    return path


def edit(path: Path, group: str, **fields: Any) -> None:
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    table = data[group] if group else data
    table.update(fields)
    path.write_text(yaml.safe_dump(data), encoding="utf-8")


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_is_written_predicts_the_same_latency_to_the_last_digit(
    tmp_path: Path, make_scenario: Callable[..., Scenario], plans: Any, data: st.DataObject
) -> None:
    hardware = data.draw(st.sampled_from(hw_profiles.names()))
    scenario = make_scenario("opt-6.7b", hardware, blocks=None, prompt=700, batch=2, tp=4)
    prediction = predict(scenario, data.draw(plans(scenario)))
    path = tmp_path / "plan.yaml"
    PlanFile.of(prediction, hardware, "opt-6.7b").write(path)
    file = read_plan(path)
    again = predict(scenario_of(file, tmp_path), file.plan)
    assert file.predicted is not None
    assert again.latency_s == file.predicted.latency_s == prediction.latency_s
    assert again.serial_latency_s == file.predicted.serial_latency_s == prediction.serial_latency_s
    assert again.plan == prediction.plan


def test_a_plan_file_reads_as_what_was_planned(file: Path) -> None:
    data = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert list(data) == ["version", "hardware", "model", "workload", "plan", "predicted"]
    assert data["plan"] == {
        "strategy": "iso", "chunks": [600, 424], "comm_dtype": "bf16", "comm_sms": 4,
        "dropped": [0, 31],
    }  # fmt: skip


def test_the_prediction_in_a_plan_file_may_be_absent(file: Path) -> None:
    edit(file, "", predicted=None)
    assert read_plan(file).predicted is None


@pytest.mark.parametrize(
    ("group", "fields", "message"),
    [
        ("", {"version": 2}, "version: Input should be 1 (got 2)"),
        ("", {"extra": 1}, "extra: Extra inputs are not permitted"),
        ("", {"plan": "serial"}, "plan: Input should be a valid dictionary"),
        ("plan", {"strategy": "isso"}, "plan.strategy: unknown strategy"),
        ("plan", {"chunks": [600, -1]}, "plan.chunks.1: Input should be greater than 0 (got -1)"),
        ("plan", {"groups": [{"first": 9}]}, "plan.groups: Extra inputs are not permitted"),
        ("workload", {"prompt": 0}, "workload.prompt: Input should be greater than or equal to 1"),
        ("workload", {"prompt": "1k"}, "workload.prompt: Input should be a valid integer"),
        ("workload", {"batch": True}, "workload.batch: Input should be a valid integer (got True)"),
        ("workload", {"phase": "train"}, "workload.phase: Input should be 'prefill', 'decode'"),
        ("predicted", {"latency_s": -1.0}, "predicted.latency_s: Input should be greater than 0"),
        ("model", {"name": ""}, "model.name: String should have at least 1 character"),
    ],
)
def test_a_bad_field_is_named_with_what_is_allowed(
    file: Path, group: str, fields: dict[str, Any], message: str
) -> None:
    edit(file, group, **fields)
    with pytest.raises(InputError) as caught:
        read_plan(file)
    assert str(caught.value).startswith(f"{file}: {message}")


def test_a_plan_for_another_model_is_refused(file: Path) -> None:
    message = (
        r"the plan is for llama-2-7b \(32 blocks, hidden size 4096, 6.74 B parameters\), not for "
        r"llama-2-13b \(40 blocks, hidden size 5120, 13.02 B parameters\)"
    )
    with pytest.raises(InputError, match=message):
        scenario_of(read_plan(file), file.parent, model="llama-2-13b")


def test_a_plan_can_be_asked_about_other_hardware_and_workload(file: Path) -> None:
    there = scenario_of(
        read_plan(file), file.parent, hardware="h100", workload={"prompt": 512, "batch": 2}
    )
    assert there.hardware.name == "h100"
    assert (there.workload.prompt, there.workload.batch, there.workload.tp) == (512, 2, 8)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"batch": 0}, "workload: batch: Input should be greater than or equal to 1"),
        ({"dtype": "fp4"}, "workload: dtype: Input should be 'bf16', 'fp16', .* \\(got 'fp4'\\)"),
        ({"colour": 1}, "workload: colour: Extra inputs are not permitted"),
    ],
)
def test_a_bad_change_of_the_workload_is_refused(
    file: Path, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        scenario_of(read_plan(file), file.parent, workload=fields)


def test_files_named_in_a_plan_are_found_beside_it(file: Path) -> None:
    profile = (hw_profiles.FOLDER / "h100.yaml").read_text(encoding="utf-8")
    (file.parent / "mine.yaml").write_text(profile, encoding="utf-8")
    edit(file, "", hardware="mine.yaml")
    assert scenario_of(read_plan(file), file.parent).hardware == read_profile("h100")


@pytest.mark.parametrize("name", ["h1OO", "x" * 300, "no/such/file.yaml"])
def test_a_missing_profile_is_refused_in_one_line(file: Path, name: str) -> None:
    edit(file, "", hardware=name)
    with pytest.raises(InputError, match="no such file or profile"):
        scenario_of(read_plan(file), file.parent)
