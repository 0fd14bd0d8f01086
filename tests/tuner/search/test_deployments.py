"""Tensor-parallel size and batch are chosen with the plan, by what they cost and bring."""

from dataclasses import replace

import optuna
import pytest

from isotune.simulator.architecture import Parallelism, load_model
from isotune.simulator.errors import InputError
from isotune.simulator.machine import read_profile
from isotune.simulator.predict import Scenario, predict
from isotune.simulator.schedule import Plan, Workload, check_plan
from isotune.tuner.exact import best_split
from isotune.tuner.search import Options, front_rows, search_deployments

CASE = Scenario(
    model=replace(load_model("llama-2-70b"), num_hidden_layers=4),
    hardware=read_profile("a800"),
    workload=Workload(prompt=2048),
)
BOTH = Options(objectives=("throughput", "latency"), trials=60)


@pytest.fixture(scope="module")
def result():
    return search_deployments(CASE, (1, 4, 8), (1, 3), BOTH)


def test_the_front_trades_latency_for_throughput_per_gpu(result):
    rows = front_rows(result)
    latency = [row["latency_s"] for row in rows]
    throughput = [row["tokens_per_s_per_gpu"] for row in rows]
    assert len({row["tp"] for row in rows}) > 1
    assert throughput == sorted(throughput, reverse=True)
    assert latency == sorted(latency, reverse=True)
    assert latency[-1] <= best_split(CASE.with_workload(tp=8, batch=1)).latency_s * (1 + 1e-9)


def test_every_row_of_the_front_is_the_prediction_of_its_plan(result):
    for row in front_rows(result):
        there = CASE.with_workload(tp=row["tp"], batch=row["batch"])
        plan = Plan.model_validate(row["plan"])
        check_plan(plan, there.model, there.workload)
        assert predict(there, plan).latency_s == pytest.approx(row["latency_s"], rel=1e-9)
        rate = row["batch"] * 2048 / row["latency_s"] / row["tp"]
        assert row["tokens_per_s_per_gpu"] == pytest.approx(rate)


def test_the_first_objective_chooses_within_the_latency_limit(result):
    assert result.best.scenario.workload.tp == 1
    limit = 1.1 * best_split(CASE.with_workload(tp=8, batch=1)).latency_s
    quick = search_deployments(CASE, (1, 4, 8), (1, 3), replace(BOTH, latency_limit=limit))
    assert quick.best.latency_s <= limit
    assert quick.best.scenario.workload.tp == 8


def test_what_cannot_be_is_refused_and_what_does_not_fit_is_pruned():
    with pytest.raises(InputError, match="has 8 GPUs, not 16"):
        search_deployments(CASE, (8, 16), (1,), BOTH)
    large = replace(CASE, model=load_model("llama-2-70b"))
    found = search_deployments(large, (1, 8), (1,), replace(BOTH, trials=16))
    assert found.trials.pruned > 0
    assert found.best.scenario.workload.tp == 8


def test_the_same_seed_finds_the_same_front(result):
    again = search_deployments(CASE, (1, 4, 8), (1, 3), BOTH)
    assert front_rows(again) == front_rows(result)
    assert again.trials == result.trials


def test_parameters_stand_for_their_deployment(result):
    from isotune.tuner.search.deployments import DeploymentSpace

    space = DeploymentSpace(
        scenario=CASE,
        strategies=("serial", "iso"),
        layouts=tuple(map(Parallelism.of, (1, 4, 8))),
        batches=(1, 3),
    )
    for item in result.trials.front:
        trial = optuna.trial.FixedTrial(space.parameters(item.plan))
        if item.plan.strategy in space.strategies:
            assert space.plan(trial) == item.plan
