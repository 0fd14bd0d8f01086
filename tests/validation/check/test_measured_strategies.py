"""Programs of what others measured: few changes of the serial program, each for a reason."""

from collections.abc import Callable

import pytest

from isotune.simulator.architecture import Norm
from isotune.simulator.predict import Scenario
from isotune.simulator.schedule import Program, Stream
from isotune.validation.check.measured_strategies import STRATEGIES, program_of

MakeScenario = Callable[..., Scenario]
BLOCKS = 4


@pytest.fixture
def scenario(make_scenario: MakeScenario) -> Scenario:
    return make_scenario("llama-2-70b", "h100", blocks=BLOCKS, tp=8, prompt=1024)


def syncs(program: Program) -> list[str]:
    return [step.ops[0].name for step in program.steps if step.is_sync]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_gives_a_program_whose_dependencies_point_back(
    scenario: Scenario, strategy: str
) -> None:
    steps = program_of(strategy, scenario).steps
    assert all(d < index for index, step in enumerate(steps) for d in step.depends_on)


def test_all_reduces_left(scenario: Scenario) -> None:
    left = {name: len(syncs(program_of(name, scenario))) for name in STRATEGIES}
    assert left == {
        "serial": 2 * BLOCKS,
        "no_comm": 0,
        "spd_all": BLOCKS,
        "drop_mlp_sync": BLOCKS,
        "parallel_block": BLOCKS,
        "desync4": BLOCKS // 2,
        "ladder": 2 * BLOCKS,
        "split_overlap_fused_norm": 4 * BLOCKS,
    }


def test_spd_drops_the_first_sync_of_a_block_and_desync4_every_first_as_well(
    scenario: Scenario,
) -> None:
    for name in ("spd_all", "desync4", "parallel_block"):
        assert set(syncs(program_of(name, scenario))) == {"mlp_sync"}
    assert set(syncs(program_of("drop_mlp_sync", scenario))) == {"attention_sync"}


def test_in_a_ladder_a_module_awaits_the_sync_of_the_one_before_the_last(
    scenario: Scenario,
) -> None:
    steps = program_of("ladder", scenario).steps
    modules = [step for step in steps if not step.is_sync]
    assert all(step.stream is Stream.COMM for step in steps if step.is_sync)
    first, second, third, *_, head = modules
    assert first.depends_on == second.depends_on == ()
    awaited = steps[modules[3].depends_on[0]]
    assert (awaited.block, awaited.ops[0].name) == (0, "attention_sync")
    assert third.depends_on == ()
    assert steps[head.depends_on[0]].block == BLOCKS - 1


def test_the_fused_norm_leaves_the_compute_stream(scenario: Scenario) -> None:
    program = program_of("split_overlap_fused_norm", scenario)
    assert not any(type(op) is Norm for step in program.steps for op in step.ops)
    assert [chunk.tokens for chunk in program.chunks] == [512, 512]
    assert {step.ops[0].name for step in program.steps} >= {"attention_sync", "mlp_sync"}
