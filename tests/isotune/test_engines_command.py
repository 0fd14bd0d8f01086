"""`isotune engines` and `--engine` on the command line."""

import json

import pytest

from isotune.simulator.engines import ENGINES

SMALL = ("--hw", "h100", "--model", "llama-2-7b", "--prompt", "1k")


def test_the_list_has_every_engine_and_the_default(isotune):
    found = json.loads(isotune("engines", "list", "--json").out)
    assert found["default"] == "nccl"
    assert [one["name"] for one in found["engines"]] == list(ENGINES)
    assert all(name in isotune("engines", "list").out for name in ENGINES)


@pytest.mark.parametrize("name", ENGINES)
def test_every_engine_is_shown_with_a_source_for_every_fact(isotune, name):
    done = isotune("engines", "show", name)
    assert (done.code, done.err) == (0, "")
    assert "[1]" in done.out
    assert json.loads(isotune("engines", "show", name, "--json").out)["name"] == name


def test_a_difference_names_the_fact_and_both_values(isotune):
    found = json.loads(isotune("engines", "diff", "vllm", "trtllm", "--json").out)
    budget = next(one for one in found["facts"] if one["fact"] == "token_budget.1")
    assert budget["first"].startswith("2048 tokens (sm80)")
    assert budget["second"] == "8192 tokens"
    assert isotune("engines", "diff", "vllm", "vllm").out.strip() == "The same in every fact."


def test_every_output_names_the_engine(isotune, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "engine nccl" in " ".join(isotune("predict", *SMALL).out.split())
    search = ("search", *SMALL, "--trials", "5", "--max-chunks", "2", "--engine", "vllm")
    assert "engine vllm" in " ".join(isotune(*search).out.split())
    assert "engine: vllm" in (tmp_path / "plan.yaml").read_text()
    again = isotune("predict", "--plan", "plan.yaml", "--json")
    assert json.loads(again.out)["workload"]["engine"] == "vllm"


def test_another_engine_launches_a_plan_its_own_way(isotune, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    isotune("search", *SMALL, "--trials", "5", "--max-chunks", "2")
    found = json.loads(
        isotune("predict", "--plan", "plan.yaml", "--engine", "executor", "--json").out
    )
    assert (found["workload"]["engine"], found["workload"]["runtime"]) == ("executor", "eager")


def test_a_sweep_has_a_row_per_engine(isotune, tmp_path):
    table = tmp_path / "t.csv"
    done = isotune(
        *("sweep", "--hw", "h100", "--model", "llama-2-7b", "--prompt", "256", "--tp", "8"),
        *("--phase", "decode", "--engine", "nccl,vllm", "--strategies", "serial"),
        *("-o", str(table), "--jobs", "1"),
    )
    assert done.code == 0
    head, *rows = (line.split(",") for line in table.read_text().splitlines())
    times = {row[head.index("engine")]: float(row[head.index("latency_s")]) for row in rows}
    assert times["vllm"] < times["nccl"]


def test_an_unknown_engine_is_one_line(isotune):
    done = isotune("predict", *SMALL, "--engine", "vlm")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "allowed: nccl, vllm" in done.err
