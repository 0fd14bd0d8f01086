"""How much longer a compute step and a collective take while both are in flight."""

import numpy as np

from isotune.simulator.kernels import (
    Array,
    Cost,
    GemmParameters,
    Gpu,
    waves,
)
from isotune.simulator.predict.step_shape import StepCost


def slowdowns(
    compute: StepCost,
    sync: StepCost,
    *,
    gpu: Gpu,
    gemm: GemmParameters,
    memory_interference: float,
) -> tuple[Array, Array]:
    """How many times longer a compute step and a sync take while both are in flight.

    Every kernel runs on the SMs the collective leaves (see `_on_fewer_sms`) and slows by
    `memory_interference` times the share of memory bandwidth that the collective takes. The
    collective slows by its measured interference. Where the traffic of both exceeds the
    bandwidth, each slows by the excess at least.
    """
    left = 1.0 - np.minimum(sync.sms / gpu.sms, 0.95)
    disturbed = 1.0 + memory_interference * sync.mem_rate
    longer: Array = np.zeros(())
    for _, cost in compute.parts:
        streamed = cost.mem_bytes / gpu.memory_bandwidth
        shared_memory = streamed + sync.mem_rate * cost.seconds
        slower = _on_fewer_sms(cost, left, gemm) * disturbed
        longer = longer + np.maximum(slower, shared_memory)
    shared = compute.mem_rate + sync.mem_rate
    return longer / compute.seconds, np.maximum(sync.interference, shared)


def _on_fewer_sms(cost: Cost, left: Array, par: GemmParameters) -> Array:
    """Seconds of a kernel on a share `left` of the SMs.

    The library chose its tiles for the whole GPU; fewer SMs take them in more waves, which
    costs nothing where they still fit and a whole wave where they just filled the GPU. The
    SM-bound time enters the whole as in the roofline with a rounded ridge.
    """
    more_waves = waves(cost.load / left, par) / waves(cost.load, par)
    growth = np.where(cost.load > 0, more_waves, 1.0 / left)
    p = par.sharpness
    added = cost.sm_seconds**p * (growth**p - 1.0)
    return np.asarray((cost.seconds**p + added) ** (1 / p))
