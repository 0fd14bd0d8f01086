"""OLMo 2: norms after the sublayers, and of all heads of a projection together."""

import pytest
import torch
from _support.runs import Case, ids, run_cases, save_random_model, unsharded
from _support.tiny_models import write_config

from isotune.simulator.errors import InputError
from isotune.simulator.schedule import Plan
from isotune.validation.weights import Sharding, load_config


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_random_model(write_config(tmp_path_factory.mktemp("models") / "olmo2", "olmo2"))


@pytest.mark.parametrize("plan", [Plan(), Plan(strategy="iso", chunks=(13, 8))])
def test_one_rank_gives_the_logits_of_the_unsharded_model(folder, plan):
    ((case, logits, _, _),) = run_cases([Case(folder=folder, plan=plan, batch=2)], 1)
    with torch.no_grad():
        want = unsharded(folder)(ids(case)).logits
    assert float((torch.as_tensor(logits) - want).abs().max()) < 1e-4 * float(want.abs().max())


def test_several_ranks_are_refused_in_one_line_since_none_sees_all_heads(folder):
    with pytest.raises(InputError, match="olmo2 norms all heads of a projection together"):
        Sharding(load_config(folder, 2), 2)
