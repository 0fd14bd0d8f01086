"""Bundled models have the published sizes, and are sharded as vLLM shards them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from _support.families import cached_elements
from hypothesis import given
from hypothesis import strategies as st

from isotune.simulator.architecture import (
    BlockKind,
    Dense,
    GroupedQuery,
    Mixture,
    Model,
    NormKind,
    bundled_models,
    check_tp,
    load_model,
    model_config_file,
    read_model,
)
from isotune.simulator.errors import InputError

# Parameters as counted on the weights: the "Model size" of huggingface.co/<repository>.
COUNTED = {
    "llama-2-7b": 6_738_415_616,  # meta-llama/Llama-2-7b-hf
    "llama-2-13b": 13_015_864_320,  # meta-llama/Llama-2-13b-hf
    "llama-2-70b": 68_976_648_192,  # meta-llama/Llama-2-70b-hf
    "llama-3-8b": 8_030_261_248,  # meta-llama/Meta-Llama-3-8B
    "llama-3.1-8b": 8_030_261_248,  # meta-llama/Llama-3.1-8B
    "llama-3.1-70b": 70_553_706_496,  # meta-llama/Llama-3.1-70B
    "llama-3.1-405b": 405_853_388_800,  # meta-llama/Llama-3.1-405B
    "qwen2.5-72b": 72_706_203_648,  # Qwen/Qwen2.5-72B
    "qwen3-32b": 32_762_123_264,  # Qwen/Qwen3-32B
    "mistral-7b": 7_241_732_096,  # mistralai/Mistral-7B-v0.1
    "mixtral-8x22b": 140_620_634_112,  # mistralai/Mixtral-8x22B-v0.1
    "opt-6.7b": 6_658_473_984,  # facebook/opt-6.7b
    "opt-13b": 12_853_473_280,  # facebook/opt-13b
    "opt-30b": 29_974_540_288,  # facebook/opt-30b
}
# The size in a model's own report or card; of a multimodal one its vision part is left out, and of
# a checkpoint with heads that predict several tokens these.
NOMINAL = {
    "opt-66b": 66e9,  # OPT, arXiv 2205.01068, table 1
    "deepseek-v3": 671e9,  # arXiv 2412.19437
    "deepseek-v3.2": 671e9,
    "devstral-2-123b": 123e9,
    "gemma-2-9b": 9.24e9,
    "gemma-3-27b": 27e9,
    "gemma-4-31b": 30.7e9,
    "glm-5.1": 744e9,
    "gpt-oss-120b": 116.8e9,  # the gpt-oss model card, arXiv 2508.10925
    "gpt-oss-20b": 20.9e9,
    "kimi-k2.5": 1.03e12,
    "llama-4-maverick": 400e9,
    "llama-4-scout": 109e9,
    "minimax-m2.5": 229e9,
    "nemotron-3-nano-30b-a3b": 31.6e9,
    "qwen3-235b-a22b": 235e9,  # arXiv 2505.09388
    "qwen3-30b-a3b": 30.5e9,
    "qwen3-8b": 8.2e9,
    "qwen3-coder-480b-a35b": 480e9,
    "qwen3.5-27b": 27e9,
    "qwen3.5-397b-a17b": 397e9,
}


def test_every_bundled_model_is_scored_against_a_published_count() -> None:
    assert {*COUNTED, *NOMINAL, "llama-30b"} == set(bundled_models())


@pytest.mark.parametrize(("name", "count"), COUNTED.items())
def test_bundled_models_have_exactly_the_published_parameters(name: str, count: int) -> None:
    assert load_model(name).parameters == count


@pytest.mark.parametrize(("name", "count"), NOMINAL.items())
def test_bundled_models_match_their_nominal_size_within_two_percent(
    name: str, count: float
) -> None:
    assert load_model(name).parameters == pytest.approx(count, rel=0.02)


@pytest.mark.parametrize("name", bundled_models())
def test_bundled_models_shard_over_4_and_8_gpus_and_say_where_they_come_from(name: str) -> None:
    model = load_model(name)
    check_tp(model, 4)
    check_tp(model, 8)
    assert "arXiv" in model.source or "https://huggingface.co/" in model.source


def test_a_bundled_model_is_stored_as_its_published_checkpoint() -> None:
    published = {
        "deepseek-v3": "fp8_block (fp8)",
        "deepseek-v3.2": "fp8_block (fp8)",
        "devstral-2-123b": "fp8 (fp8)",
        "kimi-k2.5": "int4 (compressed-tensors)",
        "minimax-m2.5": "fp8_block (fp8)",
    }
    for name in bundled_models():
        stored = load_model(name).quantisation
        assert published.get(name) == (None if stored is None else str(stored)), name


def test_llama_30b_is_a_declared_multi_head_stand_in_of_about_30b() -> None:
    model = load_model("llama-30b")
    assert "stand-in" in model.note
    assert model.num_key_value_heads == model.num_attention_heads
    assert 29e9 < model.parameters < 34e9


def test_names_ignore_case_and_an_unknown_name_gets_the_nearest() -> None:
    assert load_model("Llama-2-70B").name == "llama-2-70b"
    with pytest.raises(InputError, match=r"did you mean llama-2-70b"):
        load_model("someone/Llama-2-70b-hf")
    with pytest.raises(InputError, match=r"bundled: deepseek-v3, .*qwen3-32b"):
        load_model("x" * 5000)


@pytest.mark.parametrize(
    ("tp", "message"),
    [
        (3, r"it does not divide num_attention_heads 32 \(allowed: 1, 2, 4, 8, 16, 32\)"),
        (0, "it must be positive"),
        (-8, "it must be positive"),
        (64, "it does not divide num_attention_heads 32"),
    ],
)
def test_an_impossible_tp_is_refused_with_the_possible_ones(tp: int, message: str) -> None:
    with pytest.raises(InputError, match=rf"^tp: {tp} does not suit llama-2-7b: {message}"):
        check_tp(load_model("llama-2-7b"), tp)


def test_tp_must_suit_key_value_heads_and_intermediate_size() -> None:
    model = load_model("llama-2-70b")
    (kind,) = model.kinds
    check_tp(model, 32)
    uneven = replace(kind, attention=replace(kind.attention, heads=24, kv_heads=6))
    with pytest.raises(InputError, match=r"neither divides num_key_value_heads 6 nor"):
        check_tp(replace(model, kinds=(uneven,)), 4)
    odd = replace(kind, mlp=replace(kind.mlp, columns=28671))
    with pytest.raises(InputError, match=r"does not divide intermediate_size 28671"):
        check_tp(replace(model, kinds=(kind, odd), layout=(0, 1)), 4)


@st.composite
def sharded_models(draw: st.DrawFn) -> tuple[Model, int]:
    """A model whose sizes are powers of two or multiples of them, and a tp that suits it."""
    kv_heads, groups = (2 ** draw(st.integers(0, 4)) for _ in range(2))
    tp = 2 ** draw(st.integers(0, (kv_heads * groups).bit_length() - 1))
    norm: NormKind = draw(st.sampled_from(["rms_norm", "layer_norm"]))
    attention = GroupedQuery(
        heads=kv_heads * groups,
        kv_heads=kv_heads,
        head_dim=draw(st.integers(1, 32)),
        bias=draw(st.booleans()),
        out_bias=draw(st.booleans()),
        qk_norm=draw(st.sampled_from(["none", "shared"])),
    )
    mlp = {
        "columns": tp * draw(st.integers(1, 50)),
        "gated": draw(st.booleans()),
        "bias": draw(st.booleans()),
    }
    experts = draw(st.integers(1, 4))
    kind = BlockKind(
        attention=attention,
        mlp=Mixture(experts=experts, per_token=1, **mlp) if experts > 1 else Dense(**mlp),
        norm=norm,
    )
    model = Model(
        name="any",
        architecture="any",
        num_hidden_layers=draw(st.integers(1, 4)),
        hidden_size=draw(st.integers(1, 100)),
        vocab_size=draw(st.integers(1, 999)),
        embedding_size=draw(st.integers(1, 100)),
        max_position_embeddings=99,
        kinds=(kind,),
        norm=norm,
    )
    return model, tp


@given(sharded_models())
def test_shards_hold_the_block_once_plus_what_is_replicated(case: tuple[Model, int]) -> None:
    model, tp = case
    hidden, experts = model.hidden_size, model.num_experts
    attention: Any = model.kinds[0].attention
    mlp: Any = model.kinds[0].mlp
    replicated = (
        2 * hidden * (2 if model.norm == "layer_norm" else 1)
        + hidden * (attention.out_bias + experts * mlp.bias + (experts if experts > 1 else 0))
        + 2 * attention.head_dim * (attention.qk_norm == "shared")
    )
    kv_copies = max(0, tp - model.num_key_value_heads)
    kv_copy = 2 * attention.head_dim * (hidden + attention.bias)
    surplus = tp * model.block_weight_elements(tp) - model.block_weight_elements(1)
    each = (tp - 1) * replicated + kv_copies * kv_copy
    assert surplus == model.num_hidden_layers * each


@given(sharded_models())
def test_the_kv_cache_is_split_once_and_replicated_only_beyond_its_heads(
    case: tuple[Model, int],
) -> None:
    model, tp = case
    check_tp(model, tp)
    copies = max(1, tp // model.num_key_value_heads)
    assert tp * cached_elements(model, tp) == copies * cached_elements(model, 1)


@given(sharded_models())
def test_more_gpus_never_hold_more_weights_each(case: tuple[Model, int]) -> None:
    model, tp = case
    assert model.weight_elements(tp) <= model.parameters <= tp * model.weight_elements(tp)


def test_a_layout_shorter_than_the_model_repeats_and_a_longer_one_is_cut() -> None:
    model = load_model("llama-2-7b")
    (kind,) = model.kinds
    local = replace(kind, attention=replace(kind.attention, window=1024))
    mixed = replace(model, kinds=(local, kind), layout=(0, 0, 1))
    assert mixed.pattern == (0, 0, 1) * 10 + (0, 0)
    assert mixed.picture == "(AAB) x 10, A x 2"
    assert replace(mixed, num_hidden_layers=2).pattern == (0, 0)
    assert mixed.kv_elements_by_reach(1) == {1024: 22 * 2 * 4096, None: 10 * 2 * 4096}


def test_an_infinity_as_transformers_writes_it_is_no_obstacle(tmp_path: Path) -> None:
    config = json.loads(model_config_file("llama-2-7b").read_text())
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config | {"time_step_limit": [0.0, float("inf")]}))
    assert "Infinity" in file.read_text()
    assert read_model(file).parameters == load_model("llama-2-7b").parameters
    file.write_text(json.dumps(config | {"hidden_size": float("inf")}))
    with pytest.raises(InputError, match="hidden_size"):
        read_model(file)
