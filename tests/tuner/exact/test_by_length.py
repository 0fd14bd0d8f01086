"""Many prompt lengths solved in one batch are solved as well as each alone."""

from dataclasses import replace

import pytest

from isotune.simulator.architecture import load_model
from isotune.simulator.batch import Timer
from isotune.simulator.machine import read_profile
from isotune.simulator.predict import Scenario
from isotune.simulator.schedule import Plan, Workload
from isotune.tuner.exact import best_split, solve

CASES = [("rtx4090", "int8", (0, 2)), ("a800", "bf16", ())]


@pytest.mark.parametrize(("hardware", "transfer", "dropped"), CASES)
def test_each_length_gets_its_optimum_over_up_to_three_chunks(hardware, transfer, dropped):
    case = Scenario(
        model=replace(load_model("llama-2-70b"), num_hidden_layers=4),
        hardware=read_profile(hardware),
        workload=Workload(weight_dtype="int8"),
    )
    plain = Plan(comm_dtype=transfer, dropped=dropped)
    lengths = (40, 300, 1500, 3000, 4096, 6000, 9001)
    three = 0
    for length, found in zip(lengths, solve(case, lengths, plain), strict=True):
        there = case.with_workload(prompt=length)
        timer = Timer(there)
        exact = best_split(there, comm_dtypes=(transfer,), drop_sets=(dropped,), chunks=3)
        optimum = min(exact.latency_s, timer.latency(plain))
        # Exact while the prompt has few tiles, near it beyond.
        assert found.optimum <= optimum * (1 + (1e-9 if length < 4224 else 2e-3)), length
        assert found.optimum == pytest.approx(timer.latency(found.plan), rel=1e-9)
        assert found.serial == pytest.approx(timer.latency(Plan()), rel=1e-9)
        three += len(found.plan.chunks) == 3
    assert three or transfer == "bf16"


def test_where_nothing_overlaps_serial_is_the_optimum():
    case = Scenario(
        model=load_model("llama-2-7b"), hardware=read_profile("a800"), workload=Workload(tp=1)
    )
    (found,) = solve(case, [2048], Plan())
    assert (found.plan, found.optimum) == (Plan(), found.serial)
