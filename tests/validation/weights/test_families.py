"""Every family has, block by block, the weights of transformers' own model."""

import json
from pathlib import Path

import pytest
from _support.families import FAMILIES, tiny

from isotune.simulator.architecture import Model, bundled_models, load_model, model_config_file
from isotune.simulator.architecture import read_model as read
from isotune.simulator.errors import InputError
from isotune.validation.weights import check_family, check_spd_family, differences


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
        (tiny("falcon"), "model_type: real runs do not support 'falcon'"),
        (tiny("deepseek_v32"), "model_type: real runs do not support 'deepseek_v32'"),
        ({"vision_config": {}, "text_config": tiny("qwen3")}, "do not support the vision part"),
        (tiny("llama") | {"architectures": ["LlamaForRewardModel"]}, "the head that scores"),
    ],
)
def test_a_real_run_refuses_what_it_cannot_run_before_it_starts(config, message, tmp_path):
    model, _ = tiny_model(config, tmp_path)
    with pytest.raises(InputError, match=message):
        check_family(model)


def test_a_family_without_recovery_is_refused_by_the_commands_that_recover(tmp_path):
    model, _ = tiny_model(tiny("gemma2"), tmp_path)
    check_family(model)
    with pytest.raises(InputError, match="sensitivities and recovery do not support 'gemma2'"):
        check_spd_family(model)
