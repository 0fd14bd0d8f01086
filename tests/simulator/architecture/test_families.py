"""Every family: its blocks can be priced, sharded and held in memory, and add up."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from _support.families import FAMILIES, WITHOUT_TRANSFORMERS, cached_elements, tiny

from isotune.simulator.architecture import (
    LatentAttend,
    Matmul,
    Model,
    RowParallel,
    architectures,
    check_tp,
    load_model,
    read_model,
)
from isotune.simulator.machine import read_profile
from isotune.simulator.predict import Scenario, predict
from isotune.simulator.schedule import Plan, Sequences, Workload

ALL = (*FAMILIES, *WITHOUT_TRANSFORMERS)


def model_of(family: str, folder: Path) -> Model:
    file = folder / "config.json"
    file.write_text(json.dumps(tiny(family)))
    return read_model(file)


def test_every_family_has_a_tiny_config() -> None:
    assert set(ALL) == set(architectures())


@pytest.mark.parametrize("family", ALL)
def test_every_block_can_be_predicted_whatever_the_batch(family: str, tmp_path: Path) -> None:
    model, hardware = model_of(family, tmp_path), read_profile("h100")
    batches = (
        Workload.prefill(1, 4096, tp=4),
        Workload.decode(8, 1000, tp=4),
        Workload.chunk(2, 512, 1024, tp=4),
        Workload.mixed(
            Sequences(count=1, new_tokens=512, context=0),
            Sequences(count=8, new_tokens=1, context=777),
            tp=4,
        ),
    )
    for workload in batches:
        answer = predict(Scenario(model=model, hardware=hardware, workload=workload))
        assert 0 < answer.latency_s < 1
        assert answer.memory.fits
    split = Plan(strategy="iso", chunks=(2048, 2048))
    scenario = Scenario(model=model, hardware=hardware, workload=batches[0])
    assert 0 < predict(scenario, split).latency_s < 1


@pytest.mark.parametrize("family", ALL)
def test_ranks_hold_every_weight_once_or_whole(family: str, tmp_path: Path) -> None:
    model = model_of(family, tmp_path)
    check_tp(model, 4)
    for whole, shard in zip(model.blocks(1), model.blocks(4), strict=True):
        for one, part in zip(whole.ops, shard.ops, strict=True):
            assert part.parameters <= one.parameters <= 4 * part.parameters, one.name
            if isinstance(one, RowParallel) and isinstance(part, RowParallel):
                assert (part.n, 4 * part.k) == (one.n, one.k)


@pytest.mark.parametrize("family", ALL)
def test_every_segment_ends_with_a_product_that_its_all_reduce_completes(
    family: str, tmp_path: Path
) -> None:
    model = model_of(family, tmp_path)
    for block in model.blocks(4):
        for segment in block.segments:
            assert segment.collective is not None
            assert segment.collective.elements == model.hidden_size
            last = segment.sublayers[-1][-1]
            assert isinstance(last, Matmul)


def test_a_latent_cache_is_whole_on_every_rank_and_a_state_does_not_grow(tmp_path: Path) -> None:
    latent = model_of("deepseek_v3", tmp_path)
    assert cached_elements(latent, 1) == cached_elements(latent, 4) == 4 * (16 + 4)
    hybrid = model_of("qwen3_next", tmp_path)
    assert cached_elements(hybrid, 1) == 2 * 4 * 16  # one block of four attends
    state, tail = 4 * 8 * 8 * 12, 2 * 3 * (2 * 4 * 8 + 8 * 12)
    assert hybrid.state_bytes(1) == 3 * (state + tail)
    assert hybrid.state_bytes(4) == hybrid.state_bytes(1) // 4


def test_what_is_assumed_or_left_out_is_said(tmp_path: Path) -> None:
    assert any("linear attention" in text for text in model_of("minimax", tmp_path).left_out(1))
    assert any("index selects" in text for text in model_of("glm_moe_dsa", tmp_path).left_out(1))
    assert model_of("llama", tmp_path).left_out(1) == ()
    file = tmp_path / "config.json"
    wrapped = {"model_type": "any", "vision_config": {}, "text_config": tiny("llama")}
    file.write_text(json.dumps(wrapped))
    assert read_model(file).left_out_parts == ("the vision part",)
    file.write_text(json.dumps(tiny("deepseek_v3") | {"num_nextn_predict_layers": 1}))
    assert "MTP" in read_model(file).left_out(1)[0]


def test_sparse_attention_does_not_grow_with_the_context_beyond_what_it_selects(
    tmp_path: Path,
) -> None:
    model, hardware = model_of("deepseek_v32", tmp_path), read_profile("h100")
    seconds = []
    for context in (1000, 100_000):
        workload = Workload.decode(64, context, tp=1)
        answer = predict(Scenario(model=model, hardware=hardware, workload=workload))
        seconds.append(answer.op_seconds["attention"])
    assert seconds[0] == pytest.approx(seconds[1])


def test_a_prompt_within_the_keys_selected_costs_about_what_dense_attention_does() -> None:
    hardware, workload = read_profile("h100"), Workload.prefill(1, 2048, tp=8)
    seconds = []
    for name in ("deepseek-v3", "deepseek-v3.2"):
        model = replace(load_model(name), num_hidden_layers=4)
        answer = predict(Scenario(model=model, hardware=hardware, workload=workload))
        seconds.append(answer.op_seconds["attention"])
    # The absorbed form has 3.4 times the FLOPs of the expanded one.
    assert seconds[0] < seconds[1] < 4 * seconds[0]


def test_an_absorbed_decode_reads_the_latent_cache_once_for_all_heads(tmp_path: Path) -> None:
    model = model_of("deepseek_v3", tmp_path)
    (attend,) = (op for op in model.block(1).ops if isinstance(op, LatentAttend))
    assert attend.cache_elements == attend.latent + attend.rope


def test_a_model_that_scores_its_input_has_a_head_of_its_labels(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    scores = {"architectures": ["LlamaForSequenceClassification"], "num_labels": 3}
    file.write_text(json.dumps(tiny("llama")))
    plain = read_model(file)
    file.write_text(json.dumps(tiny("llama") | scores))
    assert plain.parameters - read_model(file).parameters == (131 - 3) * 64
