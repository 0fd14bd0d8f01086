"""Searches where GPUs share experts and requests."""

import re

import pytest

from isotune.simulator.architecture import Parallelism
from isotune.simulator.errors import InputError
from isotune.tuner.search import Options, front_rows, layouts_of, search, search_deployments

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


AXES = {"tp": (1, 2, 4), "ep": (1, 4), "cp": (1, 2), "dp": (1, 2, 4)}


def test_sizes_make_every_layout_that_can_be(make_scenario):
    scenario = make_scenario(**SPREAD)
    layouts, left_out = layouts_of(scenario, **AXES)
    assert len(set(layouts)) == len(layouts)
    assert all(ranks.gpus <= 8 and ranks.ep in (1, ranks.gpus) for ranks in layouts)
    assert Parallelism(tp=1, dp=4, ep=4) in layouts
    assert Parallelism(tp=2, cp=2, dp=2) in layouts
    assert left_out == {}


def test_a_layout_that_the_model_cannot_have_is_left_out_with_the_reason(make_scenario):
    scenario = make_scenario(model="deepseek-v3", hardware="h200", batch=8)
    layouts, left_out = layouts_of(scenario, tp=(2, 4), cp=(1, 2))
    assert set(layouts) == {Parallelism(tp=2), Parallelism(tp=4)}
    assert set(left_out) == {"tp2_cp2", "tp4_cp2"}
    assert all("context parallelism has no form" in reason for reason in left_out.values())
    with pytest.raises(InputError, match="context parallelism has no form"):
        layouts_of(scenario, tp=(2,), cp=(2,))
    with pytest.raises(InputError, match=re.escape("tp 16: there are 8 GPUs")):
        layouts_of(scenario, tp=(16,))


def test_layouts_are_compared_by_throughput_of_all_their_gpus(make_scenario):
    scenario = make_scenario(**SPREAD)
    layouts, _ = layouts_of(scenario, **AXES)
    options = Options(trials=60, objectives=("throughput", "latency"))
    found = search_deployments(scenario, layouts, (8,), options)
    rows = front_rows(found)
    tried = {trial.plan.ranks for trial in found.trials.tried}
    assert tried == set(layouts)
    for row in rows:
        gpus = row["tp"] * row["cp"] * row["dp"]
        tokens = 8 * scenario.workload.tokens
        assert row["tokens_per_s_per_gpu"] == pytest.approx(tokens / row["latency_s"] / gpus)
    by_latency = sorted(rows, key=lambda row: row["latency_s"])
    throughputs = [row["tokens_per_s_per_gpu"] for row in by_latency]
    assert throughputs == sorted(throughputs)
    best = found.best.scenario.workload.parallelism
    assert best == found.trials.front[0].plan.ranks


@pytest.mark.parametrize("ranks", [Parallelism(tp=8), Parallelism(tp=2, cp=2, dp=2, ep=8)])
def test_a_layouts_key_is_read_back(ranks):
    assert Parallelism.read(ranks.key) == ranks


@pytest.mark.parametrize("key", ["", "xx2", "tp", "tp0", "tp2 dp2"])
def test_what_is_no_key_is_refused(key):
    with pytest.raises(ValueError, match="is no layout"):
        Parallelism.read(key)


def test_a_layout_that_cannot_share_the_batch_is_left_out(make_scenario):
    scenario = make_scenario(hardware="h200", phase="decode", batch=8, tp=2)
    layouts, left_out = layouts_of(scenario, tp=(2,), cp=(1, 2))
    assert layouts == (Parallelism(tp=2),)
    assert "a decode has one" in left_out["tp2_cp2"]
