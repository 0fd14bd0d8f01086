"""Error bars: what widens them, what cancels, and what they must contain."""

from collections.abc import Callable, Collection
from math import hypot

import pytest

from isotune.simulator.machine import CLASSES, Errors, HardwareProfile, read_profile
from isotune.simulator.predict import (
    ENGINE_APART,
    LAYOUT_APART,
    Z80,
    Factors,
    Scenario,
    predict,
    saving_interval,
)
from isotune.simulator.schedule import Plan, simulate

MakeScenario = Callable[..., Scenario]
NONE = dict.fromkeys(CLASSES, 0.0)
ISO = Plan(strategy="iso", chunks=(2048, 2048))


def machine(**errors: float) -> HardwareProfile:
    return read_profile("h100").model_copy(update={"errors": Errors(**NONE | errors)})


def scenario(make: MakeScenario, **errors: float) -> Scenario:
    return make("llama-2-70b", machine(**errors), blocks=4, tp=8, prompt=4096)


def test_without_errors_an_interval_is_a_point(make_scenario: MakeScenario) -> None:
    sure = predict(scenario(make_scenario), ISO)
    assert sure.latency_interval_s == pytest.approx((sure.latency_s, sure.latency_s))
    assert sure.saving_interval == pytest.approx((sure.saving, sure.saving))


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_widens_the_interval_of_an_overlapped_pass(
    make_scenario: MakeScenario, name: str
) -> None:
    widths = []
    for error in (0.0, 0.05, 0.2):
        found = predict(scenario(make_scenario, **{name: error}), ISO)
        low, high = found.latency_interval_s
        assert low <= found.latency_s <= high
        widths.append(high - low)
    assert widths[0] < widths[1] < widths[2]


def test_an_error_of_all_compute_widens_a_pass_without_communication_by_itself(
    make_scenario: MakeScenario,
) -> None:
    alone = make_scenario("llama-2-7b", machine(runtime=0.1), blocks=4, tp=1, prompt=4096)
    found = predict(alone)
    low, high = found.latency_interval_s
    assert high / found.latency_s == pytest.approx(1.1**Z80)
    assert found.latency_s / low == pytest.approx(1.1**Z80)


def test_what_baseline_and_plan_share_cancels_from_a_saving(make_scenario: MakeScenario) -> None:
    drop = Plan(dropped=(0, 1, 2, 3))
    found = predict(scenario(make_scenario, gemm=0.1), drop)
    low, high = found.latency_interval_s
    relative = (high - low) / (2 * found.latency_s)
    saving = (found.saving_interval[1] - found.saving_interval[0]) / 2
    assert saving < 0.25 * relative


def test_errors_that_two_passes_do_not_share_count_for_each_of_them(
    make_scenario: MakeScenario,
) -> None:
    wide, narrow = (predict(make_scenario(hardware="h100", tp=tp)).run for tp in (8, 4))

    def width(apart: Collection[str]) -> float:
        low, high = saving_interval(wide, narrow, apart)
        assert (low + high) / 2 == pytest.approx(1 - wide.latency / narrow.latency)
        return high - low

    assert width(()) < width(LAYOUT_APART) < width(ENGINE_APART) < width(CLASSES)
    relative = [shifted / run.latency - 1 for run in (wide, narrow) for shifted in run.shifted]
    first_order = 2 * Z80 * wide.latency / narrow.latency * hypot(*relative)
    assert width(CLASSES) == pytest.approx(first_order, rel=0.1)


def test_the_serial_plan_saves_nothing_for_certain(make_scenario: MakeScenario) -> None:
    serial = predict(scenario(make_scenario, gemm=0.1, collectives=0.2))
    assert serial.saving_interval == pytest.approx((0.0, 0.0), abs=1e-12)


def test_the_saving_of_overlap_rests_on_contention_and_that_of_spd_does_not(
    make_scenario: MakeScenario,
) -> None:
    doubtful = scenario(make_scenario, contention=0.5)
    overlapped, dropped = predict(doubtful, ISO), predict(doubtful, Plan(dropped=(0, 1)))
    assert overlapped.saving_interval[1] - overlapped.saving_interval[0] > 0.02
    assert dropped.saving_interval == pytest.approx((dropped.saving, dropped.saving))


def test_a_saving_smaller_than_its_error_is_not_certain(make_scenario: MakeScenario) -> None:
    overlapped = predict(scenario(make_scenario, contention=2.0), ISO)
    assert overlapped.saving > 0
    assert not overlapped.saving_is_certain
    assert predict(scenario(make_scenario, contention=0.01), ISO).saving_is_certain


def test_figures_that_nobody_measured_here_have_wider_errors() -> None:
    derived = read_profile("a10")
    assert derived.derived_from
    assert derived.derived_error_factor > 1
    relative = read_profile(derived.derived_from)
    for name in CLASSES:
        wider = relative.class_errors()[name] * derived.derived_error_factor
        assert derived.class_errors()[name] == pytest.approx(wider)


@pytest.mark.parametrize(
    "plan",
    [Plan(), ISO, Plan(strategy="gemm_overlap", chunks=(2048, 2048), dropped=(1,))],
    ids=["serial", "iso", "tiles"],
)
def test_shifted_passes_are_those_of_the_reference_timeline(
    make_scenario: Callable[..., Scenario], plan: Plan
) -> None:
    run = predict(scenario(make_scenario, gemm=0.1, collectives=0.2, contention=0.5), plan).run
    errors = run.scenario.class_errors()
    slower = [run.costs.under(Factors(classes={name: 1 + errors[name]})) for name in CLASSES]
    reference = [simulate(run.program, costs).latency for costs in slower]
    assert run.shifted == pytest.approx(reference, rel=1e-9)
