"""How long the compute lane of one plan waits for collectives."""

from collections.abc import Iterable

import numpy as np

from isotune.simulator.automaton.engine import cheapest
from isotune.simulator.automaton.walk import HEAD_FIELDS, Array, Layout


def initial_state(layout: Layout) -> Array:
    """The state before a program: nothing is in flight, nothing is waited for."""
    state = np.full(HEAD_FIELDS + layout.tail, -np.inf)
    state[:HEAD_FIELDS] = layout.tail, 0.0, 0.0
    return state


def idle_seconds(
    layout: Layout, parts: Iterable[int], seconds: Array, slowdowns: Array, wait: float
) -> float:
    """Seconds in which the compute lane waits, in a program of these parts.

    Args:
        layout: what each part is.
        parts: in the order in which they run.
        seconds: of each role [roles].
        slowdowns: of each pair [2 * pairs], compute first.
        wait: delay of a step that waits for the other lane, in seconds.
    """
    run_part, times = cheapest().run_part, np.empty(layout.syncs.shape[1])
    states = [initial_state(layout)]
    number: dict[bytes, int] = {}
    after: dict[tuple[int, int], tuple[int, float]] = {}
    state, idle = 0, 0.0
    for part in parts:
        if (state, part) not in after:
            following = states[state].copy()
            _, waited = run_part(part, layout, seconds, slowdowns, wait, following, times)
            index = number.setdefault(following.tobytes(), len(states))
            if index == len(states):
                states.append(following)
            after[state, part] = index, waited
        state, waited = after[state, part]
        idle += waited
    return idle
