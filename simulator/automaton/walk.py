"""Latencies of plans whose blocks come in a few kinds, each of them synced or dropped.

Both lanes are in order, so every wait reduces to one: a compute step waits for the last sync it
depends on, a sync for one compute step. At the end of a block only its last syncs can be in flight
(the *tail*: those that the next block waits for, mostly one per chunk or tile), so that what the
past means for the future is a short vector, relative to now:

    done     how many syncs of the tail have ended
    started  whether the next one is in flight, and `left`, the work left in it
    times    of each sync of the tail: its end if it ended, else the moment it may start

The same vector at the start of a block means the same block again, and identical blocks soon
repeat it (a two-chunk schedule has two such states: compute waits for syncs, or syncs for
compute). So each distinct state is simulated once per kind of block, in the order of
`timeline.simulate`, and everything after is a walk through a small automaton. Where drop set and
pattern of kinds are periodic the walk itself jumps over periods once one repeats.

The functions are plain Python that numba compiles as it stands (`compiled`).
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]

STATES = 32
"""Distinct states remembered per split; past them the automaton starts anew."""
HEAD_FIELDS = 3
"""Fields of a state before its times: done, started, left."""
HEAD, END, BLOCK = range(3)
"""Parts of a program: what stands before the first block, what after the last, and, from `BLOCK`
on, each kind of block synced and dropped (see `part_of`)."""
SYNCED, DROPPED = range(2)
"""Whether a block's first collective runs."""


class Automaton(NamedTuple):
    """States [states, 3 + tail] met so far, and where each part of the program leads from them.

    `following` and `elapsed` [states, parts] are the state after a part and the time that it
    takes; -1 if unknown.
    """

    states: Array
    following: Index
    elapsed: Array

    @classmethod
    def empty(cls, layout: "Layout") -> "Automaton":
        """One that knows nothing yet; `states` has one more row, for scratch."""
        parts = len(layout.compute)
        return cls(
            np.zeros((STATES + 1, HEAD_FIELDS + layout.tail)),
            np.full((STATES, parts), -1, dtype=np.int64),
            np.zeros((STATES, parts)),
        )


class Layout(NamedTuple):
    """The steps of the parts of a program, and the kind of each of its blocks.

    `compute` [parts, steps] and `syncs` [parts, tail + syncs] hold roles, -1 past the end; a part's
    syncs come after the tail of the block before it. `needs` [parts, steps] is the last sync a
    compute step waits for, -1 for none; `after` [parts, tail + syncs] the compute step a sync waits
    for. `pair` [roles, roles] is the column in the slowdowns of a compute role beside a sync role.
    `pattern` [blocks] are the kinds of the blocks, which repeat after every `cycle` blocks.
    """

    compute: Index
    syncs: Index
    needs: Index
    after: Index
    pair: Index
    tail: int
    pattern: Index
    cycle: int


def part_of(kind: int, dropped: int) -> int:
    """The part that a block of a kind is, `SYNCED` or `DROPPED`."""
    return BLOCK + 2 * kind + dropped


def run_part(  # noqa: PLR0915  (one loop; in pieces it would pass its state around)
    part: int,
    layout: Layout,
    seconds: Array,
    slowdowns: Array,
    wait: float,
    state: Array,
    times: Array,
) -> tuple[float, float]:
    """Run one part from `state` and leave the new state there.

    Returns:
        The seconds elapsed, and those of them in which the compute lane waits.
    """
    steps, tail = layout.compute.shape[1], layout.tail
    syncs, most = layout.syncs[part], layout.syncs.shape[1]
    at, started, left = int(state[0]), state[1] > 0.0, state[2]
    for index in range(tail):
        times[index] = state[HEAD_FIELDS + index]
    known, now, free, since, idle = tail, 0.0, 0.0, 0.0, 0.0
    for step in range(steps):
        role = layout.compute[part, step]
        if role < 0:
            break
        begin, needed = now, layout.needs[part, step]
        while at <= needed:  # the compute stream is idle until these syncs have ended
            if not started:
                since, left = max(free, times[at]), seconds[syncs[at]]
            free = since + left
            times[at], started = free, False
            at += 1
        if needed >= 0:
            begin = max(now, times[needed] + wait)
        while at < known and now < begin:  # syncs that run alone meanwhile
            if not started:
                start = max(free, times[at])
                if start >= begin:
                    break
                since, left, started = start, seconds[syncs[at]], True
            if since + left > begin:
                left -= begin - since
                break
            free = since + left
            times[at], started = free, False
            at += 1
        idle += begin - now
        now, work = begin, seconds[role]
        while True:  # the step beside whatever syncs are in flight
            if not started:
                if at == known:
                    now += work
                    break
                start = max(free, times[at])
                if start >= now + work:
                    now += work
                    break
                if start > now:
                    work -= start - now
                    now = start
                started, left = True, seconds[syncs[at]]
            pair = layout.pair[role, syncs[at]]
            slower, slower_sync = slowdowns[2 * pair], slowdowns[2 * pair + 1]
            until, until_sync = work * slower, left * slower_sync
            if until < until_sync:
                now += until
                left -= until / slower_sync
                break
            now += until_sync
            work -= until_sync / slower
            times[at], free, started = now, now, False
            at += 1
            if until == until_sync:
                break
        since = now
        while known < most and layout.after[part, known] == step:
            times[known] = now + wait
            known += 1
    first = known - tail
    state[0], state[1], state[2] = at - first, started, left if started else 0.0
    for index in range(tail):
        time = times[first + index] - now
        state[HEAD_FIELDS + index] = max(time, -wait if first + index < at else 0.0)
    if started:
        state[HEAD_FIELDS + at - first] = 0.0
    return now, idle


def _begin(states: Array, following: Index, tail: int) -> None:
    """Know but the state before the program: nothing is in flight, nothing waited for."""
    following[:] = -1
    for index in range(HEAD_FIELDS + tail):
        states[0, index] = -np.inf
    states[0, 0], states[0, 1], states[0, 2] = tail, 0.0, 0.0


def _copy(source: Array, target: Array) -> None:
    for index in range(len(source)):
        target[index] = source[index]


def _find(states: Array, known: int, wanted: Array) -> int:
    """The known state equal to `wanted`, else `known`; the state before the program never is."""
    for state in range(1, known):
        index = 0
        while index < len(wanted) and states[state, index] == wanted[index]:
            index += 1
        if index == len(wanted):
            return state
    return known


def walk(  # noqa: PLR0915
    layout: Layout,
    seconds: Array,
    slowdowns: Array,
    wait: float,
    split_of: Index,
    masks: Index,
    periods: Index,
    order: Index,
    automaton: Automaton,
    latency: Array,
) -> None:
    """Fill `latency` [plans] for the plans that `order` names; fastest where splits follow in runs.

    Args:
        layout: the program's parts and the kinds of its blocks.
        seconds: of each role of each split [splits, roles].
        slowdowns: of each pair of each split [splits, 2 * pairs], compute first.
        wait: delay of a step that waits for the other stream, in seconds.
        split_of: the split of each plan [plans].
        masks: the drop set of each plan, one bit per block of a period [plans or 1, words].
        periods: after how many blocks a plan's drop set repeats [plans or 1].
        order: indices of plans.
        automaton: scratch space.
        latency: seconds [plans].
    """
    states, following, elapsed = automaton
    synced, blocks = BLOCK + 2 * layout.pattern, len(layout.pattern)
    scratch, times = states[STATES], np.empty(layout.syncs.shape[1])
    known, split = 0, -1
    for plan in order:
        row = plan if len(periods) > 1 else 0
        if split_of[plan] != split:
            split, known = split_of[plan], 1
            _begin(states, following, layout.tail)
        period, here, block, total = periods[row], 0, -1, 0.0
        place, last_here, last_total = 0, -1, 0.0
        while block <= blocks:
            part = HEAD
            if block == blocks:
                part = END
            elif block >= 0:
                if place == period:
                    place = 0
                if place == 0 and 2 * period <= blocks and period % layout.cycle == 0:
                    if here == last_here:
                        repeats = (blocks - block) // period
                        total += repeats * (total - last_total)
                        block += repeats * period
                        last_here = -1
                        continue
                    last_here, last_total = here, total
                stop, past = min(period, place + blocks - block), block - place
                while place < stop:
                    bit = (masks[row, place >> 6] >> (place & 63)) & 1
                    part = synced[past + place] + bit
                    then = following[here, part]
                    if then < 0:
                        break
                    total += elapsed[here, part]
                    here = then
                    place += 1
                block = past + place
                if place == stop:
                    continue
                place += 1
            then = following[here, part]
            if then >= 0:
                took = elapsed[here, part]
            else:
                _copy(states[here], scratch)
                took, _ = run_part(
                    part, layout, seconds[split], slowdowns[split], wait, scratch, times
                )
                then = _find(states, known, scratch)
                if then == STATES:  # full: keep the first state, forget the others
                    _begin(states, following, layout.tail)
                    known, then, last_here = 1, 1, -1
                else:
                    following[here, part], elapsed[here, part] = then, took
                if then == known:
                    _copy(scratch, states[then])
                    known += 1
            total += took
            here = then
            block += 1
        latency[plan] = total


FUNCTIONS = (run_part, _begin, _copy, _find, walk)
"""What numba compiles, each after those that it calls."""
