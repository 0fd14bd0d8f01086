"""Recovery of dropped blocks, tables corrected by what was measured, and the front."""

from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isotune.simulator.errors import InputError
from isotune.simulator.predict import Scenario
from isotune.simulator.schedule import Plan
from isotune.tuner.accuracy import (
    RecoveredDrops,
    Recovery,
    Sensitivity,
    by_class,
    corrected,
    with_check,
)
from isotune.tuner.accuracy.recovery import ZERO_SHOT, effort
from isotune.tuner.accuracy.sensitivity import Check
from isotune.tuner.exact import joint_optimum
from isotune.tuner.search import accuracy_front
from isotune.tuner.search.pareto import PAPER

TABLE = Sensitivity(
    model="any",
    blocks=(0.001, 0.02, 0.004, 0.0005),
    treatments={
        "bias": (0.0008, 0.012, 0.003, 0.0006),
        "bias+distil": (0.0002, 0.004, 0.001, 0.0001),
    },
)


def costs_of(table: Sensitivity, *names: str) -> tuple[float, ...]:
    return Recovery(table=table, names=names or None).costs.blocks


def recovered(dropped: Iterable[int], budget: float) -> RecoveredDrops:
    return Recovery(table=TABLE).of(Plan(dropped=tuple(sorted(dropped))), budget)


def test_a_search_counts_every_block_at_its_best_recovery() -> None:
    assert costs_of(TABLE) == (0.0002, 0.004, 0.001, 0.0001)
    assert costs_of(TABLE, ZERO_SHOT) == TABLE.costs().blocks == TABLE.blocks
    assert costs_of(TABLE, "bias", ZERO_SHOT) == (0.0008, 0.012, 0.003, 0.0005)
    with pytest.raises(InputError, match="'heads' is not in the sensitivity file"):
        Recovery(table=TABLE, names=("heads",))


def test_a_transfer_is_paid_before_the_drops() -> None:
    table = TABLE.model_copy(update={"transfer": {"int8": 0.002}})
    recovery = Recovery(table=table)
    plan = Plan(dropped=(0, 2, 3), comm_dtype="int8")
    assert recovery.costs.left(0.0075, "int8") == pytest.approx(0.0055)
    roomy, tight = recovery.of(plan, 0.0075), recovery.of(plan, 0.007)
    assert set(roomy.treatments.values()) == {ZERO_SHOT}
    assert set(tight.treatments.values()) != {ZERO_SHOT}
    assert recovery.costs.of(plan) == pytest.approx(0.0013 + 0.002)


def test_a_roomy_budget_repairs_nothing_and_a_tight_one_everything() -> None:
    assert set(recovered((0, 2, 3), 0.01).treatments.values()) == {ZERO_SHOT}
    tight = recovered((0, 1, 2, 3), 0.0053)
    assert set(tight.treatments.values()) == {"bias+distil"}
    between = recovered((0, 1, 2, 3), 0.008)
    assert between.treatments == {
        0: ZERO_SHOT,
        1: "bias+distil",
        2: "bias+distil",
        3: ZERO_SHOT,
    }
    assert between.cost == pytest.approx(0.0065)


@given(st.floats(0.0053, 0.03), st.sets(st.integers(0, 3), min_size=1))
def test_treatments_keep_to_a_budget_that_the_best_ones_keep_to(
    budget: float, dropped: set[int]
) -> None:
    found = recovered(dropped, budget)
    costs = corrected(TABLE)
    assert found.cost <= budget + 1e-12
    assert found.cost == pytest.approx(sum(costs[n][b] for b, n in found.treatments.items()))
    best = recovered(dropped, 0.0).treatments
    assert all(effort(found.treatments[b]) <= effort(best[b]) for b in dropped)


CHECKS = st.lists(
    st.tuples(
        st.dictionaries(st.integers(0, 3), st.sampled_from([ZERO_SHOT, "bias"]), min_size=1),
        st.floats(-0.01, 0.1),
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda item: tuple(sorted(item[0])),
)


@given(CHECKS)
def test_a_corrected_table_says_of_checked_sets_what_was_measured(
    checks: list[tuple[dict[int, str], float]],
) -> None:
    nested = all(set(a) <= set(b) or set(b) <= set(a) for a, _ in checks for b, _ in checks)
    if not nested:
        return
    table = TABLE
    for treatments, growth in checks:
        table = with_check(table, treatments, growth)
    costs = corrected(table)
    for treatments, growth in checks:
        assert sum(costs[n][b] for b, n in treatments.items()) == pytest.approx(growth, abs=1e-9)


def test_growth_beyond_the_sum_makes_every_drop_dearer_and_the_next_set_smaller() -> None:
    first = recovered((0, 2, 3), 0.006)
    table = with_check(TABLE, first.treatments, 3 * first.cost)
    dearer = zip(costs_of(table), costs_of(TABLE), strict=True)
    assert all(after > before for after, before in dearer)
    sizes = [len(Recovery(table=t).costs.affordable(0.006)[-1]) for t in (table, TABLE)]
    assert sizes[0] < sizes[1]
    again = with_check(table, first.treatments, first.cost)
    assert again.checks == (Check(treatments=dict(first.treatments), growth=first.cost),)


def test_a_check_of_what_the_table_does_not_have_is_refused() -> None:
    table = with_check(TABLE, {0: "heads"}, 0.1)
    with pytest.raises(InputError, match="block 0 as 'heads' is not in the table"):
        corrected(table)


def test_the_papers_rule_drops_what_was_measured_for_each_class() -> None:
    assert by_class(TABLE) is None
    table = TABLE.model_copy(update={"classes": ("ISB", "ESB", "SB", "ISB")})
    ruled = by_class(table)
    assert ruled is not None
    assert ruled.treatments == {0: ZERO_SHOT, 2: "bias+distil", 3: ZERO_SHOT}
    assert ruled.cost == pytest.approx(0.001 + 0.001 + 0.0005)


def test_no_point_of_the_front_beats_another_and_the_papers_rule_is_on_it(
    make_scenario: Callable[..., Scenario],
) -> None:
    scenario = make_scenario(hardware="a100-lbw", blocks=4, tp=4, prompt=512)
    table = TABLE.model_copy(update={"classes": ("ISB", "ESB", "SB", "ISB")})
    points = accuracy_front(scenario, Recovery(table=table), chunks=2)
    searched = [point for point in points if not point.rule]
    assert [point.growth for point in searched] == sorted(point.growth for point in searched)
    times = [point.latency_s for point in searched]
    assert times == sorted(times, reverse=True)
    assert searched[0].growth <= 0 or not searched[0].plan.dropped
    ruled = [point for point in points if point.rule]
    assert [point.rule for point in ruled] == [PAPER]
    assert ruled[0].plan.strategy == "serial"
    beaten = any(p.growth <= ruled[0].growth and p.latency_s < ruled[0].latency_s for p in searched)
    assert ruled[0].dominated == beaten


def test_without_iso_the_joint_optimum_is_serial(make_scenario: Callable[..., Scenario]) -> None:
    scenario = make_scenario(hardware="rtx4090", blocks=4, tp=4, prompt=8192)
    with_iso = joint_optimum(scenario, TABLE.costs(), 0.01, chunks=2)
    without = joint_optimum(scenario, TABLE.costs(), 0.01, chunks=2, iso=False)
    assert with_iso.plan.strategy == "iso"
    assert without.plan.strategy == "serial"
    assert with_iso.latency_s < without.latency_s
