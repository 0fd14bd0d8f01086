"""What every strategy keeps to. A strategy is tested by being in the registry.

Imports no torch: what the executor computes comes in by a fixture.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from isotune.simulator.architecture import Attend, Collective, Matmul
from isotune.simulator.batch import Batch, Splits, Timer
from isotune.simulator.errors import InputError
from isotune.simulator.predict import Scenario, SimulatedRun, predict
from isotune.simulator.schedule import (
    STRATEGIES,
    Plan,
    Program,
    Strategy,
    Workload,
    check_plan,
    expand,
)

MakeScenario = Callable[..., Scenario]
BLOCKS = 4
CASES: tuple[dict[str, Any], ...] = (
    {"prompt": 1000, "batch": 3, "tp": 8},
    {"prompt": 700, "batch": 2, "tp": 1},
    {"phase": "decode", "prompt": 500, "batch": 6, "tp": 2},
    {"model": "mixtral-8x22b", "hardware": "h200", "prompt": 640, "batch": 2, "tp": 4},
)


def plan_of(how: Strategy, workload: Workload, parts: int = 3) -> Plan:
    """Uneven chunks, the last the largest; as many as there is work for."""
    if not how.chunked:
        return Plan(strategy=how.name)
    total = how.total(workload)
    sizes = [max(1, total // (parts + 2))] * (min(parts, total) - 1)
    return Plan(strategy=how.name, chunks=(*sizes, total - sum(sizes)))


def flops(program: Program) -> float:
    """Of matrix products and of attention."""
    found = 0.0
    for step in program.steps:
        for op in step.ops:
            if isinstance(op, Matmul):
                found += 2.0 * step.rows * op.n * op.k
            elif isinstance(op, Attend):
                tokens, start = step.chunk.tokens, step.chunk.start
                pairs = step.chunk.requests * (tokens * start + tokens * (tokens + 1) / 2)
                found += 4.0 * op.heads * op.head_dim * pairs
    return found


HALF_OF_AN_ALL_REDUCE = ("reduce_scatter", "all_gather")


def sent(program: Program) -> float:
    """Elements in all-reduces; two halves of one count as one."""
    return sum(
        step.rows * op.elements * (0.5 if op.kind in HALF_OF_AN_ALL_REDUCE else 1.0)
        for step in program.steps
        for op in step.ops
        if isinstance(op, Collective)
    )


class StrategyContract:
    """Inherit, and give a fixture `how`, the strategy."""

    @pytest.fixture(params=CASES, ids=["prefill", "one GPU", "decode", "experts"])
    def scenario(self, request: pytest.FixtureRequest, make_scenario: MakeScenario) -> Scenario:
        return make_scenario(**{"model": "llama-2-7b", "blocks": BLOCKS} | request.param)

    def test_every_op_of_a_block_works_on_every_row_once(
        self, how: Strategy, scenario: Scenario
    ) -> None:
        work = scenario.workload
        program = expand(scenario.model, work, plan_of(how, work))
        rows: Counter[tuple[int, Any]] = Counter()
        for step in program.steps:
            rows.update({(step.block, op): step.rows for op in step.ops})
        for block in range(BLOCKS):
            expected: dict[Any, int] = {}
            for segment in how.segments(scenario.model.block(work.tp), block, BLOCKS):
                ops = (op for sublayer in segment.sublayers for op in sublayer)
                ranks = work.tp if segment.sharded else 1
                expected |= dict.fromkeys(ops, -(-work.batch * work.tokens // ranks))
                if segment.collective and work.tp > 1:
                    expected[segment.collective] = work.batch * work.tokens
            assert expected
            assert {op: rows[block, op] for op in expected} == expected

    def test_a_step_waits_for_earlier_steps_only(self, how: Strategy, scenario: Scenario) -> None:
        steps = expand(scenario.model, scenario.workload, plan_of(how, scenario.workload)).steps
        assert all(d < index for index, step in enumerate(steps) for d in step.depends_on)

    def test_flops_and_bytes_add_up_to_the_serial_programs(
        self, how: Strategy, scenario: Scenario
    ) -> None:
        plan = plan_of(how, scenario.workload)
        serial, program = (expand(scenario.model, scenario.workload, p) for p in (Plan(), plan))
        assert flops(program) == pytest.approx(flops(serial), rel=1e-12)
        if how.caveat:
            assert sent(program) <= sent(serial)
        else:
            assert sent(program) == pytest.approx(sent(serial), rel=1e-12)

    def test_the_timer_agrees_with_the_reference_timeline(
        self, how: Strategy, scenario: Scenario
    ) -> None:
        plan = plan_of(how, scenario.workload)
        run = SimulatedRun.of(scenario, plan)
        reference = run.timeline
        timer = Timer(scenario)
        assert run.latency == pytest.approx(reference.latency, rel=1e-9)
        assert timer.latency(plan) == pytest.approx(reference.latency, rel=1e-9)
        splits = Splits.of(scenario.workload, np.array([plan.chunks], dtype=np.int64))
        batch = Batch(scenario=scenario, plan=plan, splits=splits)
        assert timer.run(batch)[0] == pytest.approx(reference.latency, rel=1e-9)

    def test_without_contention_overlap_saves_at_most_the_smaller_part(
        self, how: Strategy, scenario: Scenario
    ) -> None:
        found = predict(scenario, plan_of(how, scenario.workload), contention=False, must_fit=False)
        compute, comm = found.compute_s, found.comm_s
        assert max(compute, comm) * (1 - 1e-9) <= found.latency_s
        assert found.latency_s <= (compute + comm) * (1 + 1e-9)

    def test_one_chunk_is_the_serial_pass(self, how: Strategy, scenario: Scenario) -> None:
        if how.searchable:
            one = predict(scenario, plan_of(how, scenario.workload, parts=1), must_fit=False)
            assert one.latency_s == one.serial_latency_s

    def test_intervals_contain_the_prediction(self, how: Strategy, scenario: Scenario) -> None:
        found = predict(scenario, plan_of(how, scenario.workload), must_fit=False)
        low, high = found.latency_interval_s
        assert low < found.latency_s < high

    def test_what_changes_the_model_says_so_and_is_never_chosen(self, how: Strategy) -> None:
        assert not (how.needs_retraining and not how.caveat)
        assert not (how.caveat and how.searchable)
        assert Plan(strategy=how.name).lossy is bool(how.caveat)

    def test_drop_sets_are_taken_or_refused(self, how: Strategy, scenario: Scenario) -> None:
        plan = plan_of(how, scenario.workload).model_copy(update={"dropped": (1, 2)})
        if how.drops:
            check_plan(plan, scenario.model, scenario.workload)
            reference = SimulatedRun.of(scenario, plan).timeline.latency
            assert Timer(scenario).latency(plan) == pytest.approx(reference, rel=1e-9)
        else:
            with pytest.raises(InputError, match=r"dropped: .* drops no all-reduces"):
                check_plan(plan, scenario.model, scenario.workload)

    def test_it_is_in_the_registry_under_its_name(self, how: Strategy) -> None:
        assert STRATEGIES[how.name] is how
        assert how.label


Logits = np.ndarray[Any, Any]


@pytest.mark.slow
class ExecutedStrategyContract:
    """Inherit, and give a fixture `executed` for each strategy that the executor runs.

    It has logits at every position, by model: of ranks that ran a plan of it, and unsharded.
    """

    def test_its_ranks_compute_the_unsharded_models_logits(
        self, executed: Sequence[tuple[str, Logits, Logits]]
    ) -> None:
        assert executed
        for model, got, want in executed:
            assert np.abs(got - want).max() < 1e-4 * np.abs(want).max(), model
