"""`import isotune`: the documented surface, typed, lazy, and results that show themselves."""

import builtins
import json
import subprocess
import sys
from io import StringIO

import numpy as np
import pytest
from rich.console import Console

import isotune
from isotune.results import Prediction
from isotune.simulator.architecture import load_model
from isotune.simulator.schedule import Plan, Workload

ISO = isotune.Plan(strategy="iso", chunks=(640, 384), comm_sms=8)


@pytest.fixture(scope="module")
def scenario():
    return isotune.scenario("llama-2-7b", "a800", prompt=1024)


@pytest.fixture(scope="module")
def found(scenario):
    return isotune.search(scenario, isotune.Options(trials=10))


@pytest.fixture(scope="module")
def swept():
    grid = isotune.Grid(
        hardware=("a800", "l4"), model=("llama-2-7b",), tp=(3, 4), prompt=(1, 512, 1024)
    )
    return isotune.sweep(grid)


def test_every_public_name_is_there():
    for name in isotune.__all__:
        assert getattr(isotune, name) is not None, name
    assert set(isotune.__all__) <= set(dir(isotune))
    with pytest.raises(AttributeError, match="serach"):
        _ = isotune.serach


def test_importing_it_imports_nothing_heavy():
    code = (
        "import sys, isotune; isotune.predict(isotune.scenario('llama-2-7b', 'a800'));"
        "heavy = {'optuna', 'numba', 'torch', 'transformers', 'plotly', 'pandas', 'rich', 'scipy'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_prediction_is_what_json_prints(scenario):
    prediction = isotune.predict(scenario, ISO)
    assert isinstance(prediction, Prediction)
    assert Prediction.model_validate(prediction.to_dict()).to_dict() == prediction.to_dict()
    json.dumps(prediction.to_dict(), allow_nan=False)
    ideal = isotune.predict(scenario, ISO, contention=False)
    assert ideal.latency_s < prediction.latency_s
    assert isotune.predict(scenario).saving == 0


def test_a_search_finds_what_the_command_finds(found, scenario):
    assert isinstance(found.best, isotune.Prediction)
    assert found.to_dict()["latency_s"] == found.best.latency_s
    again = isotune.predict(scenario, found.best.plan)
    assert again.latency_s == found.best.latency_s < found.baseline.latency_s


def test_a_sweep_has_a_row_per_combination_and_says_what_it_left_out(swept):
    assert len(swept) == 2 * 3 * 2
    assert sum(swept.skipped.values()) == 12
    columns = swept.to_dict()["columns"]
    assert {len(column) for column in columns.values()} == {12}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    one = next(row for row in rows if (row["prompt"], row["strategy"]) == (1, "iso"))
    assert one["latency_s"] is None
    json.dumps(swept.to_dict(), allow_nan=False)
    four = isotune.scenario("llama-2-7b", "a800", tp=4, prompt=1024)
    serial = next(r for r in rows if r["prompt"] == 1024 and r["strategy"] == "serial")
    assert serial["latency_s"] == pytest.approx(isotune.predict(four).latency_s, rel=1e-9)


def test_frames_have_the_rows_of_the_results(scenario, found, swept):
    pytest.importorskip("pandas")
    ops = isotune.predict(scenario, ISO).to_frame()
    assert ops["share"].sum() == pytest.approx(1)
    assert set(ops["op"]) >= {"qkv", "attention", "mlp_all_reduce"}
    plans = found.to_frame()
    assert plans["plan"].iloc[0] == "serial"
    assert plans["plan"].iloc[-1] == "best"
    assert plans["latency_s"].iloc[-1] == found.best.latency_s
    assert len(swept.to_frame()) == 12


def test_without_pandas_a_frame_is_refused_in_one_line(scenario, monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name == "pandas":
            raise ImportError(name)
        return real(name, *rest)

    prediction = isotune.predict(scenario, ISO)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(isotune.InputError, match="pip install pandas"):
        prediction.to_frame()


def test_results_show_themselves_in_a_notebook_as_on_a_terminal(scenario, found, swept):
    for result in (isotune.predict(scenario, ISO), found, swept):
        bundle = result._repr_mimebundle_()
        assert set(bundle) == {"text/plain", "text/html"}
        assert bundle["text/html"] == result._repr_html_()
        assert "\x1b" not in bundle["text/html"]
        screen = Console(width=80, file=StringIO(), record=True)
        screen.print(result)
        verdict = screen.export_text().split("\n", 1)[0].strip()
        assert verdict in bundle["text/plain"]
        assert len(repr(result)) < 400


def test_a_hostile_name_is_escaped_in_a_notebook(tmp_path):
    config = {"model_type": "llama", "hidden_size": 1024, "num_hidden_layers": 2}
    config |= {"num_attention_heads": 8, "intermediate_size": 2048, "vocab_size": 1000}
    folder = tmp_path / "<script>alert(1)<&"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    html = isotune.predict(isotune.scenario(str(folder), "a800"))._repr_html_()
    assert "<script" not in html
    assert "&lt;script&gt;" in html


def test_a_plan_written_is_read_and_predicted_to_the_last_digit(found, tmp_path):
    path = tmp_path / "plan.yaml"
    isotune.write_plan(found.best, path)
    file = isotune.read_plan(str(path))
    again = isotune.predict(isotune.scenario_of(file), file.plan)
    assert again.latency_s == found.best.latency_s


def test_a_policy_and_a_profile_are_written_and_read(tmp_path):
    from isotune.simulator.files import ModelReference
    from isotune.tuner.policy import find_policy
    from isotune.tuner.prompt_lengths import Lengths

    scenario = isotune.scenario("llama-2-7b", "rtx4090", prompt=2048)
    result = find_policy(scenario, Lengths.between(1024, 1100))
    policy = isotune.Policy(
        hardware="rtx4090",
        model=ModelReference.of(scenario.model, "llama-2-7b"),
        workload=scenario.workload,
        serial_below=result.serial_below,
        expected_saving=result.expected_saving,
        buckets=result.buckets,
    )
    isotune.write_policy(policy, tmp_path / "policy.yaml")
    assert isotune.read_policy(tmp_path / "policy.yaml") == policy
    profile = isotune.read_profile("a800")
    isotune.write_profile(profile, tmp_path / "mine.yaml", comment="mine")
    assert isotune.read_profile(str(tmp_path / "mine.yaml")) == profile


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"tp": 3}, "allowed: 1, 2, 4, 8"),
        ({"phase": "both"}, "phase"),
        ({"prompt": "4k"}, "prompt"),
    ],
)
def test_a_wrong_argument_is_one_line_that_says_what_is_allowed(wrong, message):
    with pytest.raises(isotune.InputError, match=message) as raised:
        isotune.scenario("llama-2-7b", "a800", **wrong)
    assert "\n" not in str(raised.value)


def test_objects_are_taken_where_names_are():
    by_name = isotune.scenario("llama-2-7b", "a800", tp=4)
    model, profile = load_model("llama-2-7b"), isotune.read_profile("a800")
    assert isotune.scenario(model, profile, tp=4) == by_name


def test_integers_of_numpy_are_taken_as_they_are():
    scenario = isotune.scenario("llama-2-7b", "a800", prompt=np.int64(2048), batch=np.int32(2))
    assert (scenario.workload.prompt, scenario.workload.batch) == (2048, 2)
    plan = Plan(strategy="iso", chunks=tuple(np.array([1024, 1024])), comm_sms=np.int64(8))
    assert plan == Plan(strategy="iso", chunks=(1024, 1024), comm_sms=8)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Plan(strategy="izo"), r"Plan: strategy: unknown strategy 'izo' \(allowed: serial"),
        (lambda: Plan(chunks=(0,)), r"Plan: chunks\.0: .*greater than 0"),
        (lambda: isotune.scenario("llama-2-7b", "a800", prompt=0), r"workload: prompt"),
        (lambda: Workload(tp=2.5), r"Workload: tp: "),
    ],
)
def test_bad_input_is_an_input_error_and_a_value_error(wrong, message):
    with pytest.raises(isotune.InputError, match=message) as error:
        wrong()
    assert isinstance(error.value, ValueError)
    assert "\n" not in str(error.value)


def test_a_scenario_and_a_profile_show_themselves_in_a_line():
    scenario = isotune.scenario("llama-2-7b", "a800", tp=4)
    assert repr(scenario) == "<Scenario llama-2-7b on 4 x a800, 1x4096+0>"
    assert repr(scenario.hardware) == "<HardwareProfile a800>"
