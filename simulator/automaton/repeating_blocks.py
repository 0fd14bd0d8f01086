"""A program's repeating structure, read off its own expansion.

Blocks are identical but for their drop, so two programs of two blocks show everything: the steps
before the first block, a synced and a dropped block that follow another, and the steps after the
last. Expanded with the sizes of many splits, the same program has the rows of each step in every
split. Nothing here knows a strategy; a new expansion is read like the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from isotune.simulator.architecture import Model
from isotune.simulator.automaton.walk import HEAD, Index, Layout
from isotune.simulator.schedule import (
    COMM,
    COMPUTE,
    STRATEGIES,
    PassSizes,
    Program,
    Role,
    Step,
    Strategy,
    Workload,
    expand_sizes,
)


@dataclass(frozen=True, eq=False)
class Structure:
    """The layout of a program, and what each of its roles is.

    `pairs` [pairs, 2] are the compute and sync roles that can meet. `roles_of` are the roles
    each part uses, so that a batch without drops costs no dropped block, and `times` [parts,
    roles] says how often.
    """

    layout: Layout
    roles: tuple[Role, ...]
    pairs: tuple[tuple[int, int], ...]
    roles_of: tuple[frozenset[int], ...]
    times: Index
    model: Model
    tp: int
    how: Strategy

    def steps(self, work: PassSizes, sizes: Sequence[Any]) -> dict[int, Step]:
        """A step of each role in the passes of `work`, in the order in which they first run.

        `sizes` are those of the chunks: of one pass, or of each an array of one element per pass.
        """
        dropped = (1,) if self.how.drops else ()
        program = expand_sizes(self.model, self.tp, work, self.how, sizes, dropped)
        number = {role: index for index, role in enumerate(self.roles)}
        return {number[step.role]: step for step in program.steps if step.role in number}


@dataclass(frozen=True)
class _Part:
    """Roles of the steps of each stream, and what they wait for (see `Layout`)."""

    compute: list[int]
    syncs: list[int]
    needs: list[int]
    after: list[int]
    own: int
    """The first of `syncs` that is the block's own."""


def handles(how: Strategy) -> bool:
    """Whether a strategy's programs are small automata: blocks alike, on two lanes of one stage.

    The reference timeline runs all others.
    """
    return how.uniform and how.stages == 1


@lru_cache(maxsize=512)
def structure(model: Model, tp: int, strategy: str, chunks: int) -> Structure:
    """The structure of all programs that differ in their sizes and drop set only."""
    small, how = replace(model, num_hidden_layers=2), STRATEGIES[strategy]
    work, sizes = Workload(tp=tp), (1,) * chunks
    synced = expand_sizes(small, tp, work, how, sizes)
    dropped = expand_sizes(small, tp, work, how, sizes, (0, 1) if how.drops else ())
    tail = _awaited(synced)
    roles = _Roles()
    parts = [
        _part(synced, 1, roles, tail),
        _part(dropped, 1, roles, tail),
        _part(synced, -1, roles, tail),
        _part(synced, 2, roles, tail),
    ]
    for part in parts[:HEAD]:
        # What the engine's state rests on: only the last syncs outlive their block.
        assert max(part.needs) >= len(part.syncs) - tail - 1
    pairs = _pairs(parts)
    return Structure(
        layout=_layout(parts, tail, pairs, len(roles.known)),
        roles=tuple(roles.known),
        pairs=tuple(pairs),
        roles_of=tuple(frozenset(part.compute) | frozenset(part.syncs) for part in parts),
        times=np.stack([_times(part, len(roles.known)) for part in parts]),
        model=small,
        tp=tp,
        how=how,
    )


class _Roles:
    """Numbers steps that cost the same alike (compare `Program.roles`)."""

    def __init__(self) -> None:
        self.known: dict[Role, int] = {}

    def of(self, step: Step) -> int:
        return self.known.setdefault(step.role, len(self.known))


def _part(program: Program, block: int, roles: _Roles, awaited: int) -> _Part:
    """The steps of one block; syncs of the block before come first in what is waited for."""
    steps = program.steps
    before = [i for i, s in enumerate(steps) if s.block == block - 1 and s.lane == COMM]
    here = [index for index, step in enumerate(steps) if step.block == block]
    compute = [index for index in here if steps[index].lane == COMPUTE]
    syncs = [index for index in here if steps[index].lane == COMM]
    tail = before[len(before) - awaited :] if before else []
    place = {index: number for number, index in enumerate([*tail, *syncs])}
    order = {index: number for number, index in enumerate(compute)}
    return _Part(
        compute=[roles.of(steps[index]) for index in compute],
        syncs=[roles.of(steps[index]) for index in (*tail, *syncs)],
        needs=[max((place.get(d, -1) for d in steps[i].depends_on), default=-1) for i in compute],
        after=[-1] * len(tail) + [max(order[d] for d in steps[i].depends_on) for i in syncs],
        own=len(tail),
    )


def _times(part: _Part, roles: int) -> Index:
    """How often each role occurs in a part."""
    return np.bincount([*part.compute, *part.syncs[part.own :]], minlength=roles)


def _awaited(program: Program) -> int:
    """How many of a block's syncs are in flight at its end: from the first that is awaited then."""
    syncs = [i for i, step in enumerate(program.steps) if step.lane == COMM]
    inner = [index for index in syncs if program.steps[index].block == 0]
    later = {d for step in program.steps if step.block > 0 for d in step.depends_on}
    return len(inner) - next((at for at, index in enumerate(inner) if index in later), len(inner))


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
