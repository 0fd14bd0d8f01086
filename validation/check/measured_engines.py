"""Engines that are not serving engines: what their passes do differently, priced.

The logs of the ladder-residual benchmark (gpt-fast, CUDA graphs; its sources are public) come
from an engine that writes attention scores to memory, keeps the LM head whole on every GPU, and
computes the logits of all prompt positions. Those shapes are read from its code; how often the
scores and the cache cross memory, and how many small kernels it runs beside the model's, is
fitted to its runs without communication on H100, 1 to 8 GPUs.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from isotune.simulator.architecture import Attend, LmHead, Op
from isotune.simulator.kernels import Cost
from isotune.simulator.predict import CostModel, Rows
from isotune.validation.tables import Run


@dataclass(frozen=True, kw_only=True)
class Engine:
    """How a benchmark's engine runs a pass.

    `score_passes`: times the 16-bit attention scores, over the whole allocated cache, cross
    device memory in prefill. `cache_passes`: times the allocated KV cache does in decode.
    `small_kernels`: launches per block and pass beyond the model's, in prefill and in decode.
    """

    name: str
    score_passes: float
    cache_passes: float
    small_kernels: tuple[float, float]


LADDER_STATES: dict[int, Engine] = {
    512: Engine(
        name="ladder-residual", score_passes=21.8, cache_passes=3.0, small_kernels=(17.8, 3.0)
    ),
    256: Engine(
        name="ladder-residual, second state",
        score_passes=11.5,
        cache_passes=17.3,
        small_kernels=(19.2, 26.0),
    ),
    32: Engine(
        name="ladder-residual, first state",
        score_passes=7.3,
        cache_passes=3.3,
        small_kernels=(19.7, 14.3),
    ),
}
"""States of the benchmark's code, told apart by how many tokens its runs generated."""

_PUBLISHED = 512


def engine_of(run: Run, states: Mapping[int, Engine] = LADDER_STATES) -> Engine | None:
    """The engine that made a run; None for a serving engine, which the profiles describe."""
    if not run.source.startswith("ladder"):
        return None
    return states.get(run.generated or _PUBLISHED, states[_PUBLISHED])


@dataclass(frozen=True)
class EngineCostModel(CostModel):
    """Costs of steps as an engine runs them."""

    engine: Engine | None = None
    cache: int = 0
    """Tokens per request that the KV cache is allocated for."""

    def kernels(self, op: Op, shape: Rows) -> list[Cost]:
        """See `CostModel.kernels`."""
        if self.engine is None:
            return super().kernels(op, shape)
        model, workload = self.scenario.model, self.scenario.workload
        if isinstance(op, LmHead):
            rows = np.multiply(shape.requests, workload.tokens)
            operands = self.scenario.operands(op)
            return [self.gemm(rows, model.vocab_size, model.hidden_size, operands)]
        if isinstance(op, Attend):
            return [
                self._unfused_attention(op, shape, self.engine),
                self._small_kernels(self.engine),
            ]
        return super().kernels(op, shape)

    def _unfused_attention(self, op: Attend, shape: Rows, engine: Engine) -> Cost:
        """Bandwidth-bound: scores (prefill) or cache (decode) cross memory several times."""
        width = self.scenario.workload.width
        if self.scenario.workload.phase == "prefill":
            scores = op.heads * self.cache * width
            return self.memory_kernel(shape.rows, engine.score_passes * scores)
        cache = op.cache_elements * self.cache * width
        return self.memory_kernel(shape.rows, engine.cache_passes * cache)

    def _small_kernels(self, engine: Engine) -> Cost:
        runtime = self.scenario.hardware.runtime
        each = self.memory_kernel(1, 0.0)
        count = engine.small_kernels[self.scenario.workload.phase == "decode"]
        # The graph hides the overlap of each; `_sustained` will take it off once.
        seconds = count * (each.seconds - runtime.graph_overlap) + runtime.graph_overlap
        return each._replace(seconds=seconds)
