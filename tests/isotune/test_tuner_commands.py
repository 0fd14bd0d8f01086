"""The tuner's commands end to end: files in, files out, bad input in one line."""

import json
from pathlib import Path

import pytest
import yaml

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


def test_a_shared_search_is_joined_and_ends_with_the_plan_of_the_first(
    capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    storage = ("--storage", f"sqlite:///{tmp_path}/study.db", "--json")
    scenario = ("--hw", "a800", "--model", "llama-2-7b", "--prompt", "2k")
    _, out, _ = call(capsys, "search", *scenario, "--trials", "12", "--study", "s", *storage)
    first = json.loads(out)
    assert (first["run"], first["mine"], first["failed"]) == (12, 12, 0)
    assert first["kind"] == "shared_search"
    assert first["command"].startswith("isotune search --hw a800")
    found = str(tmp_path / "joined.yaml")
    code, out, _ = call(capsys, "search", "--join", "s", *storage, "-o", found)
    joined = json.loads(out)
    assert code == 0
    assert (joined["run"], joined["mine"], joined["plan"]) == (12, 0, first["plan"])
    assert yaml.safe_load(Path(found).read_text())["plan"]["chunks"] == first["plan"]["chunks"]


@pytest.fixture
def costs(tmp_path):
    """Costs of llama-2-7b's 32 blocks: the bias correction halves those of the last ones."""
    path = tmp_path / "sensitivity.json"
    zero_shot = [0.1] * 24 + [0.002] * 8
    table = {"model": "llama-2-7b", "blocks": zero_shot, "transfer": {"int8": 0.005}}
    path.write_text(json.dumps(table | {"treatments": {"bias": [c / 2 for c in zero_shot]}}))
    return path


def test_whoever_searches_is_told_how_each_dropped_block_is_repaired(capsys, tmp_path, costs):
    scenario = ("--hw", "rtx4090", "--model", "llama-2-7b", "--sensitivity", str(costs), "--json")
    policy = tmp_path / "policy.yaml"
    many = (*scenario, "--prompt", "900:1000", "-o", str(policy))
    _, out, _ = call(capsys, "search", *many)
    written = yaml.safe_load(policy.read_text())
    assert written["buckets"][0]["rule"]["dropped"] == list(range(24, 32))
    assert sorted(map(int, written["treatments"])) == list(range(24, 32))
    assert set(written["treatments"].values()) == {"zero-shot", "bias"}
    assert json.loads(out)["treated_growth"] == pytest.approx(0.01)
    _, out, _ = call(capsys, "search", *many, "--comm-dtype", "int8")
    assert len(yaml.safe_load(policy.read_text())["treatments"]) == 5  # 1 % less int8's 0.5 %
    code, _, err = call(
        capsys, "search", *many, "--comm-dtype", "int8", "--accuracy-budget", "0.1%"
    )
    assert (code, err.count("\n")) == (2, 1)
    assert "int8 transfer costs more than the accuracy budget of 0.1 %" in err
    study = ("--storage", f"sqlite:///{tmp_path}/study.db", "--json")
    asked = ("--prompt", "128", "--trials", "16", "--treatments", "bias", "--study", "s")
    for command in ((*scenario[:-1], *asked), ("--join", "s")):
        code, out, _ = call(capsys, "search", *command, *study)
        found = json.loads(out)
        assert code == 0
        assert found["plan"]["dropped"]
        assert sorted(map(int, found["treatments"])) == found["plan"]["dropped"]
        assert set(found["treatments"].values()) == {"bias"}
    plan = tmp_path / "plan.yaml"
    batches = ("--tp", "4", "--batch", "1,2", "--prompt", "128", "--trials", "16", "-o", str(plan))
    code, _, err = call(capsys, "search", *scenario, *batches)
    assert code == 0, err
    best = yaml.safe_load(plan.read_text())
    assert sorted(map(int, best["treatments"])) == best["plan"]["dropped"] != []


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


@pytest.mark.parametrize("mode", ["expected", "worst"])
def test_a_robust_plan_says_in_which_sense_it_is_best(capsys, tmp_path, mode):
    plan = str(tmp_path / "plan.yaml")
    scenario = ("--hw", "a800", "--model", "llama-2-7b", "--prompt", "1k", "--trials", "8")
    _, out, _ = call(capsys, "search", *scenario, "--robust", mode, "-o", plan, "--json")
    found = json.loads(out)["robust"]
    assert found["mode"] == mode
    assert 0 < found["near_best_in"] <= 1


def test_several_tp_and_batches_give_a_front_and_the_plan_of_the_best(capsys, tmp_path):
    plan = str(tmp_path / "plan.yaml")
    scenario = ("--hw", "a800", "--model", "llama-2-7b", "--prompt", "1k", "--trials", "40")
    asked = ("search", *scenario, "--tp", "2,8", "--batch", "1,2", "-o", plan)
    _, out, _ = call(capsys, *asked, "--json")
    found = json.loads(out)
    rates = [row["tokens_per_s_per_gpu"] for row in found["front"]]
    assert rates == sorted(rates, reverse=True)
    assert found["workload"]["tp"] == found["front"][0]["tp"]
    _, out, _ = call(capsys, "predict", "--plan", plan, "--json")
    assert json.loads(out)["latency_s"] == found["latency_s"]
    _, out, _ = call(capsys, *asked)
    assert f"{rates[0]:,.0f} tokens/s per GPU" in out


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
        (("search", "--hw", "a800", "--tp", "2,x"), "--tp: '2,x' is not a number above 0"),
        (("search", "--hw", "a800", "--tp", "2,16"), "tp: a800 has 8 GPUs, not 16"),
        (("search", "--hw", "a800", "--batch", "1,2", "--prompt", "1k:8k"), "with one --prompt"),
        (
            ("search", "--hw", "a800", "--tp", "2,4", "--trace", "t.json"),
            "several layouts or batches",
        ),
        (("search", "--hw", "a800", "--tp", "2,4", "--storage", "sqlite:///x"), "one --tp"),
        (
            ("search", "--hw", "a800", "--prompt", "1k:2k", "--max-chunks", "2"),
            "not go with a policy",
        ),
        (("search", "--hw", "a800", "--study", "s"), "allowed with: --storage"),
        (("search", "--hw", "a800", "--time-budget", "1h"), "allowed with: --measured"),
        (("search", "--join", "s", "--storage", "sqlite:///x", "--trials", "9"), "--trials does"),
        (
            ("search", "--hw", "a800", "--storage", "sqlite:///x", "--objectives", "speed"),
            "allowed: latency",
        ),
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
