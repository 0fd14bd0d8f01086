"""Bad input is one line that says what, where and what is allowed, and exit code 2."""

import json

import pytest
import yaml

import isotune as isotune_api
from isotune import hw_profiles

CONFIG = {
    "model_type": "llama",
    "hidden_size": 1024,
    "num_hidden_layers": 4,
    "num_attention_heads": 16,
    "intermediate_size": 2816,
    "vocab_size": 32000,
}


def refused(outcome, *parts):
    assert outcome.code == 2
    assert outcome.out == ""
    assert len(outcome.err.strip().splitlines()) == 1
    for part in parts:
        assert part in outcome.err, outcome.err


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["search"], ["--hw"]),
        (["serach"], ["serach"]),
        (["search", "--hw", "a801"], ["'a801'", "did you mean", "a800"]),
        (["search", "--hw", "nowhere/a800.yaml"], ["nowhere/a800.yaml"]),
        (["predict", "--hw", "a800", "--model", "llama-2-71b"], ["llama-2-71b", "llama-2-70b"]),
        (["predict"], ["--hw", "--plan"]),
        (["predict", "--hw", "a800", "--tp", "3"], ["tp", "64", "allowed: 1, 2, 4, 8"]),
        (["predict", "--hw", "a800", "--tp", "16"], ["a800 has 8 GPUs", "1 to 8"]),
        (["predict", "--hw", "a800", "--tp", "0"], ["--tp", "1 or more"]),
        (["predict", "--hw", "a800", "--tp", "two"], ["--tp", "whole number"]),
        (["predict", "--hw", "a800", "--batch", "-1"], ["--batch", "1 or more"]),
        (["predict", "--hw", "a800", "--prompt", "0"], ["prompt", "greater than or equal to 1"]),
        (["predict", "--hw", "a800", "--prompt", "many"], ["--prompt", "'many'"]),
        (["predict", "--hw", "a800", "--phase", "both"], ["--phase", "prefill, decode"]),
        (["predict", "--hw", "a800", "--dtype", "fp64"], ["--dtype", "bf16, fp16"]),
        (["predict", "--hw", "a800", "--weight-dtype", "int2"], ["--weight-dtype", "int4"]),
        (["predict", "--hw", "a800", "--comm-dtype", "int4"], ["--comm-dtype", "int8"]),
        (["predict", "--hw", "a800", "--comm-sms", "0"], ["--comm-sms", "1 or more"]),
        (["predict", "--hw", "a800", "--comm-sms", "4"], ["comm_sms", "serial"]),
        (
            ["predict", "--hw=a800", "--strategy=iso", "--chunks=2k,2k", "--comm-sms=109"],
            ["comm_sms", "108 SMs", "109"],
        ),
        (["predict", "--hw", "a800", "--prompt", "\N{SUPERSCRIPT TWO}"], ["--prompt"]),
        (["predict", "--hw", "a800", "--prompt", "--5"], ["--prompt", "'--5'"]),
        (["predict", "--hw", "a800", "--drop", "5-3"], ["--drop", "'5-3'"]),
        (["predict", "--hw", "a800", "--drop", "\N{ARABIC-INDIC DIGIT THREE}"], ["--drop"]),
        (["predict", "--hw", "a800", "--model", ""], ["model"]),
        (["search", "--hw", "a800", "--strategies", ","], ["--strategies", "no technique"]),
        (["predict", "--hw", "a800", "--strategy", "magic"], ["--strategy", "iso"]),
        (
            ["predict", "--hw", "a800", "--strategy", "iso", "--chunks", "2048,2047"],
            ["chunks", "add up to 4095", "4096"],
        ),
        (["predict", "--hw", "a800", "--strategy", "iso", "--chunks", "4097,-1"], ["chunks", "-1"]),
        (["predict", "--hw", "a800", "--strategy", "iso", "--chunks", "a,b"], ["--chunks", "'a'"]),
        (["predict", "--hw", "a800", "--chunks", "4096"], ["chunks", "serial"]),
        (["predict", "--hw", "a800", "--drop", "79-80"], ["blocks 0 to 79", "80"]),
        (["predict", "--hw", "a800", "--drop", "x"], ["--drop", "'x'"]),
        (["search", "--hw", "a800", "--trials", "0"], ["--trials"]),
        (["search", "--hw", "a800", "--strategies", "iso,magic"], ["'magic'", "spd"]),
        (["search", "--hw", "a800", "--strategies", "ladder"], ["ladder", "never", "trained"]),
        (["predict", "--hw", "a800", "--strategy", "ladder", "--drop", "3"], ["dropped", "ladder"]),
        (
            ["predict", "--hw=a800", "--strategy=sequence_parallel", "--comm-dtype=int8"],
            ["comm_dtype", "sequence_parallel", "int8", "bf16"],
        ),
        (["search", "--hw", "a800", "--accuracy-budget", "1%"], ["--sensitivity"]),
        (
            ["search", "--hw", "a800", "-o", "no/such/folder/plan.yaml"],
            ["no/such/folder/plan.yaml"],
        ),
        (["hw", "show", "a9000"], ["a9000"]),
        (["models", "show", "gpt-9"], ["gpt-9"]),
    ],
)
def test_a_wrong_option_is_refused(isotune, arguments, parts):
    refused(isotune(*arguments), *parts)


def test_a_model_that_does_not_fit_says_what_it_needs_and_which_tp_fits(isotune):
    refused(
        isotune("predict", "--hw", "rtx4090", "--tp", "4"),
        "does not fit",
        "each of 4 GPUs needs",
        "has 25.8 GB",
        "smallest tp that fits is 8",
    )


@pytest.mark.parametrize("command", [["validate"], ["export", "--to", "tokenweave"]])
def test_a_plan_that_needs_a_retrained_model_is_neither_run_nor_exported(
    isotune, tmp_path, command
):
    path = tmp_path / "plan.yaml"
    plan = isotune_api.Plan(strategy="ladder")
    prediction = isotune_api.predict(isotune_api.scenario("llama-2-7b", "a800", prompt=512), plan)
    assert any("trained with ladder residuals" in text for text in prediction.cautions)
    isotune_api.write_plan(prediction, path)
    name, *rest = command
    refused(isotune(name, str(path), *rest), "ladder", "trained with ladder residuals")


def test_a_plan_for_another_model_is_refused(isotune, tmp_path):
    plan = tmp_path / "plan.yaml"
    isotune("search", "--hw", "a800", "--trials", "5", "-o", str(plan))
    refused(
        isotune("predict", "--plan", str(plan), "--model", "llama-2-13b"),
        "llama-2-70b (80 blocks",
        "llama-2-13b (40 blocks",
    )
    refused(isotune("predict", "--plan", str(plan), "--prompt", "8k"), "add up to", "8192")


@pytest.mark.parametrize(
    ("edit", "parts"),
    [
        ({"gpu": {"memory_bandwidth": "2039 GHz"}}, ["gpu.memory_bandwidth", "GHz", "GB/s"]),
        ({"gpu": {"memory_bandwidth": 2039}}, ["gpu.memory_bandwidth", "unit"]),
        ({"gpu": {"memory_bandwidth": 2039.5}}, ["gpu.memory_bandwidth", "unit"]),
        ({"gpu": {"sms": -108}}, ["gpu.sms", "greater than 0", "-108"]),
        ({"gpu": {"sms": "many"}}, ["gpu.sms", "integer", "many"]),
        ({"gpu": {"bf16": "nan TFLOP/s"}}, ["gpu.bf16"]),
        ({"gpu": {"warp": 32}}, ["gpu.warp", "not permitted"]),
        ({"node": {"link": "string"}}, ["node.link", "'nvlink', 'pcie' or 'infinity_fabric'"]),
        (
            {"runtime": {"sustained_clock": 1.5}},
            ["runtime.sustained_clock", "less than or equal to 1"],
        ),
        ({"sources": {"gpu": ""}}, ["sources", "gpu.sms has no source"]),
    ],
)
def test_a_wrong_figure_in_a_profile_names_its_path_and_what_is_allowed(
    isotune, tmp_path, edit, parts
):
    data = yaml.safe_load((hw_profiles.FOLDER / "a800.yaml").read_text())
    for section, fields in edit.items():
        data[section].update(fields)
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(data))
    refused(isotune("predict", "--hw", str(path)), "mine.yaml", *parts)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("name: [a800\n", ["line 2", "malformed YAML"]),
        ("a: 1\nb:\n\t- 2\n", ["line 3", "malformed YAML"]),
        ("name: a\nname: b\n", ["line 2", "'name' is given twice"]),
        ("a: &x [1]\nb: *x\n", ["line 2", "aliases"]),
        ("x: !!python/object/apply:os.system ['echo no']\n", ["line 1", "malformed YAML"]),
        ("- 1\n- 2\n", ["expected a mapping"]),
        ("", ["expected a mapping"]),
    ],
)
def test_a_malformed_profile_names_its_line_and_runs_nothing(isotune, tmp_path, text, parts):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    refused(isotune("predict", "--hw", str(path)), "mine.yaml", *parts)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"model_type": "mamba"}, ["model_type", "mamba", "llama", "opt"]),
        ({"hidden_size": 0}, ["hidden_size"]),
        ({"num_hidden_layers": -4}, ["num_hidden_layers"]),
        ({"num_attention_heads": "16"}, ["num_attention_heads"]),
        ({"intermediate_size": None}, ["intermediate_size"]),
    ],
)
def test_a_wrong_model_config_names_its_field(isotune, tmp_path, change, parts):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIG | change))
    refused(isotune("predict", "--hw", "a800", "--model", str(path)), "config.json", *parts)


def test_a_sensitivity_table_for_another_model_is_refused(isotune, tmp_path):
    path = tmp_path / "sensitivity.json"
    for table, parts in (
        ({"model": "llama-2-70b", "blocks": [0.1, 0.2]}, ["2 sensitivities", "80 blocks"]),
        ({"model": "opt-66b", "blocks": [0.1] * 80}, ["model", "'opt-66b'", "'llama-2-70b'"]),
        ({"model": "llama-2-70b", "blocks": [True] * 80}, ["blocks.0", "valid number"]),
    ):
        path.write_text(json.dumps(table))
        outcome = isotune("search", "--hw", "a800", "--sensitivity", str(path))
        refused(outcome, "sensitivity.json", *parts)


def test_text_from_files_cannot_style_the_terminal(isotune, tmp_path):
    data = yaml.safe_load((hw_profiles.FOLDER / "a800.yaml").read_text())
    data["description"] = "[bold red]look[/bold red] \x1b[31m"
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(data))
    shown = isotune("hw", "show", str(path)).out
    assert "[bold red]look[/bold red]" in shown
    assert "\x1b[31m" not in shown


def test_a_transfer_that_costs_more_than_the_budget_is_not_swapped_for_another(isotune, tmp_path):
    path = tmp_path / "sensitivity.json"
    table = {"model": "llama-2-70b", "blocks": [0.001] * 80, "transfer": {"int8": 0.02}}
    path.write_text(json.dumps(table))
    options = ("--sensitivity", str(path), "--comm-dtype", "int8", "--trials", "9")
    refused(
        isotune("search", "--hw", "a800", "-o", str(tmp_path / "p.yaml"), *options),
        "int8 transfer",
        "budget of 1 %",
    )
