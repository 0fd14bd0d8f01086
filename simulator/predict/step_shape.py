"""The rows that a step works on, and the cost that comes of them."""

from typing import NamedTuple

from isotune.simulator.architecture import (
    Op,
)
from isotune.simulator.kernels import (
    Array,
    Cost,
    Size,
)
from isotune.simulator.schedule import Slice, Step


class Rows(NamedTuple):
    """Shape of the activations an op works on; ints or arrays of one common shape.

    `rows` rows of a chunk: `tokens` tokens of each of `requests` requests, after `start`
    tokens of context. A chunk of a mixed batch has several such slices: `requests` are then all
    of them, and `slices` says what each has.
    """

    rows: Size
    requests: Size
    tokens: Size
    start: Size
    slices: tuple[Slice, ...] = ()


def rows_of(step: Step) -> Rows:
    """The rows a step works on."""
    chunk = step.chunk
    if len(chunk.slices) > 1:
        return Rows(step.rows, chunk.requests, 0, 0, chunk.slices)
    return Rows(step.rows, chunk.requests, chunk.tokens, chunk.start)


class StepCost(NamedTuple):
    """Price of a step; every field an array of the shape of its rows (`parts` by op).

    `seconds` with the GPU to itself, as part of a running engine; `sms` the SMs a sync
    holds; `mem_rate` the share of device-memory bandwidth it uses; `interference` the
    factor a sync's time grows by beside compute.
    """

    seconds: Array
    parts: tuple[tuple[Op, Cost], ...]
    sms: Array
    mem_rate: Array
    interference: Array
