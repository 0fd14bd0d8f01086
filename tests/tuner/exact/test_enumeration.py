"""The exact optimum is what trying everything finds, and the bound is below it."""

from dataclasses import replace
from itertools import chain, combinations, product

import numpy as np
import pytest
from _support.patterned import patterned
from hypothesis import given
from hypothesis import strategies as st

from isotune.simulator.architecture import load_model
from isotune.simulator.batch import Timer
from isotune.simulator.machine import read_profile
from isotune.simulator.number_types import COMM_DTYPES
from isotune.simulator.predict import Scenario, predict
from isotune.simulator.schedule import TILE, Plan, Workload, granularity
from isotune.tuner.accuracy import DropCosts
from isotune.tuner.exact import best_split, joint_optimum, split_sizes

BLOCKS = 6


def scenario(hardware, prompt=640, blocks=BLOCKS, wait=None):
    profile = read_profile(hardware)
    if wait is not None:
        runtime = profile.runtime.model_copy(update={"event_wait": wait})
        profile = profile.model_copy(update={"runtime": runtime})
    model = replace(load_model("llama-2-70b"), num_hidden_layers=blocks)
    return Scenario(
        model=model, hardware=profile, workload=Workload(prompt=prompt, tp=profile.node.gpus)
    )


def splits_of(prompt, most):
    return [
        tuple(sizes)
        for chunks in range(2, most + 1)
        for sizes in split_sizes(prompt, chunks).tolist()
    ]


def every_plan(case, dtypes=("bf16",), most=3):
    everything = product(splits_of(case.workload.prompt, most), dtypes, case.sm_budgets)
    for chunks, dtype, sms in everything:
        yield Plan(strategy="iso", chunks=chunks, comm_dtype=dtype, comm_sms=sms)
    for dtype in dtypes:
        yield Plan(comm_dtype=dtype)


def test_splits_at_a_grain_are_all_there_once():
    sizes = split_sizes(1100, 3)
    edges = range(128, 1100, 128)
    expected = {(a, b - a, 1100 - b) for a, b in combinations(edges, 2)}
    assert {tuple(row) for row in sizes.tolist()} == expected
    assert len(sizes) == len(expected)


@pytest.mark.parametrize("hardware", ["a800", "rtx4090", "h100"])
def test_no_plan_of_up_to_three_chunks_beats_the_exact_one(hardware):
    case = scenario(hardware)
    best = best_split(case, comm_dtypes=("bf16", "int8"), chunks=3)
    timer = Timer(case)
    plans = [p for p in every_plan(case, ("bf16", "int8")) if p.strategy == "iso"]
    assert best.compared == len(plans)
    assert best.latency_s == pytest.approx(timer.seconds(plans).min(), rel=1e-12)
    assert timer.latency(best.plan) == pytest.approx(best.latency_s, rel=1e-12)


@pytest.mark.parametrize("seed", range(12))
def test_no_split_with_no_affordable_drop_set_beats_the_joint_optimum(seed):
    rng = np.random.default_rng(seed)
    # A long wait between the streams makes it matter which blocks are dropped, not only how many.
    case = scenario(["a800", "rtx4090"][seed % 2], wait=[None, 3e-4][seed // 2 % 2], prompt=512)
    if seed >= 8:
        case = replace(case, model=patterned(case.model, (0, 1, 2, 1, 0, 2)))
    costs = tuple(rng.uniform(-0.001, 0.01, BLOCKS).tolist())
    table = DropCosts(blocks=costs, transfer={"int8": 0.004})
    budget = float(rng.uniform(0.002, 0.03))
    best = joint_optimum(case, table, budget, comm_dtypes=("bf16", "int8"), chunks=3)
    sets = chain.from_iterable(combinations(range(BLOCKS), k) for k in range(BLOCKS + 1))
    affordable = [(drops, table.of_drops(drops)) for drops in sets]
    plans = [
        plan.model_copy(update={"dropped": drops})
        for plan in every_plan(case, ("bf16", "int8"))
        for drops, cost in affordable
        if cost + table.transfer.get(plan.comm_dtype, 0.0) <= budget
    ]
    timer = Timer(case)
    optimum = timer.seconds(plans).min()
    assert best.latency_s == pytest.approx(optimum, rel=1e-9)
    assert best.bound_s <= optimum * (1 + 1e-12)
    assert best.gap == pytest.approx(0.0, abs=1e-9)
    assert timer.latency(best.plan) == pytest.approx(best.latency_s, rel=1e-12)
    assert table.of_drops(best.plan.dropped) <= budget


def test_a_budget_for_nothing_drops_nothing():
    case = scenario("a800", prompt=512)
    table = DropCosts(blocks=(0.01,) * BLOCKS)
    assert joint_optimum(case, table, 0.005).plan.dropped == ()


def test_dearer_blocks_are_never_dropped_where_cheaper_ones_save_as_much():
    case = scenario("a100-lbw", prompt=128, blocks=80)
    costs = np.linspace(0.0001, 0.001, 80)
    table = DropCosts(blocks=tuple(costs.tolist()))
    best = joint_optimum(case, table, 0.01)
    cheapest_first = np.searchsorted(np.cumsum(costs), 0.01, side="right")
    assert len(best.plan.dropped) == cheapest_first
    assert best.gap < 1e-9


@pytest.mark.parametrize("hardware", ["a800", "rtx4090"])
@pytest.mark.parametrize("prompt", [40, 700])
def test_the_best_of_two_chunks_is_what_predicting_every_plan_finds(
    make_scenario, hardware, prompt
):
    case = make_scenario("llama-2-70b", hardware, blocks=2, prompt=prompt)
    drop_sets = ((), (1,))
    best = best_split(case, comm_dtypes=COMM_DTYPES, drop_sets=drop_sets, chunks=2)
    grain = granularity(prompt)
    tried = [
        predict(
            case,
            Plan(
                strategy="iso",
                chunks=(first, prompt - first),
                comm_dtype=comm_dtype,
                comm_sms=comm_sms,
                dropped=dropped,
            ),
        ).latency_s
        for first, comm_dtype, comm_sms, dropped in product(
            range(grain, prompt, grain), COMM_DTYPES, case.sm_budgets, drop_sets
        )
    ]
    assert best is not None
    assert best.compared == len(tried)
    assert best.latency_s == pytest.approx(min(tried), rel=1e-9)
    assert predict(case, best.plan).latency_s == pytest.approx(min(tried), rel=1e-9)


@given(st.integers(2, 20_000))
def test_splits_cover_the_prompt_at_the_grain(total):
    sizes, grain = split_sizes(total), granularity(total)
    assert (sizes > 0).all()
    assert (sizes.sum(axis=1) == total).all()
    assert (sizes[:, 0] == grain * np.arange(1, len(sizes) + 1)).all()
    assert sizes[-1, 1] <= grain


def test_long_prompts_are_split_at_whole_tiles_and_short_ones_finer():
    assert granularity(4 * TILE) == granularity(100_000) == TILE
    assert granularity(160) == 10
    assert granularity(3) == 1


def test_one_token_cannot_be_split(make_scenario):
    assert best_split(make_scenario(phase="decode", prompt=1000)) is None
    assert best_split(make_scenario(prompt=1)) is None


def test_sm_budgets_start_with_the_librarys_choice_and_stay_below_it(
    make_scenario,
):
    case = make_scenario()
    free, *budgets = case.sm_budgets
    assert free is None
    assert budgets == sorted(set(budgets))
    assert budgets[-1] < max(a.sms for a in case.hardware.collectives.algorithms.values())
