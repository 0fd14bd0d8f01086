"""Searches where GPUs share experts and requests."""

import pytest

from isotune.tuner.search import Options, search

SPREAD = {"model": "mixtral-8x22b", "hardware": "h200", "blocks": 4, "batch": 8}


@pytest.mark.parametrize("sizes", [{"tp": 2, "dp": 4, "ep": 8}, {"tp": 1, "dp": 8, "ep": 8}])
def test_a_search_chooses_among_what_can_run_rows_that_travel(make_scenario, sizes):
    scenario = make_scenario(**SPREAD, **sizes)
    found = search(scenario, Options(trials=20))
    assert found.best.plan.how.any_collective
    assert found.best.latency_s <= found.baseline.latency_s
    assert not found.best.plan.lossy


def test_no_technique_sends_int8_through_an_all_to_all(make_scenario):
    scenario = make_scenario(**SPREAD, tp=1, dp=8, ep=8)
    found = search(scenario, Options(trials=20))
    shown = found.techniques
    assert shown
    assert not any(one.prediction.plan.quantised for one in shown)
