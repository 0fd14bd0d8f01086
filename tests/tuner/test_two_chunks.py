"""The exact reference is what trying every plan, one by one, finds."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.plan import COMM_DTYPES, Plan
from simulator.policy import TILE, granularity
from simulator.predict import predict
from simulator.scenario import Scenario
from tuner.exact import best_split, sm_budgets, split_sizes

MakeScenario = Callable[..., Scenario]


@pytest.mark.parametrize("hardware", ["a800", "rtx4090"])
@pytest.mark.parametrize("prompt", [40, 700])
def test_it_equals_brute_force(make_scenario: MakeScenario, hardware: str, prompt: int) -> None:
    scenario = make_scenario("llama-2-70b", hardware, blocks=2, prompt=prompt)
    drop_sets = ((), (1,))
    best = best_split(scenario, comm_dtypes=COMM_DTYPES, drop_sets=drop_sets)
    grain = granularity(prompt)
    tried = [
        predict(
            scenario,
            Plan(
                strategy="iso",
                chunks=(first, prompt - first),
                comm_dtype=comm_dtype,
                comm_sms=comm_sms,
                dropped=dropped,
            ),
        ).latency_s
        for first, comm_dtype, comm_sms, dropped in product(
            range(grain, prompt, grain), COMM_DTYPES, sm_budgets(scenario), drop_sets
        )
    ]
    assert best is not None
    assert best.compared == len(tried)
    assert best.latency_s == pytest.approx(min(tried), rel=1e-9)
    assert predict(scenario, best.plan).latency_s == pytest.approx(min(tried), rel=1e-9)


@given(st.integers(2, 20_000))
def test_splits_cover_the_prompt_at_the_grain(total: int) -> None:
    sizes, grain = split_sizes(total), granularity(total)
    assert (sizes > 0).all()
    assert (sizes.sum(axis=1) == total).all()
    assert (sizes[:, 0] == grain * np.arange(1, len(sizes) + 1)).all()
    assert sizes[-1, 1] <= grain


def test_long_prompts_are_split_at_whole_tiles_and_short_ones_finer() -> None:
    assert granularity(4 * TILE) == granularity(100_000) == TILE
    assert granularity(160) == 10
    assert granularity(3) == 1


def test_one_token_cannot_be_split(make_scenario: MakeScenario) -> None:
    assert best_split(make_scenario(phase="decode", prompt=1000)) is None
    assert best_split(make_scenario(prompt=1)) is None


def test_sm_budgets_start_with_the_librarys_choice_and_stay_below_it(
    make_scenario: MakeScenario,
) -> None:
    scenario = make_scenario()
    free, *budgets = sm_budgets(scenario)
    assert free is None
    assert budgets == sorted(set(budgets))
    assert budgets[-1] < max(a.sms for a in scenario.hardware.collectives.algorithms.values())
