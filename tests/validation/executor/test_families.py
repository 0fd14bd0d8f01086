"""Every family's numbers are the model's: windows, sinks, latent vectors, states, parallel blocks.

The families of `test_numbers` run under every strategy there; those here differ in their blocks.
"""

from functools import cache

import numpy as np
import pytest
import torch
from _support.runs import Case, ids, run_cases, save_random_model, unsharded
from _support.tiny_models import EXECUTED, VARIANTS, write_config

from isotune.simulator.architecture import read_model
from isotune.simulator.errors import InputError
from isotune.simulator.schedule import Plan, Workload, check_plan
from isotune.validation.reference import lossy
from isotune.validation.weights import Sharding, load_config

FAMILIES = [family for family in EXECUTED if family not in VARIANTS]
ISO = Plan(strategy="iso", chunks=(5, 7, 9))
LOSSLESS = (Plan(), ISO)
QUANTISED = Plan(strategy="iso", chunks=(5, 7, 9), comm_dtype="int8")
DROPPED = (Plan(dropped=(0, 1)), Plan(strategy="iso", chunks=(5, 7, 9), dropped=(1,)))


def error(got, want) -> float:
    got, want = np.asarray(got), np.asarray(want)
    return float(np.abs(got - want).max() / np.abs(want).max())


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {name: save_random_model(write_config(folder / name, name)) for name in FAMILIES}


@pytest.fixture(scope="module")
def results(models):
    """What the ranks computed, by the number of them: all cases in one set of processes."""

    @cache
    def run(tp):
        cases = []
        for folder in models.values():
            plans = list(LOSSLESS)
            if tp > 1:
                plans.append(QUANTISED)
                whole = read_model(folder)
                every = len(whole.droppable(tp)) == whole.num_hidden_layers
                plans += DROPPED if every else ()
            cases += [
                Case(folder=folder, plan=plan, batch=2, generate=4 if plan == ISO else 0)
                for plan in plans
            ]
        return run_cases(cases, tp)

    return run


@pytest.mark.parametrize("tp", [1, 2, 4])
def test_a_lossless_plan_gives_the_logits_and_tokens_of_the_unsharded_model(results, tp):
    for case, logits, last, generated in results(tp):
        if case.plan not in LOSSLESS:
            continue
        name, model, tokens = f"{case.folder.name}, {case.plan}", unsharded(case.folder), ids(case)
        with torch.no_grad():
            want = model(tokens).logits.numpy()
        assert error(logits, want) < 1e-4, name
        assert error(last, want[:, -1]) < 1e-4, name
        if generated is None:
            continue
        whole = model.generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=4,
            min_new_tokens=4,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
        assert generated.tolist() == whole[:, tokens.shape[1] :].tolist(), name


@pytest.mark.parametrize("tp", [2, 4])
def test_a_lossy_plan_gives_what_its_mathematics_gives_in_one_process(results, tp):
    for case, logits, _, _ in results(tp):
        model, tokens, plan = unsharded(case.folder), ids(case), case.plan
        if plan in LOSSLESS:
            continue
        name = f"{case.folder.name}, {plan}"
        with torch.no_grad():
            exact = model(tokens).logits
            with lossy(model, tp=tp, dropped=plan.dropped, transfer=plan.comm_dtype):
                want = model(tokens).logits
        # Where a rounding falls on the other side of a half, one step of the grid is the error.
        allowed = 1e-4 if plan.dropped else 0.3 * error(want, exact)
        assert error(logits, want) < allowed, name
        assert error(want, exact) > 1e-3, f"{name}: the plan loses nothing"


@pytest.mark.parametrize(
    ("family", "why"),
    [
        ("gemma2", "block 0 of .* norms what attention returns, which needs the whole sum"),
        ("cohere", "block 0 of .* has no second all-reduce that would complete the sum"),
    ],
)
def test_no_all_reduce_is_dropped_whose_sum_a_norm_needs(models, family, why):
    with pytest.raises(InputError, match=why):
        check_plan(Plan(dropped=(0,)), read_model(models[family]), Workload(prompt=21, tp=2))


def test_key_heads_of_linear_attention_are_not_copied(models):
    with pytest.raises(InputError, match="8 does not divide linear_num_key_heads 4"):
        Sharding(load_config(models["qwen3_next"], 2), 8)
