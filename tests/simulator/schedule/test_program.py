"""The program is the papers' schedule, complete, and safe to execute in order."""

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isotune.simulator.architecture import Attend, LmHead
from isotune.simulator.errors import InputError
from isotune.simulator.predict import Scenario
from isotune.simulator.schedule import COMM, COMPUTE, Lane, Plan, Program, Step, expand

MakeScenario = Callable[..., Scenario]
ATTENTION = ("attention_norm", "qkv", "rope", "attention", "attention_out")
MLP = ("mlp_norm", "mlp_up", "activation", "mlp_down")
MLP_AFTER_DROP = (*MLP[:-1], "partial_add", "mlp_down")
HEAD = ("final_norm", "lm_head")
SYNCS = {"attention_all_reduce", "mlp_all_reduce"}
SHORT = {
    ("embed",): "embed",
    ATTENTION: "attn",
    ATTENTION[:-1]: "attn-",
    ("attention_out",): "out",
    MLP: "mlp",
    MLP[:-1]: "mlp-",
    MLP_AFTER_DROP: "mlp",
    MLP_AFTER_DROP[:-1]: "mlp-",
    ("mlp_down",): "down",
    ("attention_all_reduce",): "AR",
    ("mlp_all_reduce",): "AR'",
    HEAD: "head",
}


def program(scenario: Scenario, **plan: Any) -> Program:
    return expand(scenario.model, scenario.workload, Plan(**plan))


def ops(step: Step) -> tuple[str, ...]:
    return tuple(op.name for op in step.ops)


def name(step: Step) -> str:
    if ops(step) == HEAD:
        return "head"
    part = "ABCDEFGH"[step.chunk.index] + ("" if step.tile is None else str(step.tile))
    return f"{SHORT[ops(step)]}({part}){max(step.block, 0)}"


def names(steps: Program, lane: Lane) -> str:
    return " | ".join(name(step) for step in steps.steps if step.lane == lane)


def waits(steps: Program) -> dict[str, str]:
    """What each step waits for, besides the step before it on its stream."""
    return {
        name(step): " ".join(name(steps.steps[index]) for index in step.depends_on)
        for step in steps.steps
    }


def test_iso_with_two_chunks_is_the_papers_schedule(make_scenario: MakeScenario) -> None:
    iso = program(make_scenario(blocks=2, prompt=100), strategy="iso", chunks=(60, 40))
    assert names(iso, COMPUTE) == (
        "embed(A)0 | embed(B)0 | attn(A)0 | attn(B)0 | mlp(A)0 | mlp(B)0 | "
        "attn(A)1 | attn(B)1 | mlp(A)1 | mlp(B)1 | head"
    )
    assert names(iso, COMM) == (
        "AR(A)0 | AR(B)0 | AR'(A)0 | AR'(B)0 | AR(A)1 | AR(B)1 | AR'(A)1 | AR'(B)1"
    )
    assert waits(iso) == {
        "embed(A)0": "", "embed(B)0": "", "attn(A)0": "", "attn(B)0": "",
        "AR(A)0": "attn(A)0", "AR(B)0": "attn(B)0", "mlp(A)0": "AR(A)0", "mlp(B)0": "AR(B)0",
        "AR'(A)0": "mlp(A)0", "AR'(B)0": "mlp(B)0", "attn(A)1": "AR'(A)0", "attn(B)1": "AR'(B)0",
        "AR(A)1": "attn(A)1", "AR(B)1": "attn(B)1", "mlp(A)1": "AR(A)1", "mlp(B)1": "AR(B)1",
        "AR'(A)1": "mlp(A)1", "AR'(B)1": "mlp(B)1", "head": "AR'(A)1 AR'(B)1",
    }  # fmt: skip
    assert [(chunk.start, chunk.tokens) for chunk in iso.chunks] == [(0, 60), (60, 40)]


def test_serial_runs_compute_and_syncs_one_after_the_other(make_scenario: MakeScenario) -> None:
    serial = program(make_scenario(blocks=1, prompt=100))
    assert names(serial, COMPUTE) == ("embed(A)0 | attn(A)0 | AR(A)0 | mlp(A)0 | AR'(A)0 | head")
    assert names(serial, COMM) == ""


def test_a_dropped_block_has_one_segment_and_one_sync(make_scenario: MakeScenario) -> None:
    scenario = make_scenario(blocks=2, prompt=100)
    serial = program(scenario, dropped=(0,))
    assert names(serial, COMPUTE) == (
        "embed(A)0 | attn(A)0 | mlp(A)0 | AR'(A)0 | attn(A)1 | AR(A)1 | mlp(A)1 | AR'(A)1 | head"
    )
    iso = program(scenario, strategy="iso", chunks=(60, 40), dropped=(1,))
    assert names(iso, COMPUTE) == (
        "embed(A)0 | embed(B)0 | attn(A)0 | attn(B)0 | mlp(A)0 | mlp(B)0 | "
        "attn(A)1 | mlp(A)1 | attn(B)1 | mlp(B)1 | head"
    )
    assert names(iso, COMM) == "AR(A)0 | AR(B)0 | AR'(A)0 | AR'(B)0 | AR'(A)1 | AR'(B)1"


def test_gemm_overlap_cuts_the_row_parallel_gemms_into_tiles(make_scenario: MakeScenario) -> None:
    tiled = program(make_scenario(blocks=1, prompt=100), strategy="gemm_overlap", chunks=(70, 30))
    assert names(tiled, COMPUTE) == (
        "embed(A)0 | attn-(A)0 | out(A0)0 | out(A1)0 | mlp-(A)0 | down(A0)0 | down(A1)0 | head"
    )
    assert names(tiled, COMM) == "AR(A0)0 | AR(A1)0 | AR'(A0)0 | AR'(A1)0"
    assert waits(tiled)["AR(A1)0"] == "out(A1)0"
    assert waits(tiled)["mlp-(A)0"] == "AR(A0)0 AR(A1)0"
    cut = [(s.first_row, s.rows) for s in tiled.steps if ops(s) == ("attention_out",)]
    assert cut == [(0, 70), (70, 30)]


def test_gemm_overlap_cuts_only_the_last_gemm_of_a_dropped_block(
    make_scenario: MakeScenario,
) -> None:
    scenario = make_scenario(blocks=1, prompt=100)
    tiled = program(scenario, strategy="gemm_overlap", chunks=(70, 30), dropped=(0,))
    assert names(tiled, COMPUTE) == (
        "embed(A)0 | attn(A)0 | mlp-(A)0 | down(A0)0 | down(A1)0 | head"
    )
    assert names(tiled, COMM) == "AR'(A0)0 | AR'(A1)0"


def test_request_overlap_interleaves_whole_prompts(make_scenario: MakeScenario) -> None:
    scenario = make_scenario(blocks=1, prompt=100, batch=3)
    split = program(scenario, strategy="request_overlap", chunks=(2, 1))
    assert names(split, COMPUTE) == (
        "embed(A)0 | embed(B)0 | attn(A)0 | attn(B)0 | mlp(A)0 | mlp(B)0 | head"
    )
    whole = [(c.first_request, c.requests, c.start, c.tokens, c.rows) for c in split.chunks]
    assert whole == [(0, 2, 0, 100, 200), (2, 1, 0, 100, 100)]


def test_a_chunk_of_a_batch_takes_its_tokens_from_every_request(
    make_scenario: MakeScenario,
) -> None:
    iso = program(make_scenario(prompt=100, batch=3), strategy="iso", chunks=(60, 40))
    assert [(chunk.requests, chunk.rows) for chunk in iso.chunks] == [(3, 180), (3, 120)]


@pytest.mark.parametrize("dropped", [(), (1,)])
@pytest.mark.parametrize(
    ("strategy", "whole"), [("iso", 100), ("request_overlap", 2), ("gemm_overlap", 200)]
)
def test_any_strategy_with_one_chunk_is_the_serial_program(
    make_scenario: MakeScenario, strategy: str, whole: int, dropped: tuple[int, ...]
) -> None:
    scenario = make_scenario(prompt=100, batch=2)
    single = program(scenario, strategy=strategy, chunks=(whole,), dropped=dropped)
    assert single == program(scenario, dropped=dropped)


def test_one_gpu_has_nothing_to_sync(make_scenario: MakeScenario) -> None:
    scenario = make_scenario(prompt=100, tp=1)
    for plan in ({}, {"strategy": "iso", "chunks": (60, 40)}, {"dropped": (0, 1)}):
        assert not any(step.is_sync for step in program(scenario, **plan).steps)


def test_the_head_reads_only_the_last_token_of_each_request(make_scenario: MakeScenario) -> None:
    head = program(make_scenario(prompt=100, batch=3), strategy="iso", chunks=(60, 40)).steps[-1]
    assert (ops(head), head.rows) == (HEAD, 3)


def test_steps_of_one_role_differ_only_in_their_block(make_scenario: MakeScenario) -> None:
    iso = program(make_scenario(blocks=9, prompt=100), strategy="iso", chunks=(60, 40))
    role_of, players = iso.roles()
    assert len(players) == 2 + 2 * 4 + 1
    for step, role in zip(iso.steps, role_of, strict=True):
        player = iso.steps[players[role]]
        assert (step.ops, step.chunk, step.rows, step.lane, step.tile) == (
            player.ops, player.chunk, player.rows, player.lane, player.tile
        )  # fmt: skip


Cell = tuple[int, int]


def cells(scenario: Scenario, step: Step) -> list[Cell]:
    """(request, position) of each row a step works on."""
    chunk, workload = step.chunk, scenario.workload
    rows = [
        (chunk.first_request + row // chunk.tokens, chunk.start + row % chunk.tokens)
        for row in range(step.first_row, step.first_row + step.rows)
    ]
    assert all(0 <= request < workload.batch for request, _ in rows)
    return rows


def attends(step: Step) -> bool:
    return any(isinstance(op, Attend) for op in step.ops)


def ancestors(steps: tuple[Step, ...]) -> list[set[int]]:
    """Steps that surely ended before each step starts."""
    before: list[set[int]] = []
    last: dict[Lane, int] = {}
    for index, step in enumerate(steps):
        direct = set(step.depends_on) | ({last[step.lane]} if step.lane in last else set())
        before.append(direct.union(*(before[other] for other in direct)))
        last[step.lane] = index
    return before


@st.composite
def cases(draw: st.DrawFn, make: MakeScenario, plans: Callable[..., Any]) -> tuple[Scenario, Plan]:
    phase = draw(st.sampled_from(["prefill", "decode"]))
    size = {"prompt": draw(st.integers(1, 12)), "batch": draw(st.integers(1, 4))}
    scenario = make(
        blocks=draw(st.integers(1, 5)), phase=phase, tp=draw(st.sampled_from([1, 8])), **size
    )
    return scenario, draw(plans(scenario))


@settings(max_examples=100)
@given(data=st.data())
def test_every_token_of_every_block_is_computed_and_synced_exactly_once(
    make_scenario: MakeScenario, plans: Callable[..., Any], data: st.DataObject
) -> None:
    scenario, plan = data.draw(cases(make_scenario, plans))
    workload, blocks = scenario.workload, scenario.model.num_hidden_layers
    done: Counter[tuple[str, int, Cell]] = Counter()
    for step in expand(scenario.model, workload, plan).steps[:-1]:
        for op in ops(step):
            done.update((op, step.block, cell) for cell in cells(scenario, step))
    rows = [
        (request, position)
        for request in range(workload.batch)
        for position in range(workload.context, workload.context + workload.tokens)
    ]
    wanted = Counter(("embed", -1, cell) for cell in rows)
    for block in range(blocks):
        dropped = {"attention_all_reduce"} if block in plan.dropped else set()
        mlp = MLP_AFTER_DROP if dropped and workload.tp > 1 else MLP
        names = (*ATTENTION, *mlp, *(SYNCS - dropped if workload.tp > 1 else ()))
        wanted.update((op, block, cell) for op in names for cell in rows)
    assert done == wanted


@settings(max_examples=100)
@given(data=st.data())
def test_chunks_add_up_and_follow_each_other(
    make_scenario: MakeScenario, plans: Callable[..., Any], data: st.DataObject
) -> None:
    scenario, plan = data.draw(cases(make_scenario, plans))
    workload = scenario.workload
    chunks = expand(scenario.model, workload, plan).chunks
    assert sum(chunk.rows for chunk in chunks) == workload.batch * workload.tokens
    if plan.strategy == "iso":
        assert chunks[0].start == workload.context
        assert all(a.start + a.tokens == b.start for a, b in pairwise(chunks))


@settings(max_examples=100)
@given(data=st.data())
def test_every_dependency_points_backwards(
    make_scenario: MakeScenario, plans: Callable[..., Any], data: st.DataObject
) -> None:
    scenario, plan = data.draw(cases(make_scenario, plans))
    for index, step in enumerate(expand(scenario.model, scenario.workload, plan).steps):
        assert all(0 <= other < index for other in step.depends_on)


@settings(max_examples=100)
@given(data=st.data())
def test_no_step_reads_what_is_not_computed_and_synced_yet(
    make_scenario: MakeScenario, plans: Callable[..., Any], data: st.DataObject
) -> None:
    scenario, plan = data.draw(cases(make_scenario, plans))
    steps = expand(scenario.model, scenario.workload, plan).steps
    before = ancestors(steps)
    writers: dict[Cell, list[int]] = {}
    for index, step in enumerate(steps):
        reads = cells(scenario, step) if not isinstance(step.ops[-1], LmHead) else list(writers)
        for cell in reads:
            assert before[index].issuperset(writers.get(cell, ()))
            writers.setdefault(cell, []).append(index)
        if attends(step):
            earlier = {
                other
                for other in range(index)
                if attends(steps[other])
                and steps[other].block == step.block
                and steps[other].chunk.start < step.chunk.start
            }
            assert before[index] >= earlier, "attention needs the keys of the earlier chunks"


def test_a_program_of_too_many_passes_is_refused(make_scenario: MakeScenario) -> None:
    scenario = make_scenario(blocks=10_000, prompt=256 * 64)
    with pytest.raises(InputError, match="640000 passes of a block"):
        program(scenario, strategy="iso", chunks=(256,) * 64)
