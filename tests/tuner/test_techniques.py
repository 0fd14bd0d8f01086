"""What each technique alone would bring, and from which prompt length on ISO pays."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from isotune.simulator.predict import SERIAL, Scenario, predict
from isotune.simulator.schedule import SEARCHABLE, TILE, Plan
from isotune.tuner.accuracy import DropCosts
from isotune.tuner.exact import best_split
from isotune.tuner.techniques import (
    LONGEST_PROMPT,
    IsoGains,
    Technique,
    best_even,
    latency,
    passes,
    techniques,
)

MakeScenario = Callable[..., Scenario]
DROPPED = (1, 2, 3)


def shown(
    scenario: Scenario,
    *,
    found: Plan = SERIAL,
    drop_costs: DropCosts | None = None,
    spd: bool = True,
) -> dict[str, Technique]:
    listed = techniques(
        scenario,
        best=found,
        dropped=DROPPED,
        drop_costs=drop_costs,
        strategies=SEARCHABLE,
        spd=spd,
    )
    return {technique.name: technique for technique in listed}


@pytest.fixture(scope="module")
def listed(make_scenario: MakeScenario) -> dict[str, Technique]:
    return shown(make_scenario("llama-2-70b", "rtx4090", blocks=4, prompt=2048, batch=2))


def test_every_technique_stands_alone_and_all_stand_together(listed: dict[str, Technique]) -> None:
    plans = {name: technique.prediction.plan for name, technique in listed.items()}
    assert list(plans) == [
        "GEMM overlap", "request overlap", "ISO, even split", "ISO, tuned", "SPD, 3 blocks",
        "int8 transfer", "all combined",
    ]  # fmt: skip
    assert plans["ISO, even split"] == Plan(strategy="iso", chunks=(1024, 1024))
    assert plans["SPD, 3 blocks"] == Plan(dropped=DROPPED)
    assert plans["int8 transfer"] == Plan(comm_dtype="int8")
    assert plans["all combined"].comm_dtype == "int8"
    assert plans["GEMM overlap"].strategy == "gemm_overlap"
    assert plans["request overlap"].strategy == "request_overlap"


def test_what_changes_the_models_numbers_is_marked(listed: dict[str, Technique]) -> None:
    lossy = {name for name, technique in listed.items() if technique.lossy}
    assert lossy == {"SPD, 3 blocks", "int8 transfer", "all combined"}
    assert {name for name, technique in listed.items() if technique.assumed} == lossy


def test_what_a_sensitivity_table_measures_is_not_marked_as_assumed(
    make_scenario: MakeScenario,
) -> None:
    scenario = make_scenario("llama-2-70b", blocks=4, prompt=1024)
    drops = DropCosts(blocks=(0.0,) * 4)
    assert not shown(scenario, drop_costs=drops)["SPD, 3 blocks"].assumed
    assert shown(scenario, drop_costs=drops)["int8 transfer"].assumed
    both = replace(drops, transfer={"int8": 0.001})
    assert not any(t.assumed for t in shown(scenario, drop_costs=both).values())


def test_tuned_is_at_least_as_fast_as_even_and_all_at_least_as_fast_as_one_on_a_slow_link(
    listed: dict[str, Technique],
) -> None:
    took = {name: technique.prediction.latency_s for name, technique in listed.items()}
    assert took["ISO, tuned"] <= took["ISO, even split"]
    assert took["all combined"] == min(took.values())


def test_a_found_plan_is_a_candidate_for_iso_and_for_all_together(
    make_scenario: MakeScenario,
) -> None:
    scenario = make_scenario("llama-2-70b", "rtx4090", blocks=4, prompt=4096)
    found = Plan(strategy="iso", chunks=(1280, 1536, 1280), comm_sms=1)
    best = min(
        latency(scenario, found), latency(scenario, shown(scenario)["ISO, tuned"].prediction.plan)
    )
    assert latency(scenario, shown(scenario, found=found)["ISO, tuned"].prediction.plan) == best


def test_request_overlap_needs_two_requests(make_scenario: MakeScenario) -> None:
    assert "request overlap" not in shown(make_scenario("llama-2-70b", blocks=4, prompt=1024))


def test_dropping_is_not_shown_where_it_is_ruled_out(make_scenario: MakeScenario) -> None:
    scenario = make_scenario("llama-2-70b", blocks=4, prompt=1024)
    assert not any(t.prediction.plan.dropped for t in shown(scenario, spd=False).values())


def test_one_gpu_has_no_techniques(make_scenario: MakeScenario) -> None:
    assert shown(make_scenario(prompt=1024, tp=1)) == {}


def test_the_quick_latency_is_the_predictions(make_scenario: MakeScenario) -> None:
    scenario = make_scenario("llama-2-70b", blocks=4, prompt=1000)
    for plan in (Plan(), Plan(comm_dtype="fp8"), Plan(strategy="iso", chunks=(300, 300, 400))):
        assert latency(scenario, plan) == pytest.approx(predict(scenario, plan).latency_s, rel=1e-9)


def test_the_best_even_split_is_the_best_of_them(make_scenario: MakeScenario) -> None:
    scenario = make_scenario("llama-2-70b", "rtx4090", blocks=4, prompt=2048)
    best = best_even(scenario, "gemm_overlap", 4)
    assert best is not None
    for count in (2, 4):
        even = Plan(strategy="gemm_overlap", chunks=(2048 // count,) * count)
        assert latency(scenario, best) <= latency(scenario, even)
    assert best_even(make_scenario(prompt=1024), "request_overlap", 4) is None


@pytest.mark.parametrize("hardware", ["a800", "rtx4090", "h100"])
def test_iso_pays_from_the_length_given_and_not_a_tile_before(
    make_scenario: MakeScenario, hardware: str
) -> None:
    scenario = make_scenario("llama-2-70b", hardware, blocks=4, tp=2)
    iso = IsoGains(scenario)
    first = iso.pays_from()
    assert first is not None
    assert first % TILE == 0
    assert TILE <= first < LONGEST_PROMPT
    assert iso.gains(first)
    if first > TILE:
        assert not iso.gains(first - TILE)
    length = 1 << first.bit_length()
    while length <= LONGEST_PROMPT:
        assert iso.gains(length), "and from every longer power of two on"
        length *= 2


def test_iso_gains_more_than_the_error_of_the_model_later_than_it_gains_at_all(
    make_scenario: MakeScenario,
) -> None:
    scenario = make_scenario("llama-2-70b", "h100", blocks=4, tp=8)
    iso = IsoGains(scenario)
    first, surely = iso.pays_from(), iso.surely_pays_from()
    assert first is not None
    assert surely is None or surely >= first
    for prompt in (512, 4096):
        there = Scenario(
            model=scenario.model,
            hardware=scenario.hardware,
            workload=scenario.workload.model_copy(update={"prompt": prompt}),
        )
        best = best_split(there, chunks=2)
        assert best is not None
        if iso.surely_gains(prompt):
            assert predict(there, best.plan).saving_interval[1] > 0.0
        if predict(there, best.plan).saving <= 0.0:
            assert not iso.surely_gains(prompt)


def test_the_quick_interval_is_the_predictions(make_scenario: MakeScenario) -> None:
    scenario = make_scenario("llama-2-70b", "a800", blocks=4, prompt=2048)
    plan = Plan(strategy="iso", chunks=(1024, 1024), comm_sms=8)
    whole = predict(scenario, plan).run
    quick = passes(scenario, plan)
    assert quick.latency == pytest.approx(whole.latency, rel=1e-9)
    assert quick.shifted == pytest.approx(whole.shifted, rel=1e-9)


def test_where_iso_gains_the_exact_split_beats_serial(make_scenario: MakeScenario) -> None:
    scenario = make_scenario("llama-2-70b", blocks=4)
    iso = IsoGains(scenario)
    for prompt in (128, 512, 4096):
        workload = scenario.workload.model_copy(update={"prompt": prompt})
        there = Scenario(model=scenario.model, hardware=scenario.hardware, workload=workload)
        best = best_split(there)
        assert best is not None
        if iso.gains(prompt):
            assert best.latency_s < predict(there).latency_s


@pytest.mark.parametrize("workload", [{"tp": 1}, {"phase": "decode"}])
def test_where_there_is_nothing_to_overlap_no_length_pays(
    make_scenario: MakeScenario, workload: dict[str, object]
) -> None:
    assert IsoGains(make_scenario("llama-2-70b", blocks=4, **workload)).pays_from() is None
