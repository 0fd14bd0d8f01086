"""Pareto sets of plans or paths by time and cost."""

import numpy as np

from isotune.simulator.batch import Array, Index


def undominated(time: Array, cost: Array, state: Index | None = None) -> Index:
    """Indices of what no other equals or beats in both time and cost; of equals, the first.

    With `state`, only what has the same state is compared.
    """
    state = np.zeros(len(time), dtype=np.int64) if state is None else state
    order = np.lexsort((cost, time, state))
    kept: list[Index] = []
    for group in np.split(order, np.flatnonzero(np.diff(state[order])) + 1):
        before = np.minimum.accumulate(np.append(np.inf, cost[group][:-1]))
        kept.append(group[cost[group] < before])
    return np.concatenate(kept)
