"""Thresholds make ISB, SB and ESB of sensitivities."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isotune.simulator.errors import InputError
from isotune.tuner.accuracy import Thresholds

COSTS = (0.004, 0.5, -0.001, 0.02, 0.001, 0.0005, 0.03, 0.002, 0.003, 0.0001)


def test_given_thresholds_are_inclusive():
    classes = Thresholds(tau1=0.001, tau2=0.02).classes(COSTS)
    assert classes == ("SB", "ESB", "ISB", "SB", "ISB", "ISB", "ESB", "SB", "SB", "ISB")


def test_quantiles_are_shares_of_the_blocks():
    classes = Thresholds.by_quantiles(COSTS, 0.6, 0.9).classes(COSTS)
    assert [classes.count(kind) for kind in ("ISB", "SB", "ESB")] == [6, 3, 1]
    assert classes[1] == "ESB"


def test_a_budget_pays_for_the_isbs_together_and_for_no_esb_alone():
    classes = Thresholds.by_budget(COSTS, 0.01).classes(COSTS)
    cheap = [cost for cost, kind in zip(COSTS, classes, strict=True) if kind == "ISB"]
    others = [cost for cost in COSTS if cost not in cheap]
    assert sum(cheap) <= 0.01 < sum(cheap) + min(others)
    costly = [cost for cost, kind in zip(COSTS, classes, strict=True) if kind == "ESB"]
    assert costly == [cost for cost in COSTS if cost > 0.01]


def test_equal_blocks_are_isbs_together_or_not_at_all():
    costs = (0.004, 0.002, 0.004, 0.004)
    assert Thresholds.by_budget(costs, 0.011).classes(costs) == ("SB", "ISB", "SB", "SB")
    assert set(Thresholds.by_budget(costs, 0.015).classes(costs)) == {"ISB"}


def test_a_budget_that_pays_for_nothing_leaves_no_isb():
    assert set(Thresholds.by_budget((0.2, 0.1), 0.05).classes((0.2, 0.1))) == {"ESB"}


@given(
    st.lists(st.floats(-1, 10), min_size=1, max_size=40, unique=True),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_quantiles_count_blocks_whatever_the_costs(costs, one, two):
    first, second = sorted((one, two))
    classes = Thresholds.by_quantiles(costs, first, second).classes(costs)
    assert classes.count("ISB") == round(first * len(costs))


def test_thresholds_that_make_no_sense_are_refused():
    with pytest.raises(InputError, match="tau1 must not be above tau2"):
        Thresholds(tau1=0.1, tau2=0.01)
    with pytest.raises(InputError, match="must ascend"):
        Thresholds.by_quantiles(COSTS, 0.9, 0.6)
