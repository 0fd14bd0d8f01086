"""A program's repeating structure, read off its own expansion.

Blocks of one kind are identical but for their drop, so programs of two blocks show everything:
the steps before the first block, a synced and a dropped block of each kind that follow another,
and the steps after the last. Expanded with the sizes of many splits, the same program has the rows
of each step in every split. Nothing here knows a strategy; a new expansion is read like the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from isotune.simulator.architecture import Model, Ranks
from isotune.simulator.automaton.walk import BLOCK, Index, Layout
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
    ranks: Ranks
    how: Strategy

    def steps(self, work: PassSizes, sizes: Sequence[Any]) -> dict[int, Step]:
        """A step of each role in the passes of `work`, in the order in which they first run.

        `sizes` are those of the chunks: of one pass, or of each an array of one element per pass.
        """
        kinds = range(max(self.model.pattern) + 1)
        twice = [kind for kind in kinds for _ in range(2)]
        dropped = tuple(range(1, len(twice), 2)) if self.how.drops else ()
        program = expand_sizes(
            self.model, self.ranks, work, self.how, sizes, dropped, pattern=twice
        )
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


@lru_cache(maxsize=512)
def structure(model: Model, ranks: Ranks, strategy: str, chunks: int) -> Structure | None:
    """The structure of all programs that differ in their sizes and drop set only.

    None where they are no small automata and the reference timeline must run them: a strategy
    that runs blocks by their place, or on several stages, and blocks that leave different
    collectives in flight, so that what a block does depends on the one before it.
    """
    how = STRATEGIES[strategy]
    if not how.uniform or how.stages > 1:
        return None

    def expanded(kinds: Sequence[int], dropped: tuple[int, ...] = ()) -> Program:
        sizes = (1,) * chunks
        return expand_sizes(model, ranks, Workload(), how, sizes, dropped, pattern=kinds)

    pattern = model.pattern
    kinds = range(max(pattern) + 1)
    tails = {_tail(expanded((kind, kind))) for kind in kinds}
    if len(tails) > 1:
        return None
    tail = len(*tails)
    roles = _Roles()
    whole = expanded((0, 0))
    parts = [_part(whole, -1, roles, tail), _part(whole, 2, roles, tail)]
    for kind in kinds:
        # After a block of its own kind: any other leaves the same collectives in flight.
        for dropped in ((), (0, 1) if how.drops else ()):
            parts.append(_part(expanded((kind, kind), dropped), 1, roles, tail))
    for part in parts[BLOCK:]:
        # What the engine's state rests on: only the last syncs outlive their block.
        assert max(part.needs) >= len(part.syncs) - tail - 1
    pairs = _pairs(parts)
    return Structure(
        layout=_layout(parts, tail, pairs, len(roles.known), pattern),
        roles=tuple(roles.known),
        pairs=tuple(pairs),
        roles_of=tuple(frozenset(part.compute) | frozenset(part.syncs) for part in parts),
        times=np.stack([_times(part, len(roles.known)) for part in parts]),
        model=model,
        ranks=ranks,
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


def _tail(program: Program) -> tuple[Role, ...]:
    """The collectives of the first block that may be in flight when the next one begins.

    From the first that a later block waits for. Names are left out: what is in flight takes as long
    after an attention as after an MLP.
    """
    steps = program.steps
    inner = [i for i, step in enumerate(steps) if step.lane == COMM and step.block == 0]
    later = {d for step in steps if step.block > 0 for d in step.depends_on}
    first = next((at for at, index in enumerate(inner) if index in later), len(inner))
    return tuple(_nameless(steps[index].role) for index in inner[first:])


def _nameless(role: Role) -> Role:
    ops, chunk, tile = role
    return tuple(replace(op, name="", sublayer="attention") for op in ops), chunk, tile


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


def _layout(
    parts: list[_Part],
    tail: int,
    pairs: list[tuple[int, int]],
    roles: int,
    pattern: tuple[int, ...],
) -> Layout:
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
        pattern=np.array(pattern, dtype=np.int64),
        cycle=_cycle(pattern),
    )


def _cycle(pattern: tuple[int, ...]) -> int:
    """After how many blocks a pattern repeats, to its end."""
    blocks = len(pattern)
    return next(
        cycle for cycle in range(1, blocks + 1) if pattern[cycle:] == pattern[: blocks - cycle]
    )


def _padded(rows: list[list[int]]) -> Index:
    width = max(1, *(len(row) for row in rows))
    return np.array([row + [-1] * (width - len(row)) for row in rows], dtype=np.int64)
