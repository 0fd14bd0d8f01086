"""The compiled engine is the reference timeline, for any prices and any program."""

from dataclasses import replace

import numpy as np
import pytest
from _support.patterned import patterned
from hypothesis import given, settings
from hypothesis import strategies as st

from isotune.simulator.architecture import Collective, load_model
from isotune.simulator.automaton import (
    INTERPRETED,
    STATES,
    Automaton,
    DropSets,
    compiled,
    structure,
)
from isotune.simulator.schedule import Plan, Workload, expand, simulate

MODEL = load_model("llama-2-70b")


class Costs:
    """Costs of roles drawn at random, read by step as the reference does."""

    def __init__(self, program, whole, seconds, slowdowns, wait):
        roles = {role: index for index, role in enumerate(whole.roles)}
        self._role = [roles[step.role] for step in program.steps]
        self._whole, self._seconds, self._slowdowns = whole, seconds, slowdowns
        self.event_wait = wait

    def seconds(self, step):
        return self._seconds[self._role[step]]

    def slowdowns(self, compute, sync):
        pair = self._whole.layout.pair[self._role[compute], self._role[sync]]
        assert pair >= 0, "two roles meet that the layout says never do"
        return self._slowdowns[2 * pair], self._slowdowns[2 * pair + 1]


def engine(whole, seconds, slowdowns, wait, drops):
    latency = np.empty(1)
    first = np.zeros(1, dtype=np.int64)
    automaton = Automaton.empty(whole.layout)
    prices = np.array([seconds]), np.array([slowdowns])
    drawn = drops.masks, drops.periods
    compiled().walk(whole.layout, *prices, wait, first, *drawn, first, automaton, latency)
    return latency[0], automaton


@st.composite
def programs(draw):
    strategy = draw(st.sampled_from(["serial", "gemm_overlap", "request_overlap", "iso"]))
    chunks = () if strategy == "serial" else (8,) * draw(st.integers(1, 5))
    blocks = draw(st.integers(1, 40))
    dropped = tuple(sorted(draw(st.sets(st.integers(0, blocks - 1)))))
    if draw(st.booleans()):
        period = draw(st.integers(1, 5))
        dropped = tuple(b for b in range(blocks) if b % period in dropped)
    tp = draw(st.sampled_from([1, 8, 8, 8]))
    workload = Workload(tp=tp, batch=8, prompt=40)
    plan = Plan(strategy=strategy, chunks=chunks, dropped=dropped)
    kinds = draw(st.lists(st.integers(0, 2), min_size=1, max_size=6))
    pattern = tuple(kinds[block % len(kinds)] for block in range(blocks))
    return patterned(MODEL, pattern), workload, plan, draw(st.integers(0, 2**32))


@settings(max_examples=300, derandomize=True, deadline=None)
@given(programs(), st.sampled_from([0.0, 1e-3, 0.3, 2.0]), st.sampled_from([0.05, 1.0, 1.3, 8.0]))
def test_any_program_takes_as_long_as_in_the_reference(drawn, wait, comm):
    model, workload, plan, seed = drawn
    rng = np.random.default_rng(seed)
    whole = structure(model, workload.tp, plan.strategy, len(plan.chunks))
    seconds = rng.uniform(0.5, 1.5, len(whole.roles))
    seconds[[isinstance(ops[0], Collective) for ops, *_ in whole.roles]] *= comm
    slowdowns = rng.uniform(1.0, 2.0, 2 * len(whole.pairs))
    program = expand(model, workload, plan)
    reference = simulate(program, Costs(program, whole, seconds, slowdowns, wait)).latency
    drops = DropSets.repeated(plan.dropped, model.num_hidden_layers)
    latency, _ = engine(whole, seconds, slowdowns, wait, drops)
    assert latency == pytest.approx(reference, rel=1e-9)


def test_more_states_than_are_remembered_change_nothing():
    blocks = 400
    model = replace(MODEL, num_hidden_layers=blocks)
    workload = Workload(tp=8, batch=1, prompt=40)
    rng = np.random.default_rng(1)
    plan = Plan(
        strategy="iso",
        chunks=(8,) * 5,
        dropped=tuple(np.flatnonzero(rng.random(blocks) < 0.5).tolist()),
    )
    whole = structure(model, 8, "iso", 5)
    seconds = rng.uniform(0.9, 1.1, len(whole.roles))
    slowdowns = rng.uniform(1.0, 1.1, 2 * len(whole.pairs))
    program = expand(model, workload, plan)
    reference = simulate(program, Costs(program, whole, seconds, slowdowns, 10.0)).latency
    drops = DropSets.repeated(plan.dropped, blocks)
    latency, automaton = engine(whole, seconds, slowdowns, 10.0, drops)
    met, remembered = automaton.states[:STATES].any(axis=1), automaton.following >= 0
    assert met.all()
    assert not remembered.any(axis=1).all()
    assert latency == pytest.approx(reference, rel=1e-9)


@pytest.mark.parametrize("period", [1, 2, 3, 7])
def test_a_periodic_drop_set_takes_as_long_as_its_blocks_written_out(period):
    blocks = 80
    model = replace(MODEL, num_hidden_layers=blocks)
    whole = structure(model, 8, "iso", 2)
    rng = np.random.default_rng(period)
    seconds = rng.uniform(0.5, 1.5, len(whole.roles))
    slowdowns = rng.uniform(1.0, 2.0, 2 * len(whole.pairs))
    pattern = rng.random((1, period)) < 0.5
    written_out = np.resize(pattern, (1, blocks))
    times = [
        engine(whole, seconds, slowdowns, 0.01, DropSets.of(drops))[0]
        for drops in (pattern, written_out)
    ]
    assert times[0] == pytest.approx(times[1], rel=1e-12)


def test_python_and_numba_give_the_same_bits():
    rng = np.random.default_rng(3)
    for strategy, chunks in (("serial", 0), ("iso", 2), ("iso", 3), ("gemm_overlap", 4)):
        model = patterned(MODEL, (0, 1, 1, 2) * 10)
        whole = structure(model, 8, strategy, chunks)
        seconds = rng.uniform(0.5, 1.5, (4, len(whole.roles)))
        slowdowns = rng.uniform(1.0, 2.0, (4, 2 * len(whole.pairs)))
        drops, rows = DropSets.named([(1, 5, 6)], 40), np.arange(4)
        found = []
        for one in (INTERPRETED, compiled()):
            latency, automaton = np.empty(4), Automaton.empty(whole.layout)
            drawn = drops.masks, drops.periods
            one.walk(whole.layout, seconds, slowdowns, 0.1, rows, *drawn, rows, automaton, latency)
            found.append(latency.tolist())
        assert found[0] == found[1]


def test_a_periodic_pattern_jumps_only_over_whole_cycles():
    rng = np.random.default_rng(5)
    for kinds in ((0, 1) * 30, (0, 0, 0, *(1,) * 57), (0, 1, 2) * 20):
        model = patterned(MODEL, kinds)
        whole = structure(model, 8, "iso", 2)
        seconds = rng.uniform(0.5, 1.5, len(whole.roles))
        slowdowns = rng.uniform(1.0, 2.0, 2 * len(whole.pairs))
        for dropped in ((), tuple(range(0, 60, 2)), tuple(range(0, 60, 3))):
            plan = Plan(strategy="iso", chunks=(8, 8), dropped=dropped)
            program = expand(model, Workload(tp=8, prompt=16), plan)
            costs = Costs(program, whole, seconds, slowdowns, 0.1)
            period = np.zeros((1, 6), dtype=bool)
            period[0, [block for block in dropped if block < 6]] = True
            latency, _ = engine(whole, seconds, slowdowns, 0.1, DropSets.of(period))
            assert latency == pytest.approx(simulate(program, costs).latency, rel=1e-9)
