"""`isotune check`, and the error bars of `predict` and `search`, as a user runs them."""

import json
from pathlib import Path

import pytest

GEMMS = """op,hw,dtype,m,n,k,latency_us
gemm,h100,bf16,1,4096,4096,12
gemm,h100,bf16,4096,4096,4096,215
gemm,h100,fp64,8,8,8,5
"""
RUNS = """hw,model,tp,batch,prompt_len,phase,steps,link,runtime,strategy,latency_ms,source
h100,Qwen2.5-72B-Instruct,8,1,4096,prefill,1,nvlink_multimem,vllm_eager,serial,180,me
h100,Qwen2.5-72B-Instruct,8,1,4096,prefill,1,nvlink_multimem,vllm_eager,spd_all,160,me
h100,Qwen2.5-720B,8,1,4096,prefill,1,nvlink_multimem,vllm_eager,serial,180,me
"""


@pytest.fixture
def table(tmp_path: Path):
    def write(text: str, name: str = "table.csv") -> str:
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


def test_json_has_errors_by_operation_as_fractions(isotune, table):
    rows = GEMMS.replace("fp64", "bf16")
    found = json.loads(isotune("check", table(rows), "--json").out)
    assert found["hw"] == "h100"
    gemm = found["ops"]["gemm"]
    assert gemm["rows"] == 3
    assert set(gemm) >= {"rows", "mape", "median_ape", "p90_ape", "bias"}
    assert 0 <= gemm["median_ape"] <= gemm["p90_ape"] < 1
    assert found["end_to_end"] is None
    assert {group["by"] for group in found["groups"]} == {"m", "operands", "dtype", "parameters"}
    assert found["worst"][0]["line"] in (2, 3, 4)


def test_json_of_whole_passes_has_savings_in_points_and_counts_what_it_cannot_score(isotune, table):
    found = json.loads(isotune("check", table(RUNS), "--json").out)
    passes = found["end_to_end"]
    assert passes["rows"] == 2
    assert passes["mape"] < 0.1
    assert 0 <= passes["saving_mae_points"] < 5
    assert found["ops"] == {}
    assert found["unscored"] == {"model 'Qwen2.5-720B' is not bundled": 1}


def test_for_people_the_worst_rows_are_named_with_their_line(isotune, table):
    text = isotune("check", table(RUNS), "--hw", "h100", "--worst", "1").out
    for promised in ("MAPE", "bias", "phase prefill", "worst rows", "80 % interval", "not scored"):
        assert promised in text, promised


def test_a_folder_is_every_table_in_it_against_the_machine_it_names(isotune, table, tmp_path):
    table(GEMMS.replace("fp64", "bf16"), "a.csv")
    table(RUNS, "b.csv")
    table("x,y\n1,2\n", "c.csv")
    found = json.loads(isotune("check", str(tmp_path), "--json").out)
    assert [check["table"] for check in found["checks"]] == ["a.csv", "b.csv"]
    assert list(found["refused"]) == ["c.csv"]
    text = isotune("check", str(tmp_path)).out
    assert "whole passes" in text
    assert "c.csv: not scored" in text


@pytest.mark.parametrize(
    ("text", "arguments", "complaint"),
    [
        (RUNS, ("--hw", "nonesuch"), "no such file or profile"),
        (GEMMS.replace("12\n", "-12\n"), (), "row 2: column latency_us"),
        (GEMMS.replace("215", "nan"), (), "row 3: column latency_us"),
        (GEMMS.replace("gemm,h100,bf16,1,", "jemm,h100,bf16,1,"), (), "row 2: column op"),
        (GEMMS, (), "row 4: column dtype"),
        (GEMMS.replace("op,", "up,"), (), "column 'op' is missing"),
        (RUNS.replace("180", "0", 1), (), "row 2: column latency_ms"),
        (RUNS.replace("h100,", "a100,", 1), (), "names a100, h100; give the profile with --hw"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(isotune, table, text, arguments, complaint):
    outcome = isotune("check", table(text), *arguments)
    assert outcome.code == 2
    assert complaint in outcome.err
    assert outcome.err.count("\n") == 1
    assert not outcome.out


def test_predict_prints_an_interval_and_calls_a_saving_within_its_error_that(isotune):
    plan = ("--strategy", "iso", "--chunks", "128,128", "--prompt", "256")
    text = " ".join(isotune("predict", "--hw", "a800", *plan).out.split())
    assert "80 % interval" in text
    assert "less than its error" in text
    found = json.loads(isotune("predict", "--hw", "a800", *plan, "--json").out)
    low, high = found["latency_interval_s"]
    assert low < found["latency_s"] < high
    low, high = found["saving_interval"]
    assert low < 0 < high


def test_search_gives_intervals_for_the_best_plan_the_baseline_and_each_technique(
    isotune, tmp_path
):
    plan = str(tmp_path / "plan.yaml")
    found = json.loads(isotune("search", "--hw", "h100", "--trials", "5", "--json", "-o", plan).out)
    for item in (found, found["baseline"], *found["techniques"]):
        low, high = item["latency_interval_s"]
        assert low < item["latency_s"] < high
        low, high = item["saving_interval"]
        assert low <= item["saving"] <= high
