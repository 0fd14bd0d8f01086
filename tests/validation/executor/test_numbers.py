"""The numbers of a plan are the model's: real processes against transformers."""

from functools import cache

import numpy as np
import pytest
import torch
from _support.runs import PROMPT, Case, ids, run_cases, save_random_model, unsharded
from _support.strategy_contract import ExecutedStrategyContract, plan_of
from _support.tiny_models import VARIANTS, write_config

from isotune.simulator.schedule import STRATEGIES, Plan, Workload
from isotune.validation.reference import lossy

BATCH = 3
EXECUTED = [name for name, how in STRATEGIES.items() if how.executable]
WORKLOAD = Workload(prompt=PROMPT, batch=BATCH, tp=2)
LOSSLESS = (
    *(plan_of(STRATEGIES[name], WORKLOAD) for name in EXECUTED),
    Plan(strategy="iso", chunks=(1, 7, 2, 11)),
)
LOSSY = (
    Plan(dropped=(0,)),
    Plan(dropped=(0, 1), comm_dtype="int8"),
    Plan(strategy="iso", chunks=(9, 12), dropped=(1,)),
    Plan(strategy="iso", chunks=(9, 12), comm_dtype="int8"),
    Plan(strategy="request_overlap", chunks=(2, 1), dropped=(0, 1)),
    Plan(strategy="gemm_overlap", chunks=(40, 23), dropped=(0,)),
    Plan(strategy="gemm_overlap", chunks=(40, 23), dropped=(1,), comm_dtype="fp8"),
)


def error(got, want) -> float:
    got, want = np.asarray(got), np.asarray(want)
    return float(np.abs(got - want).max() / np.abs(want).max())


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {family: save_random_model(write_config(folder / family, family)) for family in VARIANTS}


@pytest.fixture(scope="module")
def results(models):
    """What the ranks computed, by the number of them: all cases in one set of processes."""

    @cache
    def run(tp):
        families = (
            models if tp < 4 else {name: models[name] for name in ("llama", "opt", "mixtral")}
        )
        cases = [
            Case(folder=folder, plan=plan, batch=BATCH, generate=4 if len(plan.chunks) == 4 else 0)
            for folder in models.values()
            for plan in LOSSLESS
            if tp < 4 or plan.chunks
        ]
        if tp > 1:
            cases += [
                Case(folder=folder, plan=plan, batch=BATCH)
                for folder in families.values()
                for plan in LOSSY
            ]
        if tp == 2:
            cases += [
                Case(folder=models[family], plan=plan, dtype=torch.bfloat16, batch=BATCH)
                for family in ("llama", "opt", "gemma")
                for plan in (Plan(), Plan(strategy="iso", chunks=(13, 8)))
            ]
        found = run_cases(cases, tp)
        assert len(found) == len(cases)
        return found

    return run


@cache
def unsharded_logits(folder):
    with torch.no_grad():
        return unsharded(folder)(ids(Case(folder=folder, plan=Plan(), batch=BATCH))).logits.numpy()


class TestExecutedStrategies(ExecutedStrategyContract):
    @pytest.fixture(params=EXECUTED)
    def how(self, request):
        return STRATEGIES[request.param]

    @pytest.fixture
    def executed(self, how, results):
        return [
            (case.folder.name, logits, unsharded_logits(case.folder))
            for case, logits, _, _ in results(WORKLOAD.tp)
            if case.plan == plan_of(how, WORKLOAD) and case.dtype == torch.float32
        ]


@pytest.mark.parametrize("tp", [1, 2, 4])
def test_a_lossless_plan_gives_the_logits_and_tokens_of_the_unsharded_model(results, tp):
    for case, logits, last, generated in results(tp):
        if case.plan.lossy or case.dtype != torch.float32:
            continue
        name = f"{case.folder.name}, {case.plan}"
        model, tokens = unsharded(case.folder), ids(case)
        want = unsharded_logits(case.folder)
        assert error(logits, want) < 1e-4, name
        assert error(last, want[:, -1]) < 1e-4, name
        if generated is not None:
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
        if not plan.lossy:
            continue
        name = f"{case.folder.name}, {plan}"
        with torch.no_grad():
            exact = model(tokens).logits
            with lossy(model, tp=tp, dropped=plan.dropped, transfer=plan.comm_dtype):
                want = model(tokens).logits
        # Where a rounding falls on the other side of a half, one step of the grid is the error.
        allowed = 1e-4 if plan.comm_dtype == "bf16" else 0.2 * error(want, exact)
        assert error(logits, want) < allowed, name
        assert error(want, exact) > 1e-3, f"{name}: the plan loses nothing"


def test_bf16_rounds_no_worse_than_the_unsharded_model_does(results):
    cases = [result for result in results(2) if result[0].dtype == torch.bfloat16]
    assert cases
    for case, logits, _, _ in cases:
        tokens = ids(case)
        with torch.no_grad():
            exact = unsharded(case.folder)(tokens).logits
            rounded = unsharded(case.folder, torch.bfloat16)(tokens).logits.float()
        assert error(logits, exact) < 2 * error(rounded, exact), case.folder.name
