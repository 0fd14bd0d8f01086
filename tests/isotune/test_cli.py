"""Each command end to end, as a user runs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import isotune as package

FAST = ("--trials", "25")


def test_search_writes_a_plan_that_predict_reproduces_to_the_last_digit(isotune, tmp_path):
    plan = tmp_path / "plan.yaml"
    found = json.loads(isotune("search", "--hw", "a800.yaml", "--json", "-o", str(plan), *FAST).out)
    again = json.loads(isotune("predict", "--plan", str(plan), "--json").out)
    for key in ("latency_s", "serial_latency_s", "saving", "compute_s", "comm_s", "exposed_comm_s"):
        assert again[key] == found[key], key
    assert again["plan"] == found["plan"]
    assert yaml.safe_load(plan.read_text())["predicted"]["latency_s"] == found["latency_s"]


def test_search_without_other_arguments_takes_llama_2_70b_on_the_whole_node(isotune, tmp_path):
    found = json.loads(
        isotune("search", "--hw", "a800", "--json", "-o", str(tmp_path / "p.yaml"), *FAST).out
    )
    assert found["model"] == "llama-2-70b"
    work = found["workload"]
    assert (work["tp"], work["prompt"], work["batch"], work["dtype"]) == (8, 4096, 1, "bf16")


def test_search_for_people_has_everything_the_main_job_promises(isotune, tmp_path):
    asked = ("search", "--hw", "a800", "-o", str(tmp_path / "p.yaml"), *FAST)
    text = isotune(*asked, "--details").out
    for promised in (
        "faster",
        "plan: ISO",
        "latency",
        "exposed communication",
        "lower bound max(C, M)",
        "above perfect overlap",
        "where the time goes",
        "GEMM overlap",
        "ISO, even split",
        "ISO, tuned",
        "SPD, 56 blocks",
        "int8 transfer",
        "all combined",
        "ISO pays off at every length",
        "Optuna: 25 trials",
        "Exact optimum over",
        "isotune predict --plan",
    ):
        assert promised in text, promised
    assert max(map(len, text.splitlines())) <= 80 or str(tmp_path) in text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--drop", "3,4"), "the model's outputs change (2 dropped all-reduces)."),
        (("--comm-dtype", "int8"), "the model's outputs change (int8 transfer)."),
        (("--strategy", "iso", "--chunks", "1024,1024"), None),
    ],
)
def test_the_verdict_itself_says_that_outputs_change(isotune, options, said):
    case = ("--hw", "a800", "--model", "llama-2-7b", "--prompt", "2k", "--tp", "8")
    out = isotune("predict", *case, *options, "--details").out.split("llama-2-7b")[0]
    out = " ".join(out.split())
    assert out.endswith(said) if said else "outputs" not in out


def test_a_lossy_technique_is_shown_but_never_chosen_silently(isotune, tmp_path):
    found = json.loads(
        isotune("search", "--hw", "rtx4090", "--json", "-o", str(tmp_path / "p.yaml"), *FAST).out
    )
    assert found["plan"]["comm_dtype"] == "bf16"
    assert found["plan"]["dropped"] == []
    beside = {item["name"]: item for item in found["techniques"]}
    assert beside["all combined"]["latency_s"] < found["latency_s"]
    assert beside["all combined"]["assumed"]
    assert beside["int8 transfer"]["lossy"]


def test_request_overlap_is_shown_where_there_are_requests_to_overlap(isotune, tmp_path):
    def names(*arguments):
        out = tmp_path / "p.yaml"
        found = isotune("search", "--hw", "a800", "--json", "-o", str(out), *FAST, *arguments).out
        return {item["name"] for item in json.loads(found)["techniques"]}

    assert "request overlap" not in names()
    assert "request overlap" in names("--batch", "4")
    assert "ISO, tuned" not in names("--phase", "decode", "--batch", "4")


def test_sensitivities_let_the_search_drop_syncs_within_the_budget(isotune, tmp_path):
    table = tmp_path / "sensitivity.json"
    blocks = [0.001 if block % 2 else 0.0001 for block in range(80)]
    table.write_text(json.dumps({"model": "llama-2-70b", "blocks": blocks}))
    found = json.loads(
        isotune(
            "search",
            "--hw",
            "a100-lbw",
            "--prompt",
            "128",
            "--json",
            *FAST,
            "--sensitivity",
            str(table),
            "--accuracy-budget",
            "0.3%",
            "-o",
            str(tmp_path / "p.yaml"),
        ).out
    )
    dropped = found["plan"]["dropped"]
    assert dropped
    assert all(block % 2 == 0 for block in dropped)
    assert found["accuracy_cost"] == pytest.approx(0.0001 * len(dropped))
    assert found["accuracy_cost"] <= 0.003


def test_only_the_strategies_asked_for_are_used(isotune, tmp_path):
    found = json.loads(
        isotune(
            "search",
            "--hw",
            "a800",
            "--strategies",
            "gemm_overlap",
            "--json",
            *FAST,
            "-o",
            str(tmp_path / "p.yaml"),
        ).out
    )
    assert found["plan"]["strategy"] in ("serial", "gemm_overlap")
    assert {item["name"] for item in found["techniques"]} <= {
        "GEMM overlap",
        "int8 transfer",
        "all combined",
    }


def test_predict_takes_a_plan_from_options(isotune):
    plan = json.loads(
        isotune(
            "predict",
            "--hw",
            "a100",
            "--prompt",
            "1k",
            "--strategy",
            "iso",
            "--chunks",
            "640,384",
            "--comm-sms",
            "8",
            "--drop",
            "0-3,7",
            "--json",
        ).out
    )["plan"]
    assert plan == {
        "strategy": "iso",
        "chunks": [640, 384],
        "comm_dtype": "bf16",
        "comm_sms": 8,
        "dropped": [0, 1, 2, 3, 7],
    }


def test_a_model_is_read_from_a_hugging_face_folder(isotune, tmp_path):
    config = {
        "model_type": "llama",
        "hidden_size": 1024,
        "num_hidden_layers": 4,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "intermediate_size": 2816,
        "vocab_size": 32000,
        "rms_norm_eps": 1e-5,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = json.loads(isotune("predict", "--hw", "a800", "--model", str(tmp_path), "--json").out)
    assert found["latency_s"] > 0


def test_a_quantised_checkpoint_is_named_in_every_result(isotune, tmp_path):
    config = {
        "model_type": "llama",
        "hidden_size": 1024,
        "num_hidden_layers": 4,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "intermediate_size": 2048,
        "vocab_size": 32000,
        "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    case = ("--hw", "h100", "--tp", "4", "--model", str(tmp_path))
    stored = "the checkpoint's fp8_block (fp8)"
    assert stored in " ".join(isotune("predict", *case).out.split())
    found = isotune("predict", *case, "--json").out
    assert json.loads(found)["workload"]["checkpoint"] == "fp8_block (fp8)"
    (tmp_path / "found.json").write_text(found)
    isotune("report", str(tmp_path / "found.json"), "-o", str(tmp_path / "page.html"))
    assert "fp8_block (fp8)" in (tmp_path / "page.html").read_text()
    plan = tmp_path / "plan.yaml"
    assert isotune("search", *case, "--trials", "8", "-o", str(plan)).code == 0
    assert "checkpoint: fp8_block (fp8)" in plan.read_text()
    shown = isotune("predict", *case, "--quant", "int4", "--kv-dtype", "fp8").out
    asked = f"bf16, products in int4, instead of {stored}, KV cache in fp8"
    assert asked in " ".join(shown.split())
    trained = isotune("predict", *case, "--weight-dtype", "bf16").out
    assert f"products in bf16, instead of {stored}" in " ".join(trained.split())
    refused = isotune("predict", "--hw", "h100", "--tp", "8", "--model", str(tmp_path))
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "qkv has 64 columns on a rank" in refused.err


def test_profiles_and_models_are_listed_and_shown(isotune):
    listed = isotune("hw", "list").out
    for name in ("a100", "a100-lbw", "a800", "h100", "h200", "rtx4090"):
        assert name in listed
    shown = isotune("hw", "show", "a800").out
    assert "gpu.memory_bandwidth" in shown
    assert "data sheet" in shown
    assert "68.98 B" in isotune("models", "list").out
    assert json.loads(isotune("models", "show", "llama-30b", "--json").out)["note"]


def test_version_and_completion(isotune):
    assert isotune("--version").out.strip() == f"isotune {package.__version__}"
    assert "--install-completion" in isotune("--help").out


def test_help_and_predict_import_neither_optuna_nor_torch():
    code = (
        "import sys\nfrom isotune.cli import main\n"
        "try:\n    main(['predict', '--hw', 'a800', '--json'])\nexcept SystemExit:\n    pass\n"
        "print([n for n in ('optuna', 'torch', 'numba', 'scipy', 'plotly') if n in sys.modules],"
        " file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_an_interrupted_search_keeps_the_best_so_far(isotune, tmp_path, monkeypatch):
    from isotune.tuner.search import Evaluator

    evaluate, calls = Evaluator.__call__, []

    def interrupted(self, plans):
        calls.append(plans)
        if len(calls) > 2:
            raise KeyboardInterrupt
        return evaluate(self, plans)

    monkeypatch.setattr(Evaluator, "__call__", interrupted)
    out = tmp_path / "p.yaml"
    done = isotune("search", "--hw", "a800", "-o", str(out))
    assert done.code == 130
    assert "Interrupted after 16 trials" in done.out
    assert Path(out).exists()


def test_a_model_is_checked_against_transformers_own(isotune):
    shown = json.loads(isotune("models", "show", "llama-2-7b", "--check", "--json").out)
    assert shown["differences"] == []
    assert shown["pattern"] == "A x 32"


def test_a_model_read_as_another_family_is_said_with_every_result(isotune, tmp_path):
    config = {"model_type": "novel", "hidden_size": 1024, "num_hidden_layers": 2}
    config |= {"num_attention_heads": 8, "intermediate_size": 2048, "vocab_size": 1000}
    (tmp_path / "new.json").write_text(json.dumps(config))
    asked = ("--hw", "a800", "--model", str(tmp_path / "new.json"), "--as", "llama")
    answer = json.loads(isotune("predict", *asked, "--prompt", "1M", "--json").out)
    assert answer["workload"]["prompt"] == 1024**2
    assert any("novel read as llama" in text for text in answer["cautions"])
