"""The strategies: what all keep to, and what tells the measured ones apart."""

from collections.abc import Callable

import pytest
from _support.strategy_contract import MakeScenario, StrategyContract

from isotune.simulator.architecture import Collective, Norm, PartialAdd
from isotune.simulator.errors import InputError
from isotune.simulator.predict import Scenario, predict
from isotune.simulator.schedule import (
    COMM,
    STRATEGIES,
    Plan,
    Program,
    Strategy,
    expand,
    strategy_named,
    technique_label,
    technique_named,
)

BLOCKS = 4


class TestStrategies(StrategyContract):
    @pytest.fixture(params=STRATEGIES)
    def how(self, request: pytest.FixtureRequest) -> Strategy:
        return STRATEGIES[request.param]


@pytest.fixture
def program_of(make_scenario: Callable[..., Scenario]) -> Callable[[str], Program]:
    scenario = make_scenario("llama-2-70b", "h100", blocks=BLOCKS, tp=8, prompt=1024)

    def expanded(name: str) -> Program:
        chunks = (512, 512) if STRATEGIES[name].splits == "prompt" else ()
        return expand(scenario.model, scenario.workload, Plan(strategy=name, chunks=chunks))

    return expanded


def collectives(program: Program) -> list[Collective]:
    return [op for step in program.steps for op in step.ops if isinstance(op, Collective)]


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("serial", 2 * BLOCKS),
        ("no_comm", 0),
        ("spd_all", BLOCKS),
        ("drop_mlp_sync", BLOCKS),
        ("parallel_block", BLOCKS),
        ("desync4", BLOCKS // 2),
        ("ladder", 2 * BLOCKS),
        ("split_overlap_fused_norm", 4 * BLOCKS),
    ],
)
def test_all_reduces_left(program_of: Callable[[str], Program], name: str, left: int) -> None:
    assert len(collectives(program_of(name))) == left


def test_which_all_reduces_are_left(program_of: Callable[[str], Program]) -> None:
    for name in ("spd_all", "desync4", "parallel_block"):
        assert {op.sublayer for op in collectives(program_of(name))} == {"mlp"}
    assert {op.sublayer for op in collectives(program_of("drop_mlp_sync"))} == {"attention"}
    everywhere = [op for step in program_of("spd_all").steps for op in step.ops]
    assert not any(isinstance(op, PartialAdd) for op in everywhere)


def test_in_a_ladder_a_module_awaits_the_sync_of_the_one_before_the_last(
    program_of: Callable[[str], Program],
) -> None:
    steps = program_of("ladder").steps
    modules = [step for step in steps if not step.is_sync]
    assert all(step.lane == COMM for step in steps if step.is_sync)
    _, first, second, third, *_, head = modules
    assert first.depends_on == second.depends_on == ()
    awaited = steps[third.depends_on[0]]
    assert (awaited.block, awaited.ops[0].sublayer) == (0, "attention")
    assert steps[head.depends_on[-1]].block == BLOCKS - 1


def test_the_fused_norm_leaves_the_compute_stream(program_of: Callable[[str], Program]) -> None:
    program = program_of("split_overlap_fused_norm")
    assert not any(type(op) is Norm for step in program.steps for op in step.ops)
    assert [chunk.tokens for chunk in program.chunks] == [512, 512]


def test_an_unknown_name_fails_with_the_names_there_are() -> None:
    with pytest.raises(InputError, match=r"unknown 'magic' .*serial, gemm_overlap"):
        strategy_named("magic")
    with pytest.raises(InputError, match=r"unknown technique 'ladder_spd' .*iso_spd"):
        technique_named("ladder_spd")


def test_a_technique_is_a_strategy_with_or_without_spd() -> None:
    assert technique_named("spd") == (STRATEGIES["serial"], True)
    assert technique_named("iso_spd") == (STRATEGIES["iso"], True)
    assert technique_named("ladder") == (STRATEGIES["ladder"], False)
    assert [technique_label(name) for name in ("spd", "iso_spd")] == ["SPD", "ISO with SPD"]


def test_rows_of_an_all_gather_are_worked_on_as_they_arrive(make_scenario: MakeScenario) -> None:
    scenario = make_scenario(blocks=2, prompt=1000, tp=4)
    steps = expand(scenario.model, scenario.workload, Plan(strategy="async_tp")).steps
    gathers = [i for i, s in enumerate(steps) if s.ops[0].name == "mlp_all_gather"]
    ups = [s for s in steps if s.ops[0].name == "mlp_up"]
    assert len(gathers) == len(ups) == 2 * 4
    for gather, up in zip(gathers, ups, strict=True):
        sent = steps[gather]
        assert gather in up.depends_on
        assert (up.rows, up.first_row, up.tile) == (sent.rows, sent.first_row, sent.tile)
        assert up.rows == 250
    norm = next(i for i, s in enumerate(steps) if s.ops[0].name == "mlp_norm")
    assert all(norm in steps[gather].depends_on for gather in gathers[:4])


def test_a_result_says_what_a_time_assumes(make_scenario: MakeScenario) -> None:
    found = predict(make_scenario(prompt=4096, tp=8), Plan(strategy="async_tp"), must_fit=False)
    assert any("0.25 ms more per reduce-scatter" in text for text in found.cautions)
    assert not found.plan.lossy
