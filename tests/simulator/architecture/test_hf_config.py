"""A config.json is read as transformers reads it, or refused in one line that names the field."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isotune.simulator.architecture import Attend, Model, Norm, Qkv, Rope, load_model, read_model
from isotune.simulator.errors import InputError

TINY: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "vocab_size": 1000,
}
SIZES = ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size")

# Published configs without the fields whose default transformers supplies, and their counts.
PUBLISHED = {
    "google/gemma-2b": (
        2_506_172_416,
        "gemma 18 2048 8 16384 256000",
        {"num_key_value_heads": 1},
    ),
    "google/gemma-7b": (8_537_680_896, "gemma 28 3072 16 24576 256000", {}),
    "google/gemma-2-9b": (
        9_241_705_984,
        "gemma2 42 3584 16 14336 256000",
        {"num_key_value_heads": 8},
    ),
    "google/gemma-3-1b-pt": (
        999_885_952,
        "gemma3_text 26 1152 4 6912 262144",
        {"num_key_value_heads": 1},
    ),
    "microsoft/Phi-3-mini-4k-instruct": (3_821_079_552, "phi3 32 3072 32 8192 32064", {}),
    "mistralai/Mixtral-8x7B-v0.1": (46_702_792_704, "mixtral 32 4096 32 14336 32000", {}),
    "Qwen/Qwen2.5-7B": (
        7_615_616_512,
        "qwen2 28 3584 28 18944 152064",
        {"num_key_value_heads": 4},
    ),
    "Qwen/Qwen3-30B-A3B": (
        30_532_122_624,
        "qwen3_moe 48 2048 32 6144 151936",
        {"head_dim": 128, "moe_intermediate_size": 768},
    ),
    "allenai/OLMo-2-1124-7B": (7_298_617_344, "olmo2 32 4096 32 11008 100352", {}),
    "facebook/opt-350m": (
        331_196_416,
        "opt 24 1024 16 0 50272",
        {"ffn_dim": 4096, "word_embed_proj_dim": 512, "do_layer_norm_before": False},
    ),
}


def written(folder: Path, config: object) -> Path:
    file = folder / "config.json"
    file.write_text(config if isinstance(config, str) else json.dumps(config))
    return file


def refusal(file: Path) -> str:
    with pytest.raises(InputError) as error:
        read_model(file)
    assert "\n" not in str(error.value)
    return str(error.value)


def outcome(file: Path) -> Model | str:
    try:
        return read_model(file)
    except InputError as error:
        return str(error)


@pytest.mark.parametrize("repository", PUBLISHED)
def test_omitted_fields_take_the_value_transformers_gives_them(
    repository: str, tmp_path: Path
) -> None:
    count, shape, more = PUBLISHED[repository]
    model_type, *sizes = shape.split()
    config = dict(zip((*SIZES, "vocab_size"), map(int, sizes), strict=True))
    assert read_model(written(tmp_path, config | more | {"model_type": model_type})).parameters == (
        count
    )


def test_a_model_folder_and_its_config_are_the_same_model_named_after_the_folder(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "my-model"
    folder.mkdir()
    file = written(folder, TINY)
    assert load_model(str(folder)) == read_model(file)
    assert read_model(file).name == "my-model"


def test_a_linked_config_is_named_after_the_folder_of_the_link(tmp_path: Path) -> None:
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    (snapshot / "config.json").symlink_to(written(tmp_path, TINY))
    assert read_model(snapshot).name == "snapshot"


def test_a_quantised_checkpoint_is_the_same_architecture(tmp_path: Path) -> None:
    plain = read_model(written(tmp_path, TINY))
    quantised = TINY | {"quantization_config": {"quant_method": "awq", "bits": 4}}
    stored = read_model(written(tmp_path, quantised))
    assert stored.quantisation is not None
    assert replace(stored, quantisation=None) == plain


def windows(config: dict[str, object], folder: Path, tp: int = 1) -> list[int | None]:
    """The sliding window of every block."""
    model = read_model(written(folder, TINY | {"num_hidden_layers": 8} | config))
    blocks = model.blocks(tp)
    attends = [next(op for op in block.ops if isinstance(op, Attend)) for block in blocks]
    return [attends[kind].window for kind in model.pattern]


GEMMA_3 = [512, 512, 512, 512, 512, None, 512, 512]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"model_type": "mistral"}, [4096] * 8),
        ({"model_type": "mistral", "sliding_window": None}, [None] * 8),
        ({"model_type": "mixtral"}, [None] * 8),
        ({"model_type": "qwen2"}, [None] * 8),
        ({"model_type": "qwen2", "use_sliding_window": True}, [None] * 8),
        (
            {"model_type": "qwen2", "use_sliding_window": True, "max_window_layers": 6},
            [None] * 6 + [4096] * 2,
        ),
        ({"model_type": "gemma2"}, [4096, None] * 4),
        ({"model_type": "gemma3_text", "sliding_window": 512}, GEMMA_3),
        (
            {
                "model_type": "gemma2",
                "layer_types": ["full_attention"] * 7 + ["sliding_attention"],
            },
            [None] * 7 + [4096],
        ),
    ],
)
def test_every_block_has_the_window_that_transformers_gives_it(
    fields: dict[str, object], expected: list[int | None], tmp_path: Path
) -> None:
    assert windows({"num_key_value_heads": 8} | fields, tmp_path) == expected


def test_a_layer_type_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    strange = TINY | {"model_type": "gemma2", "layer_types": ["full_attention", "quantum"]}
    assert "layer_types.1: " in refusal(written(tmp_path, strange))
    short = TINY | {"model_type": "gemma2", "layer_types": ["full_attention"]}
    assert "layer_types: 1 entries for 2 blocks" in refusal(written(tmp_path, short))


def test_gemma_2_and_3_have_four_norms_in_a_block(tmp_path: Path) -> None:
    config = TINY | {"model_type": "gemma2", "num_key_value_heads": 4}
    for block in read_model(written(tmp_path, config)).blocks(1):
        assert [type(op).__name__ for op in block.ops if isinstance(op, Norm)] == (
            ["PostNorm", "Norm"] * 2
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": 0}, "hidden_size: Input should be greater than 0 (got 0)"),
        ({"num_hidden_layers": -1}, "num_hidden_layers: Input should be greater than 0 (got -1)"),
        ({"vocab_size": True}, "vocab_size: Input should be a valid integer (got True)"),
        ({"vocab_size": "1000"}, "vocab_size: Input should be a valid integer (got '1000')"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers: Input should be less than or equal"),
        ({"num_attention_heads": 5}, "num_attention_heads: 5 does not divide hidden_size 64"),
        ({"num_key_value_heads": 3}, "num_key_value_heads: 3 does not divide"),
        ({"attention_bias": "yes"}, "attention_bias: Input should be a valid boolean"),
        ({"model_type": "mamba"}, "model_type: 'mamba' is not supported (allowed: llama, mistral"),
        ({"model_type": None}, "model_type: missing (allowed: llama"),
        ({"model_type": "opt"}, "ffn_dim: Field required"),
        ({"model_type": "gemma3", "text_config": {"a": 1}}, "model_type: missing (allowed: "),
        ({"model_type": "mixtral", "num_local_experts": 1}, "num_experts_per_tok: 2 is more than"),
        (
            {"model_type": "deepseek_v4"},
            "model_type: 'deepseek_v4' is not supported: compressed sparse attention",
        ),
        ({"model_type": "gemma4_text"}, "hidden_size_per_layer_input: embeddings per block"),
        (
            {
                "model_type": "nemotron_h",
                "max_position_embeddings": 99,
                "hybrid_override_pattern": "M",
            },
            "hybrid_override_pattern: 1 entries for 2 blocks",
        ),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, object], message: str, tmp_path: Path) -> None:
    file = written(tmp_path, TINY | change)
    assert refusal(file).startswith(f"{file}: {message}")


@pytest.mark.parametrize("field", [*SIZES, "vocab_size"])
def test_a_missing_size_is_named(field: str, tmp_path: Path) -> None:
    rest = {key: value for key, value in TINY.items() if key != field}
    assert f": {field}: Field required" in refusal(written(tmp_path, rest))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{\n"hidden_size": 64,\n}', "line 3: malformed JSON"),
        ("", "line 1: malformed JSON"),
        ("[1, 2]", "expected a JSON object, found list"),
        ("[" * 100_000, "malformed JSON: nested too deeply"),
        ('{"hidden_size": ' + "9" * 5000 + "}", "malformed JSON: "),
    ],
)
def test_malformed_json_is_located(text: str, message: str, tmp_path: Path) -> None:
    file = written(tmp_path, text)
    assert refusal(file).startswith(f"{file}: {message}")


def test_infinity_in_a_field_without_a_bearing_is_no_fault(tmp_path: Path) -> None:
    text = json.dumps(TINY)[:-1] + ', "time_step_limit": [0.0, Infinity]}'
    assert read_model(written(tmp_path, text)).parameters > 0


def test_a_missing_file_and_a_folder_without_config_are_named(tmp_path: Path) -> None:
    assert "absent.json: cannot read it" in refusal(tmp_path / "absent.json")
    assert f"{tmp_path / 'config.json'}: cannot read it" in refusal(tmp_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
FIELDS = (*TINY, "head_dim", "num_key_value_heads", "sliding_window", "note", "num_local_experts")


@settings(deadline=None)
@given(
    architecture=st.sampled_from(["llama", "mistral", "mixtral", "qwen3_moe", "opt", "gemma2"]),
    changes=st.dictionaries(st.sampled_from(FIELDS), JSON, min_size=1, max_size=3),
)
def test_any_json_gives_a_model_or_one_clear_line(
    architecture: str, changes: dict[str, object], tmp_path_factory: pytest.TempPathFactory
) -> None:
    config = TINY | {"model_type": architecture, "ffn_dim": 256} | changes
    file = written(tmp_path_factory.mktemp("any"), config)
    answer = outcome(file)
    if isinstance(answer, Model):
        assert answer.parameters > 0
    else:
        assert answer.startswith(f"{file}: ")
        assert "\n" not in answer


def test_opt_has_learned_positions_and_no_rotation(tmp_path: Path) -> None:
    config = TINY | {"model_type": "opt", "ffn_dim": 128, "max_position_embeddings": 64}
    ops = read_model(written(tmp_path, config)).block(1).ops
    assert any(isinstance(op, Qkv) for op in ops)
    assert not any(isinstance(op, Rope) for op in ops)
