"""The exact optimum of small spaces: every split into up to three chunks at tile granularity.

Crossed with transfer types, SM budgets and given drop sets, each combination is one vectorised
batch; `exact.drop_set` adds the choice of the drop set itself. The search is measured against
this, and starts from it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from isotune.simulator.batch import Batch, DropSets, Index, Splits, Timer
from isotune.simulator.predict import GpuMemory, Scenario
from isotune.simulator.schedule import STRATEGIES, CommDtype, Plan, Strategy, granularity

FEW_SPLITS = 4000
"""Three chunks are enumerated unasked while they make no more splits than this."""
_AT_ONCE = 1 << 13


@dataclass(frozen=True, kw_only=True)
class Best:
    """The best plan of an enumeration, its latency, and how many plans were compared.

    No plan of the space takes less than `bound_s`: the latency itself where every plan was
    compared, so that the gap is a proof either way.
    """

    plan: Plan
    latency_s: float
    compared: int
    bound_s: float

    @property
    def gap(self) -> float:
        """How far above the bound the plan may lie, relative."""
        return self.latency_s / self.bound_s - 1.0


def split_sizes(total: int, chunks: int = 2) -> Index:
    """All splits [splits, chunks] of `total` at the grain, the last chunk taking the rest."""
    parts = [part for part in _splits(total, chunks) if len(part)]
    return np.concatenate(parts) if parts else np.empty((0, chunks), dtype=np.int64)


def _splits(total: int, chunks: int) -> Iterator[Index]:
    """The splits in pieces, so that the many of a long prompt are never all in memory."""
    grain = granularity(total)
    points = np.arange(grain, total, grain, dtype=np.int64)
    if chunks == 2:
        yield np.stack([points, total - points], axis=1)
        return
    for index, first in enumerate(points):
        later = points[index + 1 :]
        yield np.stack([np.full_like(later, first), later - first, total - later], axis=1)


def even_sizes(how: Strategy, totals: Index, parts: int) -> Index:
    """Splits [totals, parts] of each total as even as the strategy's grain allows.

    A part is empty where a total has fewer grains than parts; such a split is no plan.
    """
    if not how.chunked:
        return np.empty((len(totals), 0), dtype=np.int64)
    grains = np.array([how.grain(total) for total in totals.tolist()], dtype=np.int64)
    edges = [np.rint(totals * part / parts / grains) * grains for part in range(parts)]
    ends = np.minimum(np.stack([*edges, totals], axis=1), totals[:, None])
    return np.diff(ends, axis=1).astype(np.int64)


def most_chunks(total: int) -> int:
    """Chunks up to which enumeration takes a fraction of a second."""
    points = (total - 1) // granularity(total)
    return 3 if points * (points - 1) // 2 <= FEW_SPLITS else 2


def spaces(scenario: Scenario, chunks: int, comm_dtypes: Sequence[CommDtype]) -> Iterator[Batch]:
    """Batches that hold every ISO split of up to `chunks` chunks that fits in memory, crossed with
    transfer type and SM budget."""
    for count in range(2, chunks + 1):
        for sizes in _pieces(scenario, _splits(scenario.workload.tokens, count)):
            splits = Splits.of(scenario.workload, sizes)
            for comm_dtype in comm_dtypes:
                for comm_sms in scenario.sm_budgets:
                    plan = Plan(
                        strategy="iso",
                        chunks=tuple(sizes[0].tolist()),
                        comm_dtype=comm_dtype,
                        comm_sms=comm_sms,
                    )
                    yield Batch(scenario=scenario, plan=plan, splits=splits)


def _pieces(scenario: Scenario, parts: Iterable[Index]) -> Iterator[Index]:
    """The splits that fit in memory, which the largest chunk decides, many at once."""
    memory = GpuMemory(scenario)
    held: list[Index] = []
    for part in parts:
        held.append(part[memory.fitting(STRATEGIES["iso"], part)])
        if sum(map(len, held)) >= _AT_ONCE:
            yield np.concatenate(held)
            held = []
    if sum(map(len, held)):
        yield np.concatenate(held)


def best_split(
    scenario: Scenario,
    *,
    comm_dtypes: Sequence[CommDtype] = ("bf16",),
    drop_sets: Iterable[tuple[int, ...]] = ((),),
    chunks: int | None = None,
) -> Best | None:
    """The optimal ISO plan of two to `chunks` chunks.

    None where no split is possible or fits in memory, and for a model whose blocks only the
    reference timeline runs: it would take minutes over all splits.

    Compares every split at tile granularity x transfer type x SM budget x given drop set; three
    chunks unless that takes long (see `most_chunks`).
    """
    tokens, blocks = scenario.workload.tokens, scenario.model.num_hidden_layers
    named = sorted(set(drop_sets))
    drops = DropSets.named(named, blocks)
    best: Best | None = None
    timer, compared = Timer(scenario), 0
    for batch in spaces(scenario, chunks or most_chunks(tokens), comm_dtypes):
        if not timer.compiles(batch.plan):
            return None
        times = timer.run(crossed(batch, drops))
        compared += len(times)
        at = int(times.argmin())
        if best is None or times[at] < best.latency_s:
            split, chosen = divmod(at, len(named))
            plan = chosen_plan(batch, split, named[chosen])
            best = Best(plan=plan, latency_s=float(times[at]), compared=0, bound_s=0.0)
    if best is None:
        return None
    return Best(plan=best.plan, latency_s=best.latency_s, compared=compared, bound_s=best.latency_s)


def batch_of(scenario: Scenario, plan: Plan) -> Batch:
    """A batch of one plan."""
    sizes = np.array([plan.chunks], dtype=np.int64)
    return Batch(scenario=scenario, plan=plan, splits=Splits.of(scenario.workload, sizes))


def chosen_plan(batch: Batch, split: int, dropped: tuple[int, ...]) -> Plan:
    """One plan of a batch."""
    chunks = tuple(batch.splits.sizes[split].tolist())
    return batch.plan.model_copy(update={"chunks": chunks, "dropped": dropped})


def crossed(batch: Batch, drops: DropSets) -> Batch:
    """Every split of a batch with every drop set, split by split."""
    splits, sets = len(batch.splits), len(drops.periods)
    return Batch(
        scenario=batch.scenario,
        plan=batch.plan,
        splits=batch.splits,
        split_of=np.repeat(np.arange(splits), sets),
        drops=DropSets(
            masks=np.tile(drops.masks, (splits, 1)), periods=np.tile(drops.periods, splits)
        ),
    )
