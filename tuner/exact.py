"""The exact optimum of small spaces: every two-chunk split at tile granularity.

Crossed with transfer types, SM budgets and sizes of the drop set, each combination is one
vectorised batch. The search is measured against this, and starts from it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simulator.batch import latencies
from simulator.plan import CommDtype, Plan
from simulator.scenario import Scenario

TILE = 128
"""Split points fall on whole GEMM tiles: the row count of the common tile of large GEMMs."""
_SM_BUDGETS = (1, 2, 4, 6, 8, 12, 16, 20, 24, 32, 48, 64)


@dataclass(frozen=True, kw_only=True)
class Best:
    """The best plan of an enumeration, its latency, and how many plans were compared."""

    plan: Plan
    latency_s: float
    compared: int


def granularity(total: int) -> int:
    """Rows between neighbouring split points; finer than a tile where tiles are too few."""
    return TILE if total >= 4 * TILE else max(1, total // 16)


def split_sizes(total: int) -> npt.NDArray[np.int64]:
    """All two-chunk splits [splits, 2] of `total` at the grain, the last chunk taking the rest."""
    grain = granularity(total)
    first = np.arange(grain, total, grain, dtype=np.int64)
    return np.stack([first, total - first], axis=1)


def sm_budgets(scenario: Scenario) -> tuple[int | None, ...]:
    """SM budgets worth telling apart: the library's choice, and smaller ones."""
    most = max(a.sms for a in scenario.hardware.collectives.chain())
    return (None, *(sms for sms in _SM_BUDGETS if sms < most))


def best_split(
    scenario: Scenario,
    *,
    comm_dtypes: Sequence[CommDtype] = ("bf16",),
    drop_sets: Iterable[tuple[int, ...]] = ((),),
) -> Best | None:
    """The optimal two-chunk ISO plan; None where the prompt cannot be split.

    Compares every split at tile granularity x transfer type x SM budget x given drop set.
    """
    sizes = split_sizes(scenario.workload.tokens)
    if not len(sizes):
        return None
    best: Best | None = None
    compared = 0
    for dropped in drop_sets:
        for comm_dtype in comm_dtypes:
            for comm_sms in sm_budgets(scenario):
                plan = Plan(
                    strategy="iso",
                    chunks=tuple(sizes[0].tolist()),
                    comm_dtype=comm_dtype,
                    comm_sms=comm_sms,
                    dropped=dropped,
                )
                times = latencies(scenario, plan, sizes)
                compared += len(times)
                at = int(times.argmin())
                if best is None or times[at] < best.latency_s:
                    chunks = tuple(sizes[at].tolist())
                    plan = plan.model_copy(update={"chunks": chunks})
                    best = Best(plan=plan, latency_s=float(times[at]), compared=0)
    assert best is not None
    return Best(plan=best.plan, latency_s=best.latency_s, compared=compared)
