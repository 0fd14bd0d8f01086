"""What each technique alone would bring, and from which prompt length on ISO pays."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from isotune.simulator.predict import SERIAL, Scenario, predict
from isotune.simulator.schedule import SEARCHABLE, Plan
from isotune.tuner.accuracy import DropCosts
from isotune.tuner.exact import best_split
from isotune.tuner.techniques import (
    LENGTHS,
    IsoGains,
    Technique,
    best_even,
    gains,
    latency,
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
        "int8 transfer", "ISO with fused norms+", "sequence parallelism+", "async TP+",
        "all combined",
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
    own = (s for name, s in took.items() if not name.endswith("+"))
    assert took["all combined"] == min(own)


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
def test_iso_pays_from_the_length_given_on_and_not_before(
    make_scenario: MakeScenario, hardware: str
) -> None:
    scenario = make_scenario("llama-2-70b", hardware, blocks=4, tp=2)
    iso = IsoGains(scenario)
    first, surely = iso.pays_from(), iso.surely_pays_from()
    assert first is not None
    assert surely is None or surely >= first
    at = LENGTHS.index(first)
    savings = [gain.saving for gain in gains(scenario, LENGTHS)]
    assert all(saving > 0.0 for saving in savings[at:])
    assert at == 0 or savings[at - 1] <= 0.0


@pytest.mark.parametrize(("hardware", "model"), [("a800", "llama-2-70b"), ("a100", "llama-2-7b")])
def test_where_iso_surely_pays_no_search_calls_its_saving_less_than_its_error(
    make_scenario: MakeScenario, hardware: str, model: str
) -> None:
    scenario = make_scenario(model, hardware, blocks=None)
    surely = IsoGains(scenario).surely_pays_from()
    assert surely is not None
    longer = [length for length in LENGTHS if length >= surely]
    for prompt in (*longer[:8], *longer[8::8]):
        at_length = scenario.with_workload(prompt=prompt)
        best = best_split(at_length, chunks=2)
        assert best is not None
        assert predict(at_length, best.plan, must_fit=False).saving_is_certain, prompt


def test_the_interval_of_a_gain_is_the_predictions(make_scenario: MakeScenario) -> None:
    scenario = make_scenario("llama-2-70b", "a800", blocks=4)
    for gain in gains(scenario, (320, 2048, 8192)):
        whole = predict(scenario.with_workload(prompt=gain.prompt), gain.plan)
        assert gain.saving == pytest.approx(whole.saving, rel=1e-9, abs=1e-12)
        assert gain.least == pytest.approx(whole.saving_interval[0], rel=1e-9, abs=1e-12)


def test_where_iso_gains_the_exact_split_beats_serial(make_scenario: MakeScenario) -> None:
    scenario = make_scenario("llama-2-70b", blocks=4)
    for gain in gains(scenario, (128, 512, 4096)):
        at_length = scenario.with_workload(prompt=gain.prompt)
        best = best_split(at_length)
        assert best is not None
        if gain.saving > 0.0:
            assert best.latency_s < predict(at_length).latency_s


@pytest.mark.parametrize("workload", [{"tp": 1}, {"phase": "decode"}])
def test_where_there_is_nothing_to_overlap_no_length_pays(
    make_scenario: MakeScenario, workload: dict[str, object]
) -> None:
    assert IsoGains(make_scenario("llama-2-70b", blocks=4, **workload)).pays_from() is None
