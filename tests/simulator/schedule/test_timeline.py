"""Two streams, worked by hand: order, waits, and what contention costs each side."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isotune.simulator.architecture import Collective, Matmul
from isotune.simulator.predict import Scenario
from isotune.simulator.schedule import (
    COMM,
    COMPUTE,
    Chunk,
    Lane,
    Program,
    Queue,
    Step,
    expand,
    simulate,
)

CHUNK = Chunk.of(0, 0, 1, 0, 1)
PRODUCT = Matmul(name="product", sublayer="mlp", n=1, k=1)
SYNC = Collective(name="sync", sublayer="mlp", elements=1)


@dataclass
class Costs:
    """Costs typed in by hand."""

    times: list[float]
    slower: tuple[float, float] = (1.0, 1.0)
    event_wait: float = 0.0
    asked: list[tuple[int, int]] = field(default_factory=list)

    def seconds(self, step: int) -> float:
        return self.times[step]

    def slowdowns(self, compute: int, sync: int) -> tuple[float, float]:
        self.asked.append((compute, sync))
        return self.slower


def compute(*depends_on: int) -> Step:
    return Step(COMPUTE, (PRODUCT,), 0, CHUNK, None, 0, 1, depends_on)


def sync(*depends_on: int) -> Step:
    return Step(COMM, (SYNC,), 0, CHUNK, None, 0, 1, depends_on)


def program(*steps: Step) -> Program:
    return Program(steps, (CHUNK,))


def test_a_sync_hides_under_compute_that_does_not_need_it() -> None:
    run = simulate(program(compute(), sync(0), compute(), compute(1)), Costs([1, 2, 4, 1]))
    assert run.starts == (0, 1, 1, 5)
    assert run.ends == (1, 3, 5, 6)
    assert (run.latency, run.overlapped) == (6, 2)


def test_compute_waits_for_the_sync_it_needs() -> None:
    run = simulate(program(compute(), sync(0), compute(1)), Costs([1, 2, 4]))
    assert run.starts == (0, 1, 3)
    assert (run.latency, run.overlapped) == (7, 0)


def test_while_both_run_each_progresses_at_its_own_slower_rate() -> None:
    # The sync takes 2 x 1.5 = 3 s; the compute beside it does 3 / 2 = 1.5 s of its 4 s of work.
    costs = Costs([1, 2, 4], slower=(2.0, 1.5))
    run = simulate(program(compute(), sync(0), compute()), costs)
    assert run.ends == (1, 4, 1 + 3 + 2.5)
    assert run.overlapped == 3
    assert set(costs.asked) == {(2, 1)}


def test_a_sync_that_outlives_the_compute_speeds_up_again() -> None:
    # The compute takes 1 x 2 = 2 s; the sync does 2 / 1.5 s of its 4 s of work in that time.
    run = simulate(program(compute(), sync(0), compute()), Costs([1, 4, 1], slower=(2.0, 1.5)))
    assert run.ends[2] == 3
    assert run.latency == pytest.approx(3 + 4 - 2 / 1.5, rel=1e-15)


def test_waiting_for_the_other_stream_costs_the_event_wait_once() -> None:
    costs = Costs([1, 2, 4, 1], event_wait=0.5)
    run = simulate(program(compute(), sync(0), compute(), compute(1)), costs)
    assert run.starts == (0, 1.5, 1, 5)
    assert simulate(program(compute(), sync(0), compute(1)), costs).starts == (0, 1.5, 4.0)


def test_steps_that_end_together_let_their_successors_start_together() -> None:
    run = simulate(program(compute(), sync(), compute(1), sync(0)), Costs([2, 2, 1, 1]))
    assert run.starts == (0, 0, 2, 2)
    assert run.latency == 3


def test_stages_run_beside_each_other_and_contend_each_for_its_own_gpu() -> None:
    # Stage 1 computes while the collective of stage 0 is in flight, and neither is slowed.
    second = Lane(1, Queue.COMPUTE)
    elsewhere = Step(second, (PRODUCT,), 0, CHUNK, None, 0, 1, (0,))
    costs = Costs([1, 2, 4], slower=(2.0, 1.5))
    run = simulate(program(compute(), sync(0), elsewhere), costs)
    assert run.ends == (1, 3, 5)
    assert (run.latency, run.overlapped, costs.asked) == (5, 0, [])


def test_a_step_that_waits_for_another_stage_waits_for_its_event_as_well() -> None:
    later = Step(Lane(1, Queue.COMPUTE), (PRODUCT,), 0, CHUNK, None, 0, 1, (0,))
    assert simulate(program(compute(), later), Costs([1, 2], event_wait=0.5)).starts == (0, 1.5)


def test_an_empty_program_takes_no_time() -> None:
    assert simulate(program(), Costs([])).latency == 0


@settings(max_examples=60)
@given(data=st.data())
def test_any_plans_timeline_is_a_schedule(
    make_scenario: Callable[..., Scenario], plans: Callable[..., Any], data: st.DataObject
) -> None:
    scenario = make_scenario(blocks=2, prompt=40, batch=3)
    steps = expand(scenario.model, scenario.workload, data.draw(plans(scenario)))
    count = len(steps.steps)
    seconds = data.draw(st.lists(st.floats(1e-6, 1.0), min_size=count, max_size=count))
    slower = data.draw(st.tuples(st.floats(1, 3), st.floats(1, 3)))
    wait = data.draw(st.sampled_from([0.0, 0.01]))
    run = simulate(steps, Costs(seconds, slower, wait))
    rounding = 1e-9 * sum(seconds)
    assert run.latency == max(run.ends)
    for lane in (COMPUTE, COMM):
        own = [index for index, step in enumerate(steps.steps) if step.lane == lane]
        assert all(run.ends[a] <= run.starts[b] for a, b in pairwise(own))
    for index, step in enumerate(steps.steps):
        lasted = run.ends[index] - run.starts[index]
        longest = seconds[index] * slower[step.lane == COMM]
        assert seconds[index] - rounding <= lasted <= longest + rounding
        for other in step.depends_on:
            crosses = steps.steps[other].lane != step.lane
            earliest = run.ends[other] + (wait if crosses else 0.0)
            assert run.starts[index] >= earliest - rounding
