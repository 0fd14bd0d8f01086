"""All states of a split's automaton, for those who search for the best drop set."""

from typing import NamedTuple

import numpy as np

from isotune.simulator.automaton.engine import compiled
from isotune.simulator.automaton.idle import initial_state
from isotune.simulator.automaton.walk import Array, Index, Layout


class Transitions(NamedTuple):
    """All states of a split's automaton: `following` and `elapsed` [states, 2] by kind of block.

    State 0 stands before the first block, `head` seconds into the program; `finish` [states] is
    the time from the end of the last block to the end of the program.
    """

    following: Index
    elapsed: Array
    head: float
    finish: Array


def transitions(
    layout: Layout, blocks: int, seconds: Array, slowdowns: Array, wait: float, most: int = 256
) -> Transitions | None:
    """Every state any drop set of `blocks` blocks can lead to; None if they exceed `most`.

    From a state that only the last block reaches, going on takes forever.
    """
    run, times = compiled().run_part, np.empty(layout.syncs.shape[1])
    state = initial_state(layout)

    def after(part: int, before: Array) -> tuple[Array, float]:
        then = before.copy()
        took, _ = run(part, layout, seconds, slowdowns, wait, then, times)
        return then, float(took)

    first, head = after(2, state)
    states, place, depths = [first], {first.tobytes(): 0}, [0]
    following: list[tuple[int, ...]] = []
    elapsed: list[tuple[float, ...]] = []
    while len(following) < len(states):
        here = len(following)
        if depths[here] == blocks:
            following.append((here, here))
            elapsed.append((np.inf, np.inf))
            continue
        reached = [after(kind, states[here]) for kind in (0, 1)]
        for then, _ in reached:
            if place.setdefault(then.tobytes(), len(states)) == len(states):
                states.append(then)
                depths.append(depths[here] + 1)
        following.append(tuple(place[then.tobytes()] for then, _ in reached))
        elapsed.append(tuple(took for _, took in reached))
        if len(states) > most:
            return None
    finish = [after(3, then)[1] for then in states]
    return Transitions(np.array(following), np.array(elapsed), head, np.array(finish))
