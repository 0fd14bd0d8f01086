"""Exports read back by the rules of the public formats, and what they say is lost."""

import argparse
import csv
import io
import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from _support.blocks import ROOT

from isotune.export import ENGINE_TARGETS, TARGETS, read_source, support
from isotune.simulator.architecture import load_model
from isotune.simulator.engines import ENGINES, engine_named
from isotune.simulator.files import Bucket, ModelReference, PlanFile, Policy, Rule
from isotune.simulator.schedule import STRATEGIES, Plan, Workload

ISO = Plan(strategy="iso", chunks=(1664, 2432), comm_sms=8)
QWEN3_MOE = {
    "model_type": "qwen3_moe",
    "hidden_size": 4096,
    "num_hidden_layers": 4,
    "num_attention_heads": 64,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "intermediate_size": 12288,
    "moe_intermediate_size": 1536,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "vocab_size": 151936,
}


@pytest.fixture
def plan_file(tmp_path):
    def write(plan: Plan = ISO, model: str = "llama-2-70b", **workload: object) -> str:
        path = tmp_path / "plan.yaml"
        PlanFile(
            hardware="h100",
            model=ModelReference.of(load_model(model), model),
            workload=Workload(**workload),
            plan=plan,
        ).write(path)
        return str(path)

    return write


@pytest.fixture
def policy_file(tmp_path):
    def write(*rules: tuple[int, int, Rule], model: str = "llama-2-70b", **workload: object) -> str:
        path = tmp_path / "policy.yaml"
        Policy(
            hardware="h100",
            model=ModelReference.of(load_model(model), model),
            workload=Workload(prompt=rules[-1][1], **workload),
            serial_below=rules[1][0],
            expected_saving=0.1,
            buckets=tuple(Bucket(first=a, last=b, rule=rule) for a, b, rule in rules),
        ).write(path)
        return str(path)

    return write


@pytest.fixture
def moe(tmp_path):
    (tmp_path / "moe").mkdir()
    (tmp_path / "moe" / "config.json").write_text(json.dumps(QWEN3_MOE))
    return str(tmp_path / "moe")


EXPERTS_APART = {"tp": 4, "dp": 2, "ep": 8}
"""A layout in which tokens travel to experts of other ranks."""
SHARES = Rule(strategy="iso", shares=(0.4, 0.6), comm_sms=6)
POLICY = ((256, 1500, Rule()), (1501, 9000, SHARES))


def tokenweave_cut(text: str, tokens: int) -> tuple[int, int, int]:
    """How TokenWeave reads its configuration (docs/AddTokenWeave.md): both chunks, and CTAs."""
    config = {int(length): entry for length, entry in json.loads(text).items()}
    entry = config[min(config, key=lambda length: abs(length - tokens))]
    assert set(entry) == {"attention_ctas", "mlp_ctas", "split_offset"}
    first = ((tokens + 255) & ~255) // 2 + entry["split_offset"]
    return first, tokens - first, entry["attention_ctas"]


def vllm_flags(text: str) -> argparse.Namespace:
    """The flags as vllm/engine/arg_utils.py declares them; an unknown one ends the test."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--tensor-parallel-size", type=int)
    parser.add_argument("--data-parallel-size", type=int, default=1)
    parser.add_argument("--compilation-config", type=json.loads, default={})
    parser.add_argument("--enable-expert-parallel", action="store_true")
    parser.add_argument(
        "--all2all-backend", choices=["deepep_high_throughput", "deepep_low_latency"]
    )
    parser.add_argument("--enable-dbo", action="store_true")
    parser.add_argument("--dbo-prefill-token-threshold", type=int, default=512)
    parser.add_argument("--dbo-decode-token-threshold", type=int, default=32)
    return parser.parse_args(shlex.split(text))


def sglang_flags(text: str) -> argparse.Namespace:
    """The flags as python/sglang/srt/server_args.py declares them."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--tensor-parallel-size", type=int)
    parser.add_argument("--data-parallel-size", type=int, default=1)
    parser.add_argument("--enable-dp-attention", action="store_true")
    parser.add_argument("--expert-parallel-size", type=int, default=1)
    parser.add_argument("--moe-a2a-backend", choices=["none", "deepep"], default="none")
    parser.add_argument("--enable-two-batch-overlap", action="store_true")
    parser.add_argument("--tbo-token-distribution-threshold", type=float, default=0.48)
    return parser.parse_args(shlex.split(text))


def test_tokenweave_cuts_a_prompt_where_the_plan_does(isotune, plan_file):
    done = isotune("export", plan_file(), "--to", "tokenweave")
    assert tokenweave_cut(done.out, 4096) == (1664, 2432, 8)
    assert "vllm/tokenweave_configs/llama_config_8.json" in done.err
    assert "CTAs of TokenWeave's own kernel, of 2, 4, 8" in done.err


@pytest.mark.parametrize(("tokens", "first"), [(5000, 2048), (4097, 2432), (1024, 512)])
def test_tokenweave_pads_to_256_tokens_and_the_offset_allows_for_it(
    isotune, plan_file, tokens, first
):
    plan = Plan(strategy="iso", chunks=(first, tokens - first), comm_sms=4)
    out = isotune("export", plan_file(plan, prompt=tokens), "--to", "tokenweave").out
    assert tokenweave_cut(out, tokens) == (first, tokens - first, 8)


def test_tokenweave_cuts_between_requests_where_the_plan_does(isotune, plan_file):
    plan = Plan(strategy="request_overlap", chunks=(3, 1))
    done = isotune("export", plan_file(plan, batch=4, prompt=512), "--to", "tokenweave")
    assert tokenweave_cut(done.out, 2048) == (1536, 512, 8)


@pytest.mark.parametrize(("sms", "ctas"), [(1, 2), (3, 4), (8, 8), (24, 8), (None, 8)])
def test_a_plan_made_for_tokenweave_s_kernel_gets_the_ctas_that_were_swept(
    isotune, plan_file, sms, ctas
):
    plan = ISO.model_copy(update={"comm_sms": sms})
    out = isotune("export", plan_file(plan, engine="tokenweave"), "--to", "tokenweave").out
    assert tokenweave_cut(out, 4096) == (1664, 2432, ctas)


def test_a_policy_becomes_the_published_lengths_and_follows_its_rules_at_each(isotune, policy_file):
    path = policy_file(*POLICY)
    done = isotune("export", path, "--to", "tokenweave")
    assert list(json.loads(done.out)) == ["2048", "4096", "8192"]
    for length in (2048, 4096, 8192):
        assert tokenweave_cut(done.out, length)[:2] == SHARES.sizes(length)
    assert "lost: 1024 tokens: export: the plan is serial" in done.err
    asked = isotune("export", path, "--to", "tokenweave", "--lengths", "3k,5k").out
    assert list(json.loads(asked)) == ["3072", "5120"]


@pytest.mark.parametrize(
    ("plan", "workload", "reason"),
    [
        (Plan(), {}, "no entry for that"),
        (Plan(strategy="iso", chunks=(512, 512, 3072)), {}, "cuts a batch in two"),
        (Plan(strategy="gemm_overlap", chunks=(2048, 2048)), {}, "cuts a batch in two"),
        (Plan(strategy="sequence_parallel"), {}, "cuts a batch in two"),
        (Plan(strategy="iso", chunks=(400, 400)), {"prompt": 800}, "fewer than 1024"),
        (Plan(strategy="iso", chunks=(1001, 3095)), {}, "do not divide by 8"),
        (ISO, {"batch": 2}, "not each of its 2 requests"),
    ],
)
def test_what_tokenweave_cannot_express_is_refused_in_one_line(
    isotune, plan_file, plan, workload, reason
):
    done = isotune("export", plan_file(plan, **workload), "--to", "tokenweave")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert reason in done.err


def test_a_plan_has_an_entry_for_its_own_length_only(isotune, plan_file):
    done = isotune("export", plan_file(), "--to", "tokenweave", "--lengths", "2k")
    assert (done.code, done.out) == (2, "")
    assert "the plan is for 4096 tokens, not 2048" in done.err


def test_a_cut_in_each_request_is_reported_as_lost(isotune, plan_file):
    done = isotune(
        "export", plan_file(ISO, "mixtral-8x22b", batch=4, **EXPERTS_APART), "--to", "vllm"
    )
    assert "lost: the cut in each request" in done.err


def test_vllm_overlaps_from_the_length_at_which_the_policy_does(isotune, policy_file):
    done = isotune(
        "export",
        policy_file(*POLICY, model="mixtral-8x22b", batch=2, **EXPERTS_APART),
        "--to",
        "vllm",
    )
    flags = vllm_flags(done.out)
    assert (flags.enable_dbo, flags.enable_expert_parallel) == (True, True)
    for tokens in (256, 1500, 1501, 9000):
        overlaps = tokens >= flags.dbo_prefill_token_threshold
        assert overlaps is (tokens >= 1501)
    assert (flags.tensor_parallel_size, flags.data_parallel_size) == (4, 2)
    assert flags.all2all_backend == "deepep_high_throughput"
    for lost in ("decode batches", "split points"):
        assert lost in done.err, lost


def test_a_decode_plan_sets_the_decode_threshold(isotune, plan_file):
    plan = Plan(strategy="request_overlap", chunks=(32, 32))
    more = {"phase": "decode", "batch": 64, "prompt": 1024, **EXPERTS_APART}
    path = plan_file(plan, "mixtral-8x22b", **more)
    flags = vllm_flags(isotune("export", path, "--to", "vllm").out)
    assert flags.dbo_decode_token_threshold == 32, "of the 32 requests of each group"
    assert flags.all2all_backend == "deepep_low_latency"


def test_sglang_cuts_inside_a_request_for_iso_and_between_requests_otherwise(
    isotune, plan_file, moe
):
    iso = isotune("export", plan_file(ISO, moe, batch=2, **EXPERTS_APART), "--to", "sglang")
    flags = sglang_flags(iso.out)
    assert flags.enable_two_batch_overlap
    assert (flags.moe_a2a_backend, flags.tbo_token_distribution_threshold) == ("deepep", 0.48)
    assert "no threshold" in iso.err
    plan = Plan(strategy="request_overlap", chunks=(2, 2))
    between = isotune(
        "export", plan_file(plan, moe, batch=4, **EXPERTS_APART), "--to", "sglang"
    ).out
    assert sglang_flags(between).tbo_token_distribution_threshold == 0


@pytest.mark.parametrize("target", ["vllm", "sglang", "trtllm"])
@pytest.mark.parametrize("model", ["llama-2-70b", "mixtral-8x22b"])
def test_what_hides_no_all_reduce_is_refused_with_what_to_do_instead(
    isotune, plan_file, target, model
):
    done = isotune("export", plan_file(ISO, model), "--to", target)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "does not run iso: " in done.err
    assert "instead: serve serial" in done.err
    assert "--enable" not in done.err


def test_vllm_shards_norms_from_the_tokens_of_the_plan(isotune, plan_file):
    path = plan_file(Plan(strategy="sequence_parallel"), batch=2, prompt=2048)
    done = isotune("export", path, "--to", "vllm")
    passes = vllm_flags(done.out).compilation_config
    assert passes["pass_config"] == {"enable_sp": True, "sp_min_token_num": 4096}
    assert passes["use_inductor_graph_partition"] is True
    assert "from 4096 tokens a step on" in done.err
    refused = isotune("export", path, "--to", "sglang")
    assert (refused.code, refused.err.count("\n")) == (2, 1)


def test_a_serial_export_says_up_to_how_many_tokens_the_engine_fuses(isotune, plan_file):
    path = plan_file(Plan(), model="qwen3-32b")
    for target, tokens in (("vllm", 51), ("sglang", 2048), ("trtllm", 781)):
        said = isotune("export", path, "--to", target).err
        assert f"fuses the all-reduce with the norm by itself up to {tokens} tokens" in said


def test_tensorrt_llm_gets_its_settings(isotune, plan_file):
    done = isotune("export", plan_file(Plan()), "--to", "trtllm")
    assert yaml.safe_load(done.out) == {"tensor_parallel_size": 8, "allreduce_strategy": "AUTO"}


@pytest.mark.parametrize("name", ["a800", "l40s", "b200"])
def test_tokenweave_is_for_hopper_with_multicast(isotune, tmp_path, name):
    path = tmp_path / "plan.yaml"
    model = ModelReference.of(load_model("llama-2-70b"), "llama-2-70b")
    PlanFile(hardware=name, model=model, workload=Workload(), plan=ISO).write(path)
    done = isotune("export", str(path), "--to", "tokenweave")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert f"multicast on Hopper and a model file (sm90; nvlink), and this is {name}" in done.err


def written(word: object) -> Iterator[str]:
    """The names of the options in what an export writes."""
    if isinstance(word, dict):
        for key, value in word.items():
            yield key
            yield from written(value)
    elif isinstance(word, list):
        for item in word:
            yield from written(item)
    elif isinstance(word, str) and word.startswith("--"):
        yield word
    elif isinstance(word, str) and word.startswith("{"):
        yield from written(json.loads(word))


@pytest.mark.parametrize("target", ENGINE_TARGETS)
def test_every_option_that_is_written_is_one_of_the_stored_version(isotune, plan_file, moe, target):
    def data_of(plan: Plan, model: str, more: dict[str, int]) -> object:
        done = isotune("export", plan_file(plan, model, **more), "--to", target, "--json")
        return json.loads(done.out)["data"] if done.code == 0 else None

    plans = [
        data_of(plan, model, more)
        for plan in (Plan(), ISO, Plan(strategy="sequence_parallel"))
        for model in ("llama-2-70b", moe)
        for more in ({}, {"batch": 2, **EXPERTS_APART})
    ]
    data = [one for one in plans if one is not None]
    if target == "tokenweave":  # keyed by length
        data = [entry for one in data for entry in one.values()]
    names = {name for one in data for name in written(one)}
    assert names
    assert names <= set(engine_named(target).options)


def test_an_engine_s_table_of_strategies_names_strategies():
    for name in ENGINES:
        engine = engine_named(name)
        assert {run.strategy for run in engine.runs} <= set(STRATEGIES)
        assert set(engine.refuses) <= {*STRATEGIES, "others"}


def test_the_docs_have_the_table_of_who_runs_what():
    rows = support()
    engines = list(next(iter(rows.values())))
    text = (ROOT / "docs" / "engines.md").read_text()
    assert f"| strategy | {' | '.join(engines)} |" in text
    for label, cells in rows.items():
        if set(cells.values()) != {"no"}:
            assert f"| {label} | {' | '.join(cells.values())} |" in text


@pytest.mark.parametrize("target", ["vllm", "sglang"])
def test_a_serial_plan_is_a_server_without_overlap_and_loses_nothing(isotune, plan_file, target):
    done = isotune("export", plan_file(Plan()), "--to", target, "--json")
    found = json.loads(done.out)
    assert found["data"] == ["--tensor-parallel-size", "8"]
    assert found["lost"] == []


@pytest.mark.parametrize("target", ["vllm", "sglang", "trtllm"])
def test_lossy_parts_of_a_plan_are_reported_by_every_engine(isotune, plan_file, target):
    plan = Plan(dropped=(1, 2), comm_dtype="int8")
    lost = json.loads(isotune("export", plan_file(plan), "--to", target, "--json").out)["lost"]
    assert any("drop set (2 blocks)" in text for text in lost)
    assert any("int8 transfer" in text for text in lost)


@pytest.mark.parametrize("target", ["vllm", "sglang"])
def test_an_overlap_that_an_engine_has_no_name_for_is_refused(isotune, plan_file, target):
    plan = Plan(strategy="gemm_overlap", chunks=(2048, 2048))
    done = isotune("export", plan_file(plan), "--to", target)
    assert (done.code, done.err.count("\n")) == (2, 1)


def test_json_is_the_plan_or_policy_again(isotune, plan_file, policy_file):
    path = plan_file()
    again = PlanFile.model_validate(json.loads(isotune("export", path, "--to", "json").out))
    assert again == read_source(Path(path)).file
    path = policy_file(*POLICY)
    again = Policy.model_validate(json.loads(isotune("export", path, "--to", "json").out))
    assert again == read_source(Path(path)).file


def test_csv_has_every_rule_again(isotune, plan_file, policy_file):
    rows = list(csv.DictReader(io.StringIO(isotune("export", plan_file(), "--to", "csv").out)))
    assert tuple(map(int, rows[0]["chunks"].split())) == ISO.chunks
    assert (rows[0]["model"], rows[0]["tp"], rows[0]["first"]) == ("llama-2-70b", "8", "4096")
    out = isotune("export", policy_file(*POLICY), "--to", "csv").out
    rules = [
        (int(row["first"]), int(row["last"]), _rule(row))
        for row in csv.DictReader(io.StringIO(out))
    ]
    assert tuple(rules) == POLICY


def _rule(row: dict[str, str]) -> Rule:
    return Rule(
        strategy=row["strategy"],
        shares=tuple(map(float, row["shares"].split())),
        comm_dtype=row["comm_dtype"],
        comm_sms=int(row["comm_sms"]) if row["comm_sms"] else None,
        dropped=tuple(map(int, row["dropped"].split())),
    )


def test_a_file_is_written_whole_and_nothing_goes_to_standard_output(isotune, plan_file, tmp_path):
    out = tmp_path / "llama_config_8.json"
    done = isotune("export", plan_file(), "--to", "tokenweave", "-o", str(out))
    assert done.out == ""
    assert tokenweave_cut(out.read_text(), 4096)[0] == 1664


@pytest.mark.parametrize("target", [name for name in TARGETS if name != "tokenweave"])
def test_only_tokenweave_has_entries_by_length(isotune, plan_file, target):
    done = isotune("export", plan_file(), "--to", target, "--lengths", "1k")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "allowed: tokenweave" in done.err


@pytest.mark.parametrize(
    ("text", "target", "reason"),
    [
        ({"x": 1}, "json", "neither a plan (field plan) nor a policy (field buckets)"),
        ({"buckets": []}, "json", "policy.yaml"),
        ({"plan": {}}, "json", "Field required"),
        ({"plan": {}}, "tensorrt", "allowed: tokenweave, vllm, sglang, trtllm, json, csv"),
    ],
)
def test_bad_input_is_one_line(isotune, tmp_path, text, target, reason):
    path = tmp_path / "policy.yaml"
    path.write_text(yaml.safe_dump(text))
    done = isotune("export", str(path), "--to", target)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert reason in done.err
