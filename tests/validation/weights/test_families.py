"""Every family has, block by block, the weights of transformers' own model."""

import json
from pathlib import Path

import pytest
from _support.families import FAMILIES, tiny

from isotune.simulator.architecture import Model, bundled_models, load_model, model_config_file
from isotune.simulator.architecture import read_model as read
from isotune.simulator.errors import InputError
from isotune.validation.weights import check_family, differences


def tiny_model(config: dict[str, object], folder: Path) -> tuple[Model, Path]:
    file = folder / "config.json"
    file.write_text(json.dumps(config))
    return read(file), file


@pytest.mark.parametrize("family", FAMILIES)
def test_blocks_have_the_weights_that_transformers_builds(family: str, tmp_path: Path) -> None:
    assert differences(*tiny_model(tiny(family), tmp_path)) == ()


@pytest.mark.parametrize("name", [name for name in bundled_models() if name != "llama-30b"])
def test_bundled_models_have_the_weights_that_transformers_builds(name: str) -> None:
    assert differences(load_model(name), model_config_file(name)) == ()


def test_a_difference_names_the_block(tmp_path: Path) -> None:
    model, file = tiny_model(tiny("llama"), tmp_path)
    file.write_text(json.dumps(tiny("llama") | {"mlp_bias": False}))
    assert differences(model, file)[0] == "block 0: 31,296 elements, transformers 31,040"


def test_a_model_that_transformers_lacks_is_one_line(tmp_path: Path) -> None:
    model, file = tiny_model(tiny("baichuan"), tmp_path)
    with pytest.raises(InputError, match="transformers does not build it"):
        differences(model, file)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (tiny("gemma2"), "model_type: real runs do not support 'gemma2'"),
        (tiny("deepseek_v3"), "model_type: real runs do not support 'deepseek_v3'"),
        ({"vision_config": {}, "text_config": tiny("qwen3")}, "do not support the vision part"),
        (tiny("qwen3_moe"), "do not support MLPs of several kinds"),
        (tiny("llama") | {"architectures": ["LlamaForRewardModel"]}, "the head that scores"),
    ],
)
def test_a_real_run_refuses_what_it_cannot_run_before_it_starts(config, message, tmp_path):
    model, _ = tiny_model(config, tmp_path)
    with pytest.raises(InputError, match=message):
        check_family(model)
