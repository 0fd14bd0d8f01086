"""A program's repeating structure, read off its own expansion.

Blocks are identical but for their drop, so two programs of two blocks show everything: the steps
before the first block, a whole and a dropped block that follow another, and the steps after the
last. Where a plan has groups, each shows its first block and one that follows another. Nothing
here knows a strategy; a new expansion is read like the others.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from simulator.engine import Index, Layout
from simulator.model import Model
from simulator.plan import Plan, Strategy
from simulator.program import Program, Role, Step, Stream, expand
from simulator.workload import Workload

WHOLE, DROPPED, HEAD, END = range(4)


@dataclass(frozen=True, eq=False)
class Structure:
    """The layout of a program, and a step that plays each of its roles.

    `pairs` [pairs, 2] are the compute and sync roles that can meet. `roles_of` are the roles
    each part uses, so that a batch without drops prices no dropped block.
    """

    layout: Layout
    players: tuple[Step, ...]
    pairs: tuple[tuple[int, int], ...]
    roles_of: tuple[frozenset[int], ...]


@dataclass(frozen=True, eq=False)
class GroupedStructure:
    """The layout of one plan whose blocks come in groups, and the order of its parts.

    Unlike those of a `Structure` its `players` are the plan's own steps, sizes and all. Part
    4 g + k is the first block of group g, 4 g + 2 + k any later one; k is 1 where it is dropped.
    """

    layout: Layout
    tails: Index
    order: Index
    players: tuple[Step, ...]
    pairs: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class _Part:
    """Roles of the steps of each stream, and what they wait for (see `Layout`)."""

    tail: int
    compute: list[int]
    syncs: list[int]
    needs: list[int]
    after: list[int]


@lru_cache(maxsize=512)
def structure(model: Model, tp: int, strategy: Strategy, chunks: int) -> Structure:
    """The structure of all programs that differ in their sizes and drop set only."""
    small = replace(model, num_hidden_layers=2)
    workload = Workload(tp=min(tp, 2))
    plan = Plan(strategy=strategy, chunks=(1,) * chunks)
    whole = expand(small, workload, plan)
    dropped = expand(small, workload, plan.model_copy(update={"dropped": (0, 1)}))
    roles = _Roles()
    parts = [
        _part(whole, 1, roles),
        _part(dropped, 1, roles),
        _part(whole, -1, roles),
        _part(whole, 2, roles),
    ]
    tail = len(parts[END].syncs)
    for part in parts[:HEAD]:
        # What the engine's state rests on: only the last syncs outlive their block.
        assert max(part.needs) >= len(part.syncs) - tail - 1
    pairs = _pairs(parts)
    return Structure(
        _layout(parts, tail, pairs, len(roles.players)),
        tuple(roles.players),
        tuple(pairs),
        tuple(frozenset(part.compute) | frozenset(part.syncs) for part in parts),
    )


def grouped_structure(model: Model, workload: Workload, plan: Plan) -> GroupedStructure:
    """The structure of a plan's program, read off two blocks of each group."""
    groups = plan.all_groups
    few = tuple(
        group.model_copy(update={"first": 2 * index}) for index, group in enumerate(groups) if index
    )
    small = replace(model, num_hidden_layers=2 * len(groups))
    condensed = plan.model_copy(update={"groups": few, "dropped": ()})
    whole = dropped = expand(small, workload, condensed)
    if plan.dropped:
        every = tuple(range(small.num_hidden_layers))
        dropped = expand(small, workload, condensed.model_copy(update={"dropped": every}))
    roles = _Roles()
    kinds = (whole, dropped)
    blocks = [_part(kind, block, roles) for block in range(2 * len(groups)) for kind in kinds]
    ends = [_part(whole, block, roles) for block in (-1, small.num_hidden_layers)]
    parts = [*blocks, *ends]
    after = [part.tail for part in blocks[2::4] for _ in range(4)]
    for part, tail in zip(blocks, after, strict=True):
        assert max(part.needs) >= len(part.syncs) - tail - 1
    pairs = _pairs(parts)
    return GroupedStructure(
        _layout(parts, max(after), pairs, len(roles.players)),
        np.array([(part.tail, tail) for part, tail in zip(parts, [*after, 0, 0], strict=True)]),
        _order(plan, model.num_hidden_layers, len(blocks)),
        tuple(roles.players),
        tuple(pairs),
    )


def _order(plan: Plan, blocks: int, head: int) -> Index:
    """Which part each block of a plan is, the head before them and the end after them."""
    order = np.full(blocks + 2, head, dtype=np.int64)
    order[-1] = head + 1
    for number, group in enumerate(plan.all_groups):
        order[1 + group.first :][:1] = 4 * number
        order[2 + group.first : -1] = 4 * number + 2
    order[[1 + block for block in plan.dropped]] += 1
    return order


class _Roles:
    """Numbers steps that cost the same alike (compare `Program.roles`)."""

    def __init__(self) -> None:
        self.players: list[Step] = []
        self._seen: dict[Role, int] = {}

    def of(self, step: Step) -> int:
        role = self._seen.setdefault(step.role, len(self.players))
        if role == len(self.players):
            self.players.append(step)
        return role


def _part(program: Program, block: int, roles: _Roles) -> _Part:
    """The steps of one block; syncs of the block before come first in what is waited for."""
    steps = program.steps
    before = [i for i, s in enumerate(steps) if s.block == block - 1 and s.stream is Stream.COMM]
    here = [index for index, step in enumerate(steps) if step.block == block]
    compute = [index for index in here if steps[index].stream is Stream.COMPUTE]
    syncs = [index for index in here if steps[index].stream is Stream.COMM]
    tail = _tail(program, before)
    place = {index: number for number, index in enumerate([*tail, *syncs])}
    order = {index: number for number, index in enumerate(compute)}
    return _Part(
        tail=len(tail),
        compute=[roles.of(steps[index]) for index in compute],
        syncs=[roles.of(steps[index]) for index in (*tail, *syncs)],
        needs=[max((place.get(d, -1) for d in steps[i].depends_on), default=-1) for i in compute],
        after=[-1] * len(tail) + [max(order[d] for d in steps[i].depends_on) for i in syncs],
    )


def _tail(program: Program, syncs: list[int]) -> list[int]:
    """Of a block's syncs those that the next block waits for: the last segment's."""
    if not syncs:
        return []
    last = program.steps[syncs[-1]].ops
    return [index for index in syncs if program.steps[index].ops == last]


def _pairs(parts: list[_Part]) -> list[tuple[int, int]]:
    """Compute and sync roles that can be in flight together, in any order of blocks."""
    pairs: dict[tuple[int, int], None] = {}
    for part in parts:
        done = -1
        for step, role in enumerate(part.compute):
            done = max(done, part.needs[step])
            for sync in range(done + 1, len(part.syncs)):
                if part.after[sync] < step:
                    pairs[role, part.syncs[sync]] = None
    return list(pairs)


def _layout(parts: list[_Part], tail: int, pairs: list[tuple[int, int]], roles: int) -> Layout:
    table = np.full((roles, roles), -1, dtype=np.int64)
    for column, pair in enumerate(pairs):
        table[pair] = column
    return Layout(
        compute=_padded([part.compute for part in parts]),
        syncs=_padded([part.syncs for part in parts]),
        needs=_padded([part.needs for part in parts]),
        after=_padded([part.after for part in parts]),
        pair=table,
        tail=tail,
    )


def _padded(rows: list[list[int]]) -> Index:
    width = max(1, *(len(row) for row in rows))
    return np.array([row + [-1] * (width - len(row)) for row in rows], dtype=np.int64)
