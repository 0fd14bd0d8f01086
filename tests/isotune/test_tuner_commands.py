"""The tuner's commands end to end: files in, files out, bad input in one line."""

import json

import pytest

import isotune
from isotune.cli import main


def call(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    out, err = capsys.readouterr()
    return ended.value.code, out, err


def test_a_policy_found_is_a_policy_looked_up(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lengths.csv").write_text("300,5\n1200\n2500\n")
    scenario = ("--hw", "rtx4090", "--model", "llama-2-7b", "--json")
    code, out, _ = call(capsys, "search", *scenario, "--prompts", "lengths.csv")
    policy = json.loads(out)
    assert code == 0
    assert policy["buckets"][0]["first"] == 300
    assert policy["expected_saving"] > 0.05
    lookup = ("predict", "--policy", "policy.yaml", "--json")
    code, out, _ = call(capsys, *lookup, "--prompt", "2500")
    assert json.loads(out)["plan"]["strategy"] == "iso"
    assert json.loads(out)["saving"] > 0.05
    code, _, err = call(capsys, *lookup, "--prompt", "9999")
    assert code == 2
    assert "no bucket for 9999 tokens (allowed: 300 to 2500)" in err
    code, _, err = call(capsys, *lookup)
    assert (code, err.count("\n")) == (2, 1)


def test_a_shared_search_is_joined_and_ends_with_the_plan_of_the_first(capsys, tmp_path):
    storage = ("--storage", f"sqlite:///{tmp_path}/study.db", "--json")
    scenario = ("--hw", "a800", "--model", "llama-2-7b", "--prompt", "2k")
    _, out, _ = call(capsys, "search", *scenario, "--trials", "12", "--study", "s", *storage)
    first = json.loads(out)
    assert (first["run"], first["mine"], first["failed"]) == (12, 12, 0)
    code, out, _ = call(capsys, "search", "--join", "s", *storage)
    joined = json.loads(out)
    assert code == 0
    assert (joined["run"], joined["mine"], joined["plan"]) == (12, 0, first["plan"])


def test_a_grid_file_is_swept_and_options_replace_its_axes(capsys, tmp_path):
    grid = tmp_path / "grid.yaml"
    grid.write_text("hardware: [a800]\nmodel: [llama-2-7b]\ntp: [4]\nprompt: [512, 1024]\n")
    table = str(tmp_path / "t.csv")
    arguments = ("sweep", str(grid), "--batch", "1,2", "--jobs", "1", "-o", table, "--json")
    code, out, _ = call(capsys, *arguments)
    assert code == 0
    assert json.loads(out)["rows"] == 8


def test_several_objectives_come_with_their_front(capsys, tmp_path):
    plan = str(tmp_path / "plan.yaml")
    asked = ("--comm-dtype", "bf16,int8", "--objectives", "latency,transfer_loss")
    scenario = ("--hw", "rtx4090", "--model", "llama-2-7b", "--prompt", "2k", "--trials", "60")
    _, out, _ = call(capsys, "search", *scenario, *asked, "-o", plan, "--json")
    front = json.loads(out)["front"]
    assert {point["plan"]["comm_dtype"] for point in front} == {"bf16", "int8"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("search", "--hw", "a800", "--sampler", "grid"), "allowed: auto, tpe"),
        (("search", "--hw", "a800", "--objectives", "speed"), "allowed: latency"),
        (("search", "--hw", "a800", "--robust", "expected"), "has no errors"),
        (("search", "--hw", "a800", "--prompt", "8k:1k"), "not a range of prompt lengths"),
        (("search", "--hw", "a800", "--storage", "redis://x"), "allowed: postgresql://"),
        (("search", "--join", "s"), "--join needs --storage"),
        (("search",), "give --hw"),
        (("sweep",), "give a grid file or --hw"),
        (("sweep", "--hw", "a800", "--prompt", "1k:2k"), "first:last:step"),
        (("sweep", "--hw", "a800", "--strategies", "magic", "-o", "x.csv"), "serial"),
    ],
)
def test_bad_input_is_one_line_that_says_what_is_allowed(
    capsys, tmp_path, monkeypatch, arguments, says
):
    monkeypatch.chdir(tmp_path)
    if "--robust" in arguments and hasattr(isotune.read_profile("a800"), "errors"):
        pytest.skip("this profile has errors")
    code, out, err = call(capsys, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert says in err
