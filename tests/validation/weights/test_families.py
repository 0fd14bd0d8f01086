"""What holds of every family; a new one is tested by being listed in `ARCHITECTURES`."""

import pytest
import torch
from _support.tiny_models import write_config
from transformers import AutoModelForCausalLM

from isotune.simulator.architecture import architectures, read_model
from isotune.validation.weights import load_config


@pytest.mark.parametrize("family", architectures())
def test_its_parameters_are_as_many_as_those_of_transformers_own_model(tmp_path, family):
    model = read_model(write_config(tmp_path / family, family))
    with torch.device("meta"):
        net = AutoModelForCausalLM.from_config(load_config(tmp_path / family, 2))
    assert model.parameters == net.num_parameters()
