"""What a checkpoint says of its number types, method by method, with the traits of public files."""

import json
from pathlib import Path
from typing import Any

import pytest

from isotune.simulator.architecture import LmHead, Matmul, Model, read_model
from isotune.simulator.architecture.quantisation_config import METHODS
from isotune.simulator.errors import InputError
from isotune.simulator.number_types import Quantised

SIZES: dict[str, Any] = {
    "model_type": "llama",
    "num_hidden_layers": 4,
    "hidden_size": 1024,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "intermediate_size": 2048,
    "vocab_size": 1000,
}
MIXTURE = SIZES | {
    "model_type": "qwen3_moe",
    "head_dim": 128,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 768,
}
FLOAT8 = {"num_bits": 8, "type": "float"}
FLOAT4 = {"num_bits": 4, "type": "float", "group_size": 16}
INT4 = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32, "symmetric": True}
BLOCKS = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}


def checkpoint(folder: Path, section: dict[str, Any] | None, sizes: dict[str, Any]) -> Model:
    file = folder / "config.json"
    file.write_text(json.dumps(sizes | ({"quantization_config": section} if section else {})))
    return read_model(file)


def schemes(model: Model) -> dict[tuple[int, str], str]:
    """The scheme of each product that is quantised, by block and name; the LM head is block -1."""
    blocks = model.blocks(1)
    every = [(layer, op) for layer, kind in enumerate(model.pattern) for op in blocks[kind].ops]
    every += [(-1, op) for op in model.tail(1)]
    return {
        (layer, op.name): op.quantised.scheme.name
        for layer, op in every
        if isinstance(op, Matmul) and op.quantised is not None
    }


def compressed(weights: dict[str, Any], activations: dict[str, Any] | None, **more: Any) -> Any:
    group = {"targets": ["Linear"], "weights": weights, "input_activations": activations}
    return {"quant_method": "compressed-tensors", "config_groups": {"group_0": group}} | more


PLAIN = {
    "fp8": ({"quant_method": "fp8"}, "fp8"),
    "fp8 in blocks": (BLOCKS, "fp8_block"),
    "fbgemm_fp8": ({"quant_method": "fbgemm_fp8", "activation_scale_ub": 1200.0}, "fp8"),
    "compressed-tensors fp8": (compressed(FLOAT8 | {"strategy": "channel"}, FLOAT8), "fp8"),
    "compressed-tensors fp8 in blocks": (
        compressed(FLOAT8 | {"strategy": "block", "block_structure": [128, 128]}, FLOAT8),
        "fp8_block",
    ),
    "compressed-tensors fp8 weights": (compressed(FLOAT8, None), "fp8_wo"),
    "compressed-tensors int8": (
        compressed({"num_bits": 8, "type": "int"}, {"num_bits": 8, "type": "int"}),
        "w8a8",
    ),
    "compressed-tensors int4": (compressed(INT4, None), "int4"),
    "compressed-tensors nvfp4": (compressed(FLOAT4, FLOAT4), "nvfp4"),
    "compressed-tensors mxfp4": (compressed(FLOAT4 | {"group_size": 32}, None), "mxfp4"),
    "modelopt": ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4"),
    "modelopt without a method": ({"quant_algo": "FP8", "kv_cache_scheme": "FP8"}, "fp8"),
    "awq": ({"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}, "int4"),
    "gptq": ({"quant_method": "gptq", "bits": 8, "group_size": -1}, "int8"),
    "bitsandbytes": ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "int4"),
    "LLM.int8": ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "w8a8"),
}


@pytest.mark.parametrize(("section", "scheme"), PLAIN.values(), ids=PLAIN)
def test_a_method_quantises_all_products_of_the_blocks(
    tmp_path: Path, section: dict[str, Any], scheme: str
) -> None:
    model = checkpoint(tmp_path, section, SIZES)
    names = ("qkv", "attention_out", "mlp_up", "mlp_down")
    assert schemes(model) == {(layer, name): scheme for layer in range(4) for name in names}
    assert model.pattern == (0,) * 4
    assert scheme in str(model.quantisation)


def test_every_method_is_among_those_tried() -> None:
    tried = {section.get("quant_method") for section, _ in PLAIN.values()} | {"mxfp4"}
    assert set(METHODS) <= tried


def test_mxfp4_is_of_the_experts_alone(tmp_path: Path) -> None:
    left_out = ["model.layers.*.self_attn", "model.layers.*.mlp.router", "lm_head"]
    section = {"quant_method": "mxfp4", "modules_to_not_convert": left_out}
    assert schemes(checkpoint(tmp_path, section, SIZES)) == {}
    found = schemes(checkpoint(tmp_path, section, MIXTURE))
    assert set(found.values()) == {"mxfp4"}
    assert {name for _, name in found} == {"mlp_up", "mlp_down"}


@pytest.mark.parametrize(
    ("left_out", "missing"),
    [
        (["model.layers.1.self_attn.q_proj"], {(1, "qkv")}),
        (["model.layers.0.self_attn"], {(0, "qkv"), (0, "attention_out")}),
        (["model.language_model.layers.2.mlp*"], {(2, "mlp_up"), (2, "mlp_down")}),
        (["re:.*self_attn.*"], {(n, op) for n in range(4) for op in ("qkv", "attention_out")}),
        (["o_proj"], {(n, "attention_out") for n in range(4)}),
        (["gate", "model.layers.0.input_layernorm", "lm_head", "... 283 entries"], set()),
    ],
)
def test_modules_left_out_are_not_quantised(
    tmp_path: Path, left_out: list[str], missing: set[tuple[int, str]]
) -> None:
    section = compressed(FLOAT8, FLOAT8, ignore=left_out)
    every = schemes(checkpoint(tmp_path, compressed(FLOAT8, FLOAT8), SIZES))
    found = schemes(checkpoint(tmp_path, section, SIZES))
    assert set(every) - set(found) == missing


def test_layers_may_have_types_of_their_own(tmp_path: Path) -> None:
    section = {
        "quant_method": "modelopt",
        "quant_algo": "MIXED_PRECISION",
        "quantized_layers": {
            "model.layers.0.mlp.down_proj": {"quant_algo": "FP8"},
            "model.layers.1.mlp.down_proj": {"quant_algo": "NVFP4", "group_size": 16},
            "lm_head": {"quant_algo": "FP8"},
        },
    }
    model = checkpoint(tmp_path, section, SIZES)
    expected = {(0, "mlp_down"): "fp8", (1, "mlp_down"): "nvfp4", (-1, "lm_head"): "fp8"}
    assert schemes(model) == expected
    assert model.pattern == (0, 1, 2, 2)


def test_groups_name_their_modules(tmp_path: Path) -> None:
    section = compressed(FLOAT8, FLOAT8)
    section["config_groups"]["group_1"] = {"targets": ["re:.*down_proj"], "weights": INT4}
    found = schemes(checkpoint(tmp_path, section, SIZES))
    assert (found[0, "mlp_down"], found[0, "mlp_up"]) == ("int4", "fp8")


def test_gptq_may_quantise_the_lm_head_and_skip_modules(tmp_path: Path) -> None:
    section = {"quant_method": "gptq", "bits": 4, "lm_head": True, "dynamic": {"-:.*attn.*": {}}}
    found = schemes(checkpoint(tmp_path, section, SIZES))
    assert {name for _, name in found} == {"mlp_up", "mlp_down", "lm_head"}


@pytest.mark.parametrize(
    ("section", "cache"),
    [
        (compressed(FLOAT8, FLOAT8), None),
        (compressed(FLOAT8, FLOAT8, kv_cache_scheme=FLOAT8), "fp8"),
        ({"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}, "fp8"),
        ({"quant_algo": "FP8", "kv_cache_scheme": "FP8"}, "fp8"),
    ],
)
def test_the_type_of_the_kv_cache_is_read(
    tmp_path: Path, section: dict[str, Any], cache: str | None
) -> None:
    quantisation = checkpoint(tmp_path, section, SIZES).quantisation
    assert quantisation is not None
    assert quantisation.kv_cache == cache


@pytest.mark.parametrize("wrapped", [True, False])
def test_modelopt_may_keep_it_in_a_file_of_its_own(tmp_path: Path, wrapped: bool) -> None:
    content = {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8", "exclude_modules": ["lm_head"]}
    whole = {"producer": {"name": "modelopt"}, "quantization": content} if wrapped else content
    (tmp_path / "hf_quant_config.json").write_text(json.dumps(whole))
    model = checkpoint(tmp_path, None, SIZES)
    assert str(model.quantisation) == "fp8 (modelopt), fp8 KV cache"


@pytest.mark.parametrize("section", [None, {}])
def test_a_checkpoint_without_a_section_is_not_quantised(tmp_path: Path, section: Any) -> None:
    assert checkpoint(tmp_path, section, SIZES).quantisation is None


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"quant_method": "aqlm"}, ["quant_method: 'aqlm'", *METHODS]),
        ({"bits": 4}, ["quant_method: missing", *METHODS]),
        (BLOCKS | {"weight_block_size": [64, 64]}, ["weight_block_size", "128"]),
        ({"quant_method": "gptq", "bits": 3}, ["bits", "4 or 8"]),
        ({"quant_method": "modelopt", "quant_algo": "W4A8_AWQ"}, ["W4A8_AWQ", "NVFP4", "FP8"]),
        (compressed(INT4, FLOAT8), ["4-bit int weights with 8-bit float", "fp8, fp8_wo"]),
        (compressed(FLOAT8, FLOAT8, kv_cache_scheme=INT4), ["kv_cache_scheme", "8-bit float"]),
        (compressed(FLOAT8, FLOAT8, ignore=["re:("]), ["regular expression"]),
        ({"quant_method": "bitsandbytes"}, ["load_in_4bit"]),
    ],
)
def test_what_cannot_be_priced_is_refused_in_one_line(
    tmp_path: Path, section: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(InputError) as caught:
        checkpoint(tmp_path, section, SIZES)
    text = str(caught.value)
    assert "\n" not in text
    assert all(word in text for word in ["config.json: quantization_config", *words])


def test_a_checkpoint_that_leaves_the_experts_out_keeps_the_rest(tmp_path: Path) -> None:
    section = compressed(FLOAT8, FLOAT8, ignore=["re:.*mlp.experts.*"])
    found = schemes(checkpoint(tmp_path, section, MIXTURE))
    assert {name for _, name in found} == {"qkv", "attention_out"}


def test_the_router_gate_is_not_the_gate_of_the_mlp(tmp_path: Path) -> None:
    found = schemes(checkpoint(tmp_path, BLOCKS | {"modules_to_not_convert": ["gate"]}, SIZES))
    assert (0, "mlp_up") in found


def test_a_product_that_names_no_modules_is_no_default(tmp_path: Path) -> None:
    quantisation = checkpoint(tmp_path, BLOCKS, SIZES).quantisation
    assert quantisation is not None
    with pytest.raises(TypeError, match="names no modules"):
        quantisation.of(LmHead(name="head", sublayer="head", n=1, k=1), None)


def test_experts_beside_the_mlp_are_not_left_out_with_it(tmp_path: Path) -> None:
    sizes = {
        "model_type": "gemma4_text",
        "num_hidden_layers": 2,
        "hidden_size": 1024,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 128,
        "global_head_dim": 128,
        "intermediate_size": 2048,
        "vocab_size": 1000,
        "max_position_embeddings": 4096,
        "sliding_window": 512,
        "layer_types": ["sliding_attention", "full_attention"],
        "hidden_size_per_layer_input": 0,
        "num_kv_shared_layers": 0,
        "enable_moe_block": True,
        "num_experts": 8,
        "top_k_experts": 2,
        "moe_intermediate_size": 512,
    }
    left_out = ["model.language_model.layers.*.mlp*", "model.language_model.layers.*.self_attn*"]
    found = schemes(checkpoint(tmp_path, compressed(FLOAT4, FLOAT4, ignore=left_out), sizes))
    assert {name for _, name in found} == {"mlp_up", "mlp_down"}


def test_scales_count_by_the_group_of_the_checkpoint() -> None:
    assert Quantised.of("int4", 32).weight_bytes == 0.5 + 2 / 32
    assert Quantised.of("int4", 128, zero_points=True).weight_bytes == 0.5 + 2.5 / 128
    assert Quantised.of("int8", -1).weight_bytes == 1.0
    assert Quantised.of("nvfp4", 16).weight_bytes == 0.5625
