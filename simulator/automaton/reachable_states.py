"""All states of a split's automaton, for those who search for the best drop set."""

from typing import NamedTuple

import numpy as np

from isotune.simulator.automaton.engine import compiled
from isotune.simulator.automaton.idle import initial_state
from isotune.simulator.automaton.walk import (
    DROPPED,
    END,
    HEAD,
    SYNCED,
    Array,
    Index,
    Layout,
    part_of,
)


class Transitions(NamedTuple):
    """All states of a split's automaton.

    `following` and `elapsed` [kinds, states, 2] are the state after a block of a kind, synced or
    dropped, and the seconds that it takes. State 0 stands before the first block, `head` seconds
    into the program; `finish` [states] is the time from the end of the last block to the end of
    the program. `pattern` [blocks] are the kinds of the blocks.
    """

    following: Index
    elapsed: Array
    head: float
    finish: Array
    pattern: Index


def transitions(
    layout: Layout, seconds: Array, slowdowns: Array, wait: float, most: int = 256
) -> Transitions | None:
    """Every state that any drop set can lead to; None if they exceed `most`.

    A block that no drop set meets in a state takes forever there.
    """
    run, times = compiled().run_part, np.empty(layout.syncs.shape[1])

    def after(part: int, before: Array) -> tuple[Array, float]:
        then = before.copy()
        took, _ = run(part, layout, seconds, slowdowns, wait, then, times)
        return then, float(took)

    first, head = after(HEAD, initial_state(layout))
    states, place = [first], {first.tobytes(): 0}
    kinds = int(layout.pattern.max()) + 1
    met: list[dict[int, list[tuple[int, float]]]] = [{} for _ in range(kinds)]
    reached = {0}
    for kind in layout.pattern.tolist():
        for state in reached - met[kind].keys():
            met[kind][state] = []
            for dropped in (SYNCED, DROPPED):
                then, took = after(part_of(kind, dropped), states[state])
                index = place.setdefault(then.tobytes(), len(states))
                if index == len(states):
                    states.append(then)
                met[kind][state].append((index, took))
        if len(states) > most:
            return None
        reached = {index for state in reached for index, _ in met[kind][state]}
    following = np.zeros((kinds, len(states), 2), dtype=np.int64)
    elapsed = np.full((kinds, len(states), 2), np.inf)
    for kind, blocks in enumerate(met):
        for state, steps in blocks.items():
            following[kind, state] = [index for index, _ in steps]
            elapsed[kind, state] = [took for _, took in steps]
    finish = [after(END, state)[1] for state in states]
    return Transitions(following, elapsed, head, np.array(finish), layout.pattern)
