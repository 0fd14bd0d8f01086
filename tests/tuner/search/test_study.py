"""The search finds what is there, keeps to its limits, and says what it did."""

import importlib.util
from dataclasses import replace

import pytest

from isotune.simulator.architecture import load_model
from isotune.simulator.errors import InputError
from isotune.simulator.machine import read_profile
from isotune.simulator.predict import Scenario, predict
from isotune.simulator.schedule import Plan, Workload
from isotune.tuner.accuracy import Recovery, Sensitivity
from isotune.tuner.search import Evaluator, Options, Settings, run_study, search, starts
from isotune.tuner.search.objectives import Judge
from isotune.tuner.search.samplers import sampler_of
from isotune.tuner.space import Space

CASE = Scenario(
    model=replace(load_model("llama-2-70b"), num_hidden_layers=8),
    hardware=read_profile("a800"),
    workload=Workload(prompt=2048),
)
SPACE = Space(scenario=CASE, strategies=("serial", "iso", "gemm_overlap"))
TABLE = Sensitivity(model="any", blocks=(0.001,) * 8, transfer={"int8": 0.002})


def study(space=SPACE, objective=None, judge=None, **settings):
    settings = Settings(**({"trials": 40} | settings))
    judge = judge or Judge(scenario=CASE)
    return run_study(space, judge, Evaluator(CASE, objective), settings, starts(space, None))


def test_the_same_seed_gives_the_same_trials_and_another_seed_others():
    def outcome(seed):
        tried = []
        result = study(
            seed=seed, trials=60, objective=lambda plan: tried.append(plan) or len(tried)
        )
        return tried, result.best

    assert outcome(1) == outcome(1)
    assert outcome(1)[0] != outcome(2)[0]


@pytest.mark.parametrize("sampler", ["auto", "tpe", "nsga2", "random", "cmaes", "gp"])
def test_every_sampler_finds_a_plan_faster_than_serial(sampler):
    needs = {"cmaes": "cmaes", "gp": "torch"}.get(sampler)
    if needs and importlib.util.find_spec(needs) is None:
        with pytest.raises(InputError, match=f"{sampler} needs {needs}"):
            study(sampler=sampler)
        return
    found = study(sampler=sampler, trials=32)
    assert found.run == 32
    assert found.best.seconds < predict(CASE).latency_s
    assert found.best.seconds == pytest.approx(predict(CASE, found.best.plan).latency_s, rel=1e-9)


def test_an_unknown_sampler_is_refused():
    with pytest.raises(InputError, match="allowed: auto, tpe"):
        sampler_of("bayes", 0, 1)


def test_any_callable_from_plan_to_seconds_is_an_objective():
    found = study(objective=lambda plan: 2.0 - (plan.comm_sms or 0) / 100, trials=60)
    assert found.best.plan.comm_sms == max(p for p in (1, 2, 4, 6, 8, 12) if p)


def test_what_an_objective_raises_fails_the_trial_and_is_counted_with_its_reason():
    def broken(plan):
        if plan.strategy == "iso":
            raise RuntimeError("NCCL gave up")
        return 1.0

    found = study(objective=broken)
    assert found.failed == found.why["RuntimeError: NCCL gave up"] > 0
    assert found.run == 40
    assert found.best.plan.strategy != "iso"


def test_an_interrupt_between_real_runs_keeps_every_one_of_them():
    ran = []

    def measure(plan):
        if len(ran) == 11:
            raise KeyboardInterrupt
        ran.append(plan)
        return 1.0 / len(ran)

    found = search(CASE, Options(objective=measure, trials=40)).trials
    assert found.interrupted
    assert found.run >= len(ran) == len(set(ran)) == 11
    assert found.best.plan == ran[-1]


def test_a_plan_that_does_not_fit_is_pruned_not_failed():
    case = Scenario(
        model=load_model("llama-2-70b"),
        hardware=read_profile("rtx4090"),
        workload=Workload(prompt=100_000),
    )
    space = Space(scenario=case, strategies=("serial", "iso"))
    found = run_study(
        space, Judge(scenario=case), Evaluator(case), Settings(trials=8), starts(space, None)
    )
    assert (found.pruned, found.failed, found.best) == (8, 0, None)
    assert all("does not fit in memory" in why for why in found.why)


def test_two_objectives_give_a_front_on_which_speed_costs_accuracy():
    space = replace(SPACE, comm_dtypes=("bf16", "int8"), drop_order=tuple(range(8)))
    judge = Judge(scenario=CASE, objectives=("latency", "accuracy_cost"), drop_costs=TABLE.costs())
    front = study(space, judge=judge, trials=150).front
    latency, cost = zip(*(item.values for item in front), strict=True)
    assert len(front) > 2
    assert list(latency) == sorted(latency)
    assert list(cost) == sorted(cost, reverse=True)
    assert front[-1].plan.dropped == ()


@pytest.mark.parametrize("sampler", ["auto", "tpe", "nsga2"])
def test_no_plan_past_a_limit_is_best(sampler):
    space = replace(SPACE, comm_dtypes=("bf16", "int8"), drop_order=tuple(range(8)))
    judge = Judge(scenario=CASE, drop_costs=TABLE.costs(), accuracy_budget=0.005)
    found = study(space, judge=judge, sampler=sampler, trials=100)
    assert TABLE.costs().of_drops(found.best.plan.dropped) > 0
    assert judge.accuracy_cost(found.best.plan) <= 0.005 + 1e-12


def test_the_search_stops_once_nothing_can_be_faster():
    result = search(CASE, Options(strategies=("serial", "iso"), max_chunks=3, trials=500))
    assert result.trials.stopped_at_bound
    assert result.trials.run < 100
    assert result.trials.best.seconds == pytest.approx(result.exact.latency_s, rel=1e-9)


def test_the_search_never_ends_above_the_exact_optimum():
    options = Options(recovery=Recovery(table=TABLE), accuracy_budget=0.004, trials=16)
    result = search(CASE, options)
    assert result.best.latency_s <= result.exact.latency_s * (1 + 1e-9)
    assert result.accuracy_cost <= 0.004 + 1e-12


def test_a_latency_no_plan_reaches_is_an_error_in_words():
    with pytest.raises(InputError, match="no plan within the limits"):
        search(CASE, Options(latency_limit=1e-6, trials=16))


def test_accuracy_is_no_objective_where_it_is_not_known():
    with pytest.raises(InputError, match="needs --sensitivity"):
        search(CASE, Options(objectives=("latency", "accuracy_cost")))


def test_neighbours_add_up_and_the_nearest_come_first():
    plan = Plan(strategy="iso", chunks=(1024, 512, 512))
    near = list(SPACE.neighbours(plan))
    assert all(sum(other.chunks) == 2048 for other in near)
    first = near[0].chunks
    assert sum(a != b for a, b in zip(first, plan.chunks, strict=True)) == 2
    assert {len(other.chunks) for other in near} == {2, 3, 4}
    assert any(other.chunks == (512, 512, 1024) for other in near)
    both = [o for o in near if o.comm_sms != plan.comm_sms and o.chunks != plan.chunks]
    assert both, "and a split point and the SM budget at once"
