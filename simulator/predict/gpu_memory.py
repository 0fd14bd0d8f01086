"""Does it fit: weights, KV cache and activations of one GPU."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from isotune.simulator.architecture import Parallelism, check_tp, quantised_obstacle
from isotune.simulator.errors import DoesNotFitError, InputError
from isotune.simulator.kernels import Array, Size
from isotune.simulator.number_types import bytes_of
from isotune.simulator.predict.scenario import Scenario
from isotune.simulator.schedule import PassSizes, Plan, Strategy, added

Index = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes one GPU needs and has."""

    weights: float
    kv_cache: float
    activations: float
    reserved: float
    capacity: float

    @property
    def needed(self) -> float:
        """All of it together."""
        return self.weights + self.kv_cache + self.activations + self.reserved

    @property
    def fits(self) -> bool:
        """Whether it is no more than there is."""
        return self.needed <= self.capacity


@dataclass(frozen=True)
class GpuMemory:
    """What one GPU needs for the passes of a scenario: the one door to whether a plan fits.

    Activations are the residual stream of every chunk in flight (residual, block input, partial
    sum) and the widest intermediate of the largest chunk, so a plan's chunks decide, and no
    program is expanded. Embedding and LM head are sharded over the vocabulary; the embedding is
    in the activations' type, and so is the LM head unless the checkpoint quantises it.
    """

    scenario: Scenario

    @property
    def capacity(self) -> float:
        """Bytes of a GPU that the engine uses: all of them where it has no share of its own."""
        fraction = self.scenario.engine.memory_fraction
        return self.scenario.hardware.gpu.memory * (1.0 if fraction is None else fraction.value)

    def of(self, plan: Plan, ranks: Parallelism | None = None) -> Memory:
        """The memory of a plan, whether it fits or not, maybe as if shared by other ranks."""
        work = self.scenario.workload.share
        weights, kv_cache, activations = self._parts(plan.how, work, plan.chunks, ranks)
        return Memory(
            weights=weights,
            kv_cache=float(kv_cache),
            activations=float(activations),
            reserved=self.scenario.hardware.runtime.memory_reserved,
            capacity=self.capacity,
        )

    def needed(self, how: Strategy, work: PassSizes, sizes: Index) -> Array:
        """Bytes [splits] of passes of sizes `work`, split by the rows of `sizes`."""
        parts = self._parts(how, work, tuple(sizes.T))
        reserved = self.scenario.hardware.runtime.memory_reserved
        return np.broadcast_to(np.asarray(sum(parts) + reserved, np.float64), len(sizes))

    def fitting(self, how: Strategy, sizes: Index) -> npt.NDArray[np.bool_]:
        """Which splits [splits, chunks] of the scenario's own pass fit."""
        needed = self.needed(how, self.scenario.workload.share, sizes)
        return np.asarray(needed <= self.capacity)

    def check(self, plan: Plan) -> Memory:
        """The memory of a plan that fits.

        Raises:
            DoesNotFitError: says how much is needed, how much there is, and the smallest tp
                of this node that fits.
        """
        memory, scenario = self.of(plan), self.scenario
        if memory.fits:
            return memory
        raise DoesNotFitError(
            f"{scenario.model.name} ({scenario.workload.types}) does not fit in memory: "
            f"each of {scenario.workload.parallelism.gpus} GPUs needs {memory.needed / 1e9:.1f} GB "
            f"(weights {memory.weights / 1e9:.1f}, KV cache {memory.kv_cache / 1e9:.1f}, "
            f"activations {memory.activations / 1e9:.1f}, reserved {memory.reserved / 1e9:.1f}) "
            f"and has {memory.capacity / 1e9:.1f} GB{self._share()}; {self._way_out(plan)}"
        )

    def _parts(
        self,
        how: Strategy,
        work: PassSizes,
        sizes: Sequence[Size],
        ranks: Parallelism | None = None,
    ) -> tuple[float, Size, Size]:
        """Bytes of weights, KV cache and activations; sizes may be arrays of one shape."""
        model, workload = self.scenario.model, self.scenario.workload
        ranks, width = ranks or workload.parallelism, workload.width
        chunks = [chunk.rows for chunk in how.split(work, sizes)]
        # Ranks that share a prompt keep all its keys and values, but a part of its other rows.
        rows, largest = (
            -(-found // ranks.cp) for found in (sum(chunks), reduce(np.maximum, chunks))
        )
        weights, cached = self._weights(ranks), bytes_of(self.scenario.kv_dtype)
        kv_cache: Any = 0.0
        for reach, elements in model.kv_elements_by_reach(ranks).items():
            kv_cache = kv_cache + _cached(work, reach) * (elements * cached)
        kv_cache = kv_cache + work.batch * model.state_bytes(ranks)
        in_flight = (3 * rows * model.hidden_size + largest * model.widest(ranks)) * width
        logits = work.batch * (model.vocab_size / ranks.tp * 4.0)
        return weights, kv_cache, in_flight + logits

    def _weights(self, ranks: Parallelism) -> float:
        """Bytes of one rank's weights, each op's in its own type."""
        model, width = self.scenario.model, self.scenario.weight_bytes
        blocks = enumerate(model.blocks(ranks))
        ends = (*model.head(ranks.tp), *model.tail(ranks.tp))
        return sum(model.counts[kind] * sum(map(width, block.ops)) for kind, block in blocks) + sum(
            map(width, ends)
        )

    def _share(self) -> str:
        fraction = self.scenario.engine.memory_fraction
        if fraction is None:
            return ""
        return f", the {fraction.value:.0%} that {self.scenario.engine.title} uses by default"

    def _way_out(self, plan: Plan) -> str:
        scenario, now = self.scenario, self.scenario.workload.parallelism
        for tp in range(now.tp + 1, scenario.model.num_attention_heads + 1):
            ranks = replace(now, tp=tp, ep=tp * now.cp * now.dp if now.ep > 1 else 1)
            try:
                check_tp(scenario.model, ranks)
            except InputError:
                continue
            cut = quantised_obstacle(scenario.model, ranks, scenario.quantised)
            if not cut and self.of(plan, ranks).fits:
                gpus, name = scenario.hardware.max_ranks, scenario.hardware.name
                layout = "" if ranks.gpus == tp else f" ({ranks.text}: {ranks.gpus} GPUs)"
                beyond = f", more than the {gpus} GPUs of {name}" if ranks.gpus > gpus else ""
                return f"the smallest tp that fits is {tp}{layout}{beyond}"
        return "no tp fits; use a shorter prompt, a smaller batch or narrower weights (--quant)"


def _cached(work: PassSizes, reach: int | None) -> Size:
    """Tokens in the cache of a block that looks `reach` tokens back, at the end of a pass.

    Those that no later token sees are freed, but not before the pass that wrote them ends.
    """

    def kept(start: Size) -> Size:
        return start if reach is None else np.minimum(start, reach - 1)

    groups = work.groups
    tokens: Size = added(one.requests * (kept(one.start) + one.tokens) for one in groups)
    return tokens
