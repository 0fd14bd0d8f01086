"""The reference timeline's answer for many plans at once.

Plans of one batch share a program's shape (strategy, number of chunks, drop set, transfer
type, SM budget) and differ in the sizes of their chunks. Steps are priced once per role with
numpy, for all plans together; a compiled loop then runs the two streams of each plan through
the same events as `timeline.simulate`, in the same order of arithmetic.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numba
import numpy as np
import numpy.typing as npt

from simulator.cost import Array
from simulator.costs import Pricer, Rows
from simulator.model import Model
from simulator.plan import Plan
from simulator.program import Step, Stream, expand
from simulator.scenario import Scenario
from simulator.workload import Workload

Sizes = npt.NDArray[np.int64]
_Index = npt.NDArray[np.int64]
_PLANS_AT_ONCE = 4096


def latencies(scenario: Scenario, plan: Plan, sizes: Sizes) -> Array:
    """Latency of `plan` with its chunks replaced, in turn, by each row of `sizes`.

    Args:
        scenario: what is run, and on what.
        plan: gives strategy, transfer type, SM budget and drop set.
        sizes: integers [plans, chunks], each row adding up to the whole.

    Returns:
        Seconds [plans], equal to `predict(...).latency_s` of each.
    """
    parts = [_latencies(scenario, plan, part) for part in _parts(sizes)]
    return np.concatenate(parts) if parts else np.empty(0)


def _parts(sizes: Sizes) -> Iterator[Sizes]:
    for first in range(0, len(sizes), _PLANS_AT_ONCE):
        yield sizes[first : first + _PLANS_AT_ONCE]


@dataclass(frozen=True)
class _Skeleton:
    """What all programs of one shape share: who plays each role, and the order of events.

    `streams` and `role_of` by step; `lanes` the steps of the compute stream, then those of the
    other; the dependencies of step i are `dependencies[first[i] : first[i + 1]]`.
    """

    players: tuple[Step, ...]
    streams: _Index
    lanes: _Index
    first: _Index
    dependencies: _Index
    role_of: _Index


@lru_cache(maxsize=256)
def _skeleton(model: Model, workload: Workload, shape: Plan) -> _Skeleton:
    steps = expand(model, workload, shape)
    role_of, players = steps.roles()
    streams = np.array([int(step.stream is Stream.COMM) for step in steps.steps])
    counts = [len(step.depends_on) for step in steps.steps]
    flat = [dependency for step in steps.steps for dependency in step.depends_on]
    return _Skeleton(
        players=tuple(steps.steps[player] for player in players),
        streams=streams,
        lanes=np.argsort(streams, kind="stable"),
        first=np.concatenate([[0], np.cumsum(counts)]),
        dependencies=np.array(flat, dtype=np.int64),
        role_of=np.array(role_of),
    )


def _latencies(scenario: Scenario, plan: Plan, sizes: Sizes) -> Array:
    chunks = (1,) * sizes.shape[1]
    shape = Plan(strategy=plan.strategy, chunks=chunks, dropped=plan.dropped)
    skeleton = _skeleton(scenario.model, scenario.workload, shape)
    pricer = Pricer(scenario, plan.comm_dtype, plan.comm_sms)
    players = skeleton.players
    prices = [pricer.step(step.ops, _shape(scenario, plan, sizes, step)) for step in players]
    seconds = np.empty((len(sizes), len(players)))
    slow_compute = np.ones((len(sizes), len(players), len(players)))
    slow_sync = np.ones_like(slow_compute)
    for role, price in enumerate(prices):
        seconds[:, role] = price.seconds
        for other, sync in enumerate(prices):
            if players[role].stream is Stream.COMPUTE and players[other].stream is Stream.COMM:
                slower = pricer.slowdowns(price, sync)
                slow_compute[:, role, other], slow_sync[:, role, other] = slower
    order = (skeleton.streams, skeleton.lanes, skeleton.first, skeleton.dependencies)
    wait = scenario.hardware.runtime.event_wait
    times: Array = _run(*order, skeleton.role_of, seconds, slow_compute, slow_sync, wait)
    return times


def _shape(scenario: Scenario, plan: Plan, sizes: Sizes, step: Step) -> Rows:
    """The step's rows in every plan, by its chunk's or tile's place."""
    chunk, workload = step.chunk, scenario.workload
    if step.tile is not None:
        return Rows(sizes[:, step.tile], chunk.requests, chunk.tokens, chunk.start)
    if plan.strategy == "iso" and chunk.index < sizes.shape[1]:
        tokens = sizes[:, chunk.index]
        start = workload.context + sizes[:, : chunk.index].sum(axis=1)
        return Rows(tokens * workload.batch, workload.batch, tokens, start)
    if plan.strategy == "request_overlap" and chunk.index < sizes.shape[1]:
        requests = sizes[:, chunk.index]
        return Rows(requests * workload.tokens, requests, workload.tokens, workload.context)
    return Rows(step.rows, chunk.requests, chunk.tokens, chunk.start)


@numba.njit(cache=True, nogil=True)
def _run(
    streams: _Index,
    lanes: _Index,
    first: _Index,
    dependencies: _Index,
    role_of: _Index,
    seconds: Array,
    slow_compute: Array,
    slow_sync: Array,
    event_wait: float,
) -> Array:
    """`timeline.simulate` for each row of `seconds`; latencies only."""
    plans, steps = len(seconds), len(streams)
    border = steps - streams.sum()
    latency = np.empty(plans)
    ends = np.empty(steps)
    following, stop = np.empty(2, np.int64), np.array([border, steps])
    running = np.empty(2, np.int64)
    left, wait, rate = np.empty(2), np.empty(2), np.empty(2)
    for plan in range(plans):
        ends[:] = -1.0
        following[0], following[1] = 0, border
        running[:] = -1
        now = 0.0
        while True:
            for lane in range(2):
                wait[lane] = np.inf
                if running[lane] >= 0 or following[lane] == stop[lane]:
                    continue
                index = lanes[following[lane]]
                ready = 0.0
                for place in range(first[index], first[index + 1]):
                    dependency = dependencies[place]
                    if ends[dependency] < 0.0:
                        ready = np.inf
                        break
                    end = ends[dependency]
                    if streams[dependency] != streams[index]:
                        end += event_wait
                    ready = max(ready, end)
                if ready > now:
                    wait[lane] = ready - now
                else:
                    running[lane] = index
                    left[lane] = seconds[plan, role_of[index]]
                    following[lane] += 1
            rate[:] = 1.0
            if running[0] >= 0 and running[1] >= 0:
                compute, sync = role_of[running[0]], role_of[running[1]]
                rate[0] = 1.0 / slow_compute[plan, compute, sync]
                rate[1] = 1.0 / slow_sync[plan, compute, sync]
            for lane in range(2):
                if running[lane] >= 0:
                    wait[lane] = left[lane] / rate[lane]
            elapsed = min(wait[0], wait[1])
            if elapsed == np.inf:
                break
            now += elapsed
            for lane in range(2):
                if running[lane] >= 0:
                    left[lane] -= elapsed * rate[lane]
                    if wait[lane] == elapsed:
                        ends[running[lane]] = now
                        running[lane] = -1
        latency[plan] = now
    return latency
