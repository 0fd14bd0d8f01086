"""A lossy plan is judged by its numbers, and a drop set is measured whole."""

import json
import math
from importlib.util import find_spec
from itertools import pairwise

import pytest
import yaml
from _support.paths import ROOT
from _support.tiny_models import model_reference

from isotune.commands.quality import QualityOptions
from isotune.simulator.errors import InputError
from isotune.simulator.files import read_plan
from isotune.validation.real_run import Setup
from isotune.validation.real_run import lm_eval_harness as harness
from isotune.validation.spd.model import evaluate, load_network, read_corpus, read_tokenizer

SCRIPTS = ROOT / "experiments"
TP, CONTEXT = 2, 48


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model trained for some seconds by the script that trains the larger ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPTS)
        from train_small import Budget, Size, train
    place = tmp_path_factory.mktemp("quality") / "tiny"
    size = Size(
        kind="llama", hidden=32, blocks=3, heads=8, kv_heads=4, vocabulary=300, context=CONTEXT,
        batch=8, peak_rate=6e-3, files=48,
    )  # fmt: skip
    train(place, size, Budget(seconds=1e9, steps=40))
    return place


@pytest.fixture
def plan(tmp_path, folder):
    def write(treatments=None, **plan):
        fields = {
            "hardware": "a100",
            "model": model_reference(folder),
            "workload": {"prompt": 32, "tp": TP},
            "plan": plan,
            "treatments": treatments or {},
        }
        path = tmp_path / "plan.yaml"
        path.write_text(yaml.safe_dump(fields))
        return path

    return write


@pytest.fixture
def judge(folder):
    """The gate on a plan, without the timed run of the plan's ranks."""

    def run(path, *, rise=None, agreement=None, change=None, tasks=((), None), recovered=None):
        model = None if recovered is None else str(recovered)
        setup = Setup.of(read_plan(path), path.parent, device="cpu", model=model)
        options = QualityOptions(
            text=[folder / "evaluation.txt"],
            max_perplexity_rise=rise,
            min_agreement=agreement,
            max_logprob_change=change,
            context=CONTEXT,
            windows=6,
            lm_eval=tasks[0],
            lm_eval_folder=tasks[1],
        )
        return options.gate(setup).judge(setup, as_json=True).model_dump(mode="json")

    return run


def test_training_learns_and_leaves_a_folder_with_text_of_its_own(folder):
    training = json.loads((folder / "training.json").read_text())
    assert training["last_loss"] < 5.0  # log(300) is 5.7
    assert {path.name for path in folder.iterdir()} >= {
        *("config.json", "model.safetensors", "tokenizer.json"),
        *("calibration.txt", "evaluation.txt"),
    }
    assert not list(folder.glob("*.pt"))
    texts = [(folder / f"{name}.txt").read_text() for name in ("calibration", "evaluation")]
    assert all(len(text) > 2000 for text in texts)
    assert texts[0] != texts[1]


@pytest.fixture
def page_of(folder, monkeypatch):
    """What the page of figures measures, and what it says of it."""
    monkeypatch.syspath_prepend(SCRIPTS)
    from spd_accuracy import Effort, measure
    from spd_page import page

    def found():
        sizes = {"evaluation": 3, "calibration": 4, "held_back": 2, "scanned": 2}
        return measure(folder, TP, Effort(context=CONTEXT, orders=1, epochs=1, **sizes))

    return found, lambda results: "\n".join(page({("tiny", TP): results}))


def test_the_page_of_figures_is_made_from_a_model(page_of):
    from spd_page import COLUMNS, REPAIRS

    found = page_of[0]()
    assert found["counts"] == [1, 2, 3]
    assert set(found["curves"]) == set(COLUMNS)
    assert all(len(curve) == 3 for curve in found["curves"].values())
    assert found["curves"]["random order"][-1] == found["curves"]["sensitivity order"][-1]
    for before, after in pairwise(COLUMNS[1:]):
        for at, change in enumerate(found["changes"][after]):
            grown = found["curves"][after][at] / found["curves"][before][at]
            assert change["mean"] == pytest.approx(math.log(grown), abs=1e-9)
    text = page_of[1](found)
    for column in REPAIRS:
        assert f"{found['curves'][column][1] / found['whole'] - 1:+.2%}" in text
    assert "- tiny, tp 2: sensitivity order beats random at" in text


def test_the_page_tells_a_rise_from_noise_and_hides_neither(page_of):
    found, text = page_of[0](), page_of[1]
    nothing = {"mean": 0.0, "error": 0.001}
    found["changes"] = dict.fromkeys(found["changes"], [nothing] * 3)
    assert "rises beyond noise after no step; within noise after no step" in text(found)
    found["changes"]["+ head grouping"] = [{"mean": 0.0009, "error": 0.001}, nothing, nothing]
    found["changes"]["+ distillation"] = [nothing, nothing, {"mean": 0.0011, "error": 0.001}]
    told = text(found)
    assert "beyond noise after + distillation at 3 blocks;" in told
    assert "within noise after + head grouping at 1 blocks;" in told
    rows = [line for line in told.splitlines() if line.endswith("% |")]
    marks = ["".join(mark for mark in "~↑" if mark in row) for row in rows]
    assert marks == ["~", "", "↑"]


def test_a_plan_that_changes_nothing_is_good(judge, plan):
    found = judge(plan(), rise=0.001, agreement=1.0, change=1e-3)
    assert found["ok"]
    assert found["agreement"] == 1.0
    assert abs(found["perplexity_rise"]) < 1e-5
    assert found["tokens"] == 6 * (CONTEXT - 1)


def test_each_limit_is_kept_or_named(judge, plan):
    path = plan(dropped=[0, 1, 2])
    loose = judge(path)
    assert loose["ok"]
    assert loose["max_logprob_change"] > 1e-3
    tight = judge(path, rise=0.0, agreement=1.0, change=1e-6)
    expected = [loose["perplexity_rise"] > 0, loose["agreement"] < 1, True]
    assert [
        any(word in line for line in tight["exceeded"])
        for word in ("perplexity", "agrees", "log-probability")
    ] == expected
    assert not tight["ok"]


def test_quality_is_the_perplexity_that_the_virtual_ranks_have(judge, plan, folder):
    network = load_network(folder, TP)
    corpus = read_corpus([folder / "evaluation.txt"], read_tokenizer(folder, None, 300))
    windows = corpus.windows(CONTEXT, count=6)
    found = judge(plan(dropped=[1, 2]))
    dropped = evaluate(network, windows, dropped=(1, 2)).perplexity
    assert found["perplexity"] == pytest.approx(dropped, rel=1e-5)
    assert found["original_perplexity"] == pytest.approx(evaluate(network, windows).perplexity)


def test_a_recovered_folder_runs_on_real_ranks_and_is_judged_beside_its_original(
    isotune, judge, plan, folder, tmp_path
):
    path = plan(strategy="iso", chunks=[16, 16], dropped=[0, 1, 2])
    target, evaluation = tmp_path / "recovered", ("--text", folder / "evaluation.txt")
    texts = ("--text", folder / "calibration.txt", "--eval-text", folder / "evaluation.txt")
    sizes = ("--context", CONTEXT, "--windows", "6", "--json")
    # Two held-back windows would call every change of this model noise.
    steps = ("--steps", "bias,neurons,distil", "--epochs", "5", "--held-back", "50%")
    code, out, err = isotune("recover", "--plan", path, *texts, "-o", target, *steps, *sizes)
    assert code == 0, err
    told = json.loads(out)["evaluation"]
    assert told["recovered"] != pytest.approx(told["zero_shot"], rel=1e-5)
    assert judge(path)["perplexity"] == pytest.approx(told["zero_shot"], rel=1e-5)
    fast = ("--device", "cpu", "--repeat", "1", "--warmup", "1", "--model", target)
    limits = ("--max-perplexity-rise", "none", "--max-logprob-change", "1e-6")
    gate = ("--quality", *evaluation, "--original", folder, *limits)
    code, out, err = isotune("validate", path, *fast, *gate, *sizes)
    found = json.loads(out)
    assert (code, found["complete"]) == (1, True), err
    assert found["time"]["measured_s"] > 0
    assert 0 < found["numbers"]["max_rel_error"] < 1e-4
    assert found["quality"]["perplexity"] == pytest.approx(told["recovered"], rel=1e-5)
    assert found["quality"]["original_perplexity"] == pytest.approx(told["whole"], rel=1e-5)
    assert found["quality"]["limits"]["max_logprob_change"] == 1e-6
    assert "the plan is not good enough: a log-probability changes by" in err


def test_a_quantised_transfer_is_judged_too(judge, plan):
    assert judge(plan(comm_dtype="int8"))["max_logprob_change"] > 1e-5


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("--quality",), ["--text"]),
        (("--text", "t.txt"), ["--text needs --quality"]),
        (("--quality", "--text", "no.txt"), ["no.txt", "cannot read"]),
        (("--quality", "--layers", "1", "--text", "TEXT"), ["whole model", "--layers"]),
        (("--quality", "--text", "TEXT", "--model", "CONFIG"), ["trained weights"]),
        (("--quality", "--text", "TEXT", "--max-perplexity-rise", "x"), ["--max-perplexity-rise"]),
        (("--quality", "--text", "TEXT", "--context", "4096"), ["--context", "positions"]),
    ],
)
def test_what_cannot_be_judged_is_refused_before_anything_runs(
    isotune, plan, folder, monkeypatch, arguments, parts
):
    monkeypatch.setattr("isotune.validation.real_run.run_validation.run", pytest.fail)
    there = {"TEXT": folder / "evaluation.txt", "CONFIG": folder / "config.json"}
    given = [there.get(argument, argument) for argument in arguments]
    if "--context" not in given:
        given += ["--context", CONTEXT]
    code, out, err = isotune("validate", plan(dropped=[1]), "--device", "cpu", *given)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    for part in parts:
        assert part in err


def test_without_the_harness_its_tasks_are_refused(judge, plan, monkeypatch):
    monkeypatch.setattr(
        harness, "find_spec", lambda name: None if name == "lm_eval" else find_spec(name)
    )
    with pytest.raises(InputError, match=r"--lm-eval needs lm_eval.*: pip install"):
        judge(plan(dropped=[1]), tasks=(("arc_easy",), None))


def test_the_harness_scores_the_original_and_the_plan(judge, plan, tmp_path):
    pytest.importorskip("lm_eval")
    pytest.importorskip("accelerate")
    lines = [{"text": f"def f{n}(self):", "options": [" return", " §"]} for n in range(8)]
    data = tmp_path / "data.json"
    data.write_text("\n".join(json.dumps(line | {"right": 0}) for line in lines))
    task = {
        "task": "small",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{text}}",
        "doc_to_choice": "{{options}}",
        "doc_to_target": "{{right}}",
        "metric_list": [{"metric": "acc"}],
    }
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "small.yaml").write_text(yaml.safe_dump(task))
    path = plan(dropped=[0, 1, 2])
    (score,) = judge(path, tasks=(("small",), tmp_path / "tasks"))["lm_eval"]
    assert (score["task"], score["metric"]) == ("small", "acc,none")
    assert 0 <= score["planned"] <= 1
    with pytest.raises(InputError, match=r"--lm-eval: .*no_such_task"):
        judge(path, tasks=(("no_such_task",), None))


@pytest.fixture
def table(folder, tmp_path, isotune):
    path = tmp_path / "sensitivity.json"
    text = ("--text", folder / "calibration.txt", "--context", CONTEXT, "--windows", "4")
    found = isotune(
        "sensitivity", "--model", folder, "--tp", TP, *text, "-o", path, "--treatments", "bias"
    )
    assert found[0] == 0, found[2]
    return path


def test_a_drop_set_measured_whole_corrects_the_table_and_the_next_search(
    isotune, folder, plan, table, tmp_path
):
    costs = json.loads(table.read_text())
    assert len(costs["treatments"]["bias"]) == 3
    path = plan({0: "bias", 1: "zero-shot"}, dropped=[0, 1])
    text = ("--text", folder / "calibration.txt", "--context", CONTEXT, "--windows", "4")
    asked = ("remeasure", path, "--sensitivity", table, *text, "--json")
    code, out, err = isotune(*asked, "--accuracy-budget", "100%")
    assert code == 0, err
    (found,) = json.loads(out)["rounds"]
    added = costs["treatments"]["bias"][0] + costs["blocks"][1]
    assert found["predicted_growth"] == pytest.approx(added)
    assert found["measured_growth"] != pytest.approx(added)
    (check,) = json.loads(table.read_text())["checks"]
    assert check["growth"] == found["measured_growth"]
    again = json.loads(isotune(*asked, "--accuracy-budget", "100%")[1])["rounds"][0]
    assert again["predicted_growth"] == pytest.approx(found["measured_growth"])
    best = tmp_path / "best.yaml"
    search = ("search", "--hw", "a100", "--model", folder, "--tp", TP, "--prompt", "32")
    search += ("--sensitivity", table, "--accuracy-budget", "50%", "--trials", "4", "-o", best)
    code, out, err = isotune(*search, "--treatments", "zero-shot", "--front", "--json")
    assert code == 0, err
    result = json.loads(out)
    assert set(result["treatments"].values()) == {"zero-shot"}
    assert "ISB/SB/ESB rule" in [point["rule"] for point in result["accuracy_front"]]
    written = yaml.safe_load(best.read_text())
    assert sorted(map(int, written["treatments"])) == written["plan"]["dropped"]


def test_rounds_end_with_a_set_within_the_budget(isotune, folder, plan, table):
    path = plan(dropped=[0, 1, 2])
    text = ("--text", folder / "calibration.txt", "--context", CONTEXT, "--windows", "4")
    options = ("--accuracy-budget", "0%", "--rounds", "5", "--epochs", "1", "--json")
    code, out, _ = isotune("remeasure", path, "--sensitivity", table, *text, *options)
    rounds = json.loads(out)["rounds"]
    ended = yaml.safe_load(path.read_text())["plan"]["dropped"]
    kept = not ended or rounds[-1]["measured_growth"] <= 0
    assert code == (0 if kept else 1)
    assert kept or len(rounds) == 5
    assert all(one["measured_growth"] > 0 for one in rounds[:-1])
    assert len(rounds) == len(json.loads(table.read_text())["checks"])
