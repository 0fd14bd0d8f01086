"""`isotune search --measured`: real runs decide, within a budget, and nothing measured is lost."""

import json
from multiprocessing import active_children

import pytest
import yaml

pytest.importorskip("torch")

from isotune.cli import main
from isotune.validation.real_run.comparison import Collected

MODEL = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "intermediate_size": 96,
    "vocab_size": 131,
    "max_position_embeddings": 1024,
}


@pytest.fixture
def arguments(tmp_path):
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(MODEL))

    def of(budget):
        return [
            *("search", "--hw", "a800", "--model", str(folder), "--tp", "2", "--prompt", "512"),
            *("--measured", "--device", "cpu", "--time-budget", budget, "--json"),
            *("-o", str(tmp_path / "plan.yaml")),
        ]

    return of


def run(capsys, arguments):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    captured = capsys.readouterr()
    return int(stop.value.code or 0), captured.out, captured.err


def test_the_best_measured_plan_wins_within_the_budget(arguments, capsys, tmp_path):
    code, out, err = run(capsys, arguments("12s"))
    assert code == 0, err
    found = json.loads(out)
    assert sum(sum(item["measured_all_s"]) for item in found["tried"]) < 12
    tried = {json.dumps(item["plan"]): item for item in found["tried"]}
    assert len(tried) == len(found["tried"]) > 8  # the simulator's, serial, and Optuna's own
    assert {item["proposed"] for item in tried.values()} == {True, False}
    assert all(item["measured_s"] > 0 and item["predicted_s"] > 0 for item in tried.values())
    assert json.dumps(found["plan"]) in tried
    assert found["compared_in_turns"]
    saving = 1 - found["measured_s"] / found["serial_measured_s"]
    assert found["measured_saving"] == pytest.approx(saving)
    assert -1 <= found["rank_correlation"] <= 1
    assert set(found["kinds"]) >= {"attention", "attention_all_reduce", "mlp", "mlp_all_reduce"}
    assert found["plan"]["strategy"] in (tmp_path / "plan.yaml").read_text()


def test_measured_times_are_shared_and_kept_in_a_storage(arguments, capsys, tmp_path):
    url, costs = f"sqlite:///{tmp_path / 'study.db'}", tmp_path / "sensitivity.json"
    table = {"model": "tiny", "blocks": [0.1, 0.1], "treatments": {"bias": [0.0, 0.0]}}
    costs.write_text(json.dumps(table))
    shared = [*arguments("60s"), "--storage", url, "--study", "mine", "--trials", "10"]
    code, out, err = run(capsys, [*shared, "--sensitivity", str(costs)])
    assert code == 0, err
    first = json.loads(out)
    assert len(first["tried"]) > 3
    written = yaml.safe_load((tmp_path / "plan.yaml").read_text())
    # Which plan is fastest is measured: it may drop nothing.
    assert written.get("treatments", {}) == {str(n): "bias" for n in first["plan"]["dropped"]}
    code, _, err = run(capsys, ["search", "--join", "mine", "--storage", url])
    assert code == 2
    assert "holds measured times" in err


def test_an_interrupted_search_keeps_what_it_measured(arguments, capsys, tmp_path, monkeypatch):
    take = Collected.take

    def take_some(self, rank, message):
        take(self, rank, message)
        if len(self.times) > 6:
            raise KeyboardInterrupt

    monkeypatch.setattr(Collected, "take", take_some)
    code, out, err = run(capsys, arguments("600s"))
    assert code == 130
    assert err == "isotune: interrupted\n"
    found = json.loads(out)
    assert found["failure"] == "interrupted"
    assert not found["complete"]
    assert not found["compared_in_turns"]
    assert found["tried"]
    assert (tmp_path / "plan.yaml").exists()


def test_a_rank_killed_in_the_middle_is_named_and_what_was_measured_is_kept(
    arguments, capsys, tmp_path, monkeypatch
):
    take, ranks = Collected.take, []

    def take_and_kill(self, rank, message):
        take(self, rank, message)
        if len(self.times) > 6 and not ranks:
            ranks.extend(sorted(active_children(), key=lambda one: one.pid))
            ranks[1].kill()

    monkeypatch.setattr(Collected, "take", take_and_kill)
    code, out, err = run(capsys, arguments("600s"))
    assert code == 1
    assert err.startswith("isotune: rank 1 of 2 (measuring, plan ")
    assert "was killed by SIGKILL" in err
    assert err.count("\n") == 1
    found = json.loads(out)
    assert f"isotune: {found['failure']}\n" == err
    assert not found["complete"]
    assert any(item["measured_all_s"] for item in found["tried"])
    assert (tmp_path / "plan.yaml").exists()
    assert not any(rank.is_alive() for rank in ranks)


@pytest.mark.parametrize(
    ("extra", "parts"),
    [
        (["--budget", "soon"], ["--time-budget", "'soon'", "600s"]),
        (["--device", "tpu"], ["--device", "cpu, cuda"]),
        (["--objectives", "latency,transfer_loss"], ["--measured", "latency"]),
        (["--prompt", "1k:4k"], ["--measured", "one prompt"]),
        (["--robust", "worst"], ["--measured", "--robust"]),
        (["--tp", "8", "--model", "llama-2-70b"], ["GB of memory", "free"]),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(arguments, capsys, extra, parts):
    code, out, err = run(capsys, [*arguments("5s"), *extra])
    assert code == 2
    assert not out
    assert err.count("\n") == 1
    for part in parts:
        assert part in err
