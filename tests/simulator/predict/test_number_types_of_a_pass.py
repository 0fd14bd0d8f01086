"""Products, KV cache and memory of a pass have the types of the checkpoint, or those asked for."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from isotune.simulator.architecture import LmHead, Matmul, Model, load_model, read_model
from isotune.simulator.errors import InputError
from isotune.simulator.files import PlanFile, read_plan, scenario_of
from isotune.simulator.kernels import Operands
from isotune.simulator.machine import read_profile
from isotune.simulator.number_types import scheme
from isotune.simulator.predict import CostModel, GpuMemory, Rows, Scenario, predict
from isotune.simulator.schedule import Plan, Workload

H100, B200 = read_profile("h100"), read_profile("b200")
LLAMA_70B: dict[str, Any] = {
    "model_type": "llama",
    "num_hidden_layers": 80,
    "hidden_size": 8192,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "intermediate_size": 28672,
    "vocab_size": 128256,
}
QWEN3_32B: dict[str, Any] = {
    "model_type": "qwen3",
    "num_hidden_layers": 64,
    "hidden_size": 5120,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 25600,
    "vocab_size": 151936,
}
QWEN3_30B_A3B: dict[str, Any] = {
    "model_type": "qwen3_moe",
    "num_hidden_layers": 48,
    "hidden_size": 2048,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "intermediate_size": 6144,
    "moe_intermediate_size": 768,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "vocab_size": 151936,
}
FP8 = {"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}
BLOCKS = {"quant_method": "fp8", "weight_block_size": [128, 128]}
NVFP4 = {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head"]}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128}
BITSANDBYTES = {"quant_method": "bitsandbytes", "load_in_4bit": True}

MakeModel = Callable[..., Model]


@pytest.fixture
def stored(tmp_path: Path) -> MakeModel:
    """Models whose checkpoints are quantised."""

    def make(sizes: dict[str, Any], section: dict[str, Any] | None) -> Model:
        content = sizes | ({"quantization_config": section} if section else {})
        (tmp_path / "config.json").write_text(json.dumps(content))
        return read_model(tmp_path)

    return make


def at(model: Model, hardware: Any = H100, **fields: Any) -> Scenario:
    return Scenario(model=model, hardware=hardware, workload=Workload(**{"prompt": 512} | fields))


def operands(scenario: Scenario) -> dict[str, tuple[str, str]]:
    model, tp = scenario.model, scenario.workload.tp
    ops = (*model.block(tp).ops, *model.tail(tp))
    return {op.name: tuple(scenario.operands(op)) for op in ops if isinstance(op, Matmul)}


def test_a_checkpoint_is_priced_as_it_is_stored_and_says_so(stored: MakeModel) -> None:
    quantised, plain = (at(stored(LLAMA_70B, how), prompt=8192) for how in (FP8, None))
    found = operands(quantised)
    assert found.pop("lm_head") == ("bf16", "bf16")
    assert set(found.values()) == {("fp8", "fp8")}
    assert quantised.section("gemm") == "gemm.sets.fp8"
    assert predict(quantised).latency_s < predict(plain).latency_s
    assert quantised.workload.types == "bf16, the checkpoint's fp8 (modelopt), fp8 KV cache"
    assert plain.workload.types == "bf16"


@pytest.mark.parametrize("name", ["bf16", "fp8", "fp8_block", "int8", "int4", "mxfp4", "w8a8"])
def test_quant_overrides_the_checkpoint(stored: MakeModel, name: str) -> None:
    scenario = at(stored(LLAMA_70B, FP8), quant=name)
    found = operands(scenario)
    asked = scheme(name)
    assert found.pop("lm_head") == ("bf16", "bf16")
    assert set(found.values()) == {(asked.dtype, asked.weight_dtype)}
    assert scenario.kv_dtype == "bf16"
    assert scenario.workload.types.startswith(f"bf16, products in {name}, instead of the checkp")


def test_quantised_to_bf16_is_the_model_as_trained(stored: MakeModel) -> None:
    asked, trained = at(stored(LLAMA_70B, FP8), quant="bf16"), at(stored(LLAMA_70B, None))
    assert predict(asked).latency_s == predict(trained).latency_s


def test_dtypes_narrower_than_16_bits_override_the_checkpoint_too(stored: MakeModel) -> None:
    scenario = at(stored(LLAMA_70B, FP8), weight_dtype="int4")
    assert operands(scenario)["mlp_up"] == ("bf16", "int4")


def test_quant_and_narrow_types_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="quant: fp8 says the types of products"):
        Workload(quant="fp8", weight_dtype="int4")


def test_the_lm_head_is_priced_in_the_type_that_its_memory_is_counted_in() -> None:
    model = load_model("llama-3.1-70b")
    scenario = at(model, weight_dtype="int4")
    head = next(op for op in model.tail(8) if isinstance(op, LmHead))
    assert scenario.operands(head) == Operands.of("bf16")
    assert scenario.weight_bytes(head) == 2 * head.parameters


@pytest.mark.parametrize(
    ("sizes", "section", "gigabytes"),
    [
        # Sizes of the published safetensors files.
        (LLAMA_70B, FP8, 72.7),
        (QWEN3_32B, BLOCKS, 34.3),
        (QWEN3_30B_A3B, BLOCKS, 31.2),
        (LLAMA_70B, AWQ, 39.8),
    ],
)
def test_weights_take_what_the_published_checkpoint_takes(
    stored: MakeModel, sizes: dict[str, Any], section: dict[str, Any], gigabytes: float
) -> None:
    memory = GpuMemory(at(stored(sizes, section), B200, tp=1)).of(Plan())
    assert memory.weights / 1e9 == pytest.approx(gigabytes, rel=0.005)


def test_nvfp4_takes_nine_sixteenths_of_a_byte(stored: MakeModel) -> None:
    model = stored(LLAMA_70B, NVFP4)
    memory = GpuMemory(at(model, B200, tp=1)).of(Plan())
    outside = model.embedding_weight_elements(1)
    norms = 80 * 2 * 8192
    expected = (model.parameters - outside - norms) * 0.5625 + 2 * (outside + norms)
    assert memory.weights == pytest.approx(expected)


def test_an_fp8_kv_cache_takes_half_and_is_read_faster(stored: MakeModel) -> None:
    model = stored(LLAMA_70B, None)
    at_length = {"phase": "decode", "batch": 16, "prompt": 16_384}
    wide, narrow = at(model, **at_length), at(model, **at_length, kv_dtype="fp8")
    halves = [GpuMemory(one).of(Plan()).kv_cache for one in (narrow, wide)]
    assert halves[0] * 2 == halves[1]
    seconds = [predict(one).op_seconds["attention"] for one in (narrow, wide)]
    assert 0.5 * seconds[1] < seconds[0] < 0.8 * seconds[1]
    assert any("a KV cache in fp8" in text for text in narrow.cautions())


def test_the_checkpoint_decides_the_kv_cache_unless_asked(stored: MakeModel) -> None:
    model = stored(LLAMA_70B, FP8)
    assert at(model).kv_dtype == "fp8"
    assert at(model, kv_dtype="bf16").kv_dtype == "bf16"


def test_a_tp_that_cuts_blocks_is_refused_with_those_that_do_not(stored: MakeModel) -> None:
    model = stored(QWEN3_30B_A3B, BLOCKS)
    with pytest.raises(InputError) as caught:
        at(model, tp=4)
    assert "mlp_up has 192 columns on a rank, fp8_block blocks have 128" in str(caught.value)
    assert "(allowed: 1, 2)" in str(caught.value)
    assert at(model, tp=2).workload.tp == 2
    assert at(model, tp=4, quant="bf16").workload.tp == 4


def test_groups_of_a_row_parallel_product_stay_whole(stored: MakeModel) -> None:
    with pytest.raises(InputError, match="mlp_down has 1376 rows"):
        at(stored(LLAMA_70B | {"intermediate_size": 11008}, AWQ), tp=8)


def test_types_without_a_kernel_set_say_so_and_add_the_quantising_kernel() -> None:
    # Sets were measured with the kernel that quantises activations; where another stands in, it
    # is a kernel of its own: it reads bf16 and writes fp8.
    model = load_model("llama-3.1-70b")
    up = next(op for op in model.block(8).ops if op.name == "mlp_up")
    shape = Rows(4096, 1, 4096, 0)
    measured = CostModel(at(model, H100, quant="fp8"))
    stands_in = CostModel(at(model, H100, quant="w8a8"))
    assert [len(one.kernels(up, shape)) for one in (measured, stands_in)] == [1, 2]
    assert float(stands_in.kernels(up, shape)[0].mem_bytes) == 4096 * 8192 * 3
    assert measured.scenario.cautions() == ()
    assert any("int8 operands" in text for text in stands_in.scenario.cautions())


def test_kernels_that_nobody_measured_are_named(stored: MakeModel) -> None:
    assert any("bitsandbytes" in text for text in at(stored(LLAMA_70B, BITSANDBYTES)).cautions())


def test_a_plan_file_keeps_the_types_and_refuses_another_checkpoint(
    stored: MakeModel, tmp_path: Path
) -> None:
    path = tmp_path / "plan.yaml"
    scenario = at(stored(LLAMA_70B, FP8), kv_dtype="bf16")
    PlanFile.of(predict(scenario), "h100", str(tmp_path)).write(path)
    again = scenario_of(read_plan(path), tmp_path)
    assert predict(again).latency_s == predict(scenario).latency_s
    assert again.workload == scenario.workload
    stored(LLAMA_70B, None)
    with pytest.raises(InputError, match=r"made for weights stored as fp8 \(modelopt\)"):
        scenario_of(read_plan(path), tmp_path)


def test_the_kernel_that_quantises_has_the_figures_of_its_type(stored: MakeModel) -> None:
    gemm = H100.gemm.model_copy(update={"sets": {}})
    sources = {k: v for k, v in H100.sources.items() if not k.startswith("gemm.sets")}
    bare = H100.model_copy(update={"gemm": gemm, "sources": sources})
    scenario = at(stored(LLAMA_70B, FP8), hardware=bare)
    down = next(op for op in scenario.model.block(1).ops if op.name == "mlp_down")
    quantise, _product = CostModel(scenario).kernels(down, Rows(1, 1, 1, 0))
    launch = bare.elementwise.of("fp8").parameters.launch
    assert launch < bare.elementwise.launch
    assert float(quantise.seconds) == pytest.approx(launch, rel=0.05)


@pytest.mark.parametrize(("group", "said"), [(128, False), (64, True), (32, True)])
def test_other_groups_than_those_that_products_are_priced_with_are_told(
    stored: MakeModel, group: int, said: bool
) -> None:
    scenario = at(stored(LLAMA_70B, AWQ | {"group_size": group}))
    told = [text for text in scenario.cautions() if "products are priced with" in text]
    assert bool(told) == said
    assert all(f"a scale per {group} rows take 0.5" in text for text in told)


def test_kv_b_of_a_quantised_latent_attention_is_told() -> None:
    model = load_model("deepseek-v3")
    quantised = at(model, B200, tp=8, quant="fp8_block")
    plain = at(model, B200, tp=8, quant="bf16")
    told = [any("kv_b" in text for text in one.cautions()) for one in (quantised, plain)]
    assert told == [True, False]


@pytest.mark.parametrize("name", ["deepseek-v3", "devstral-2-123b", "kimi-k2.5", "minimax-m2.5"])
def test_a_bundled_checkpoint_asked_for_in_bf16_costs_what_one_that_is_not_quantised_does(
    name: str,
) -> None:
    model = replace(load_model(name), num_hidden_layers=4)  # fits in 16 bits too
    asked, published = (at(model, B200, tp=4, quant=quant) for quant in ("bf16", None))
    plain = at(replace(model, quantisation=None), B200, tp=4)
    assert predict(asked).latency_s == predict(plain).latency_s
    held, asked_for, small = (
        GpuMemory(one).of(Plan()).weights for one in (plain, asked, published)
    )
    assert asked_for == held > 1.2 * small
