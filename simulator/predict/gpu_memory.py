"""Does it fit: weights, KV cache and activations of one GPU."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from isotune.simulator.architecture import check_tp
from isotune.simulator.errors import DoesNotFitError, InputError
from isotune.simulator.kernels import Array, Size
from isotune.simulator.number_types import bytes_of
from isotune.simulator.predict.scenario import Scenario
from isotune.simulator.schedule import Plan, Program, expand


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


def memory(scenario: Scenario, program: Program, tp: int | None = None) -> Memory:
    """Per-GPU memory of a program, optionally as if sharded over another `tp`.

    Embedding and LM head are sharded over the vocabulary and stay in the activation dtype.
    Activations: the residual stream of every chunk in flight (residual, block input, partial
    sum) and the widest intermediate of the largest chunk.
    """
    workload = scenario.workload
    weights, kv_cache, activations = gpu_bytes(
        scenario,
        workload.tp if tp is None else tp,
        batch=workload.batch,
        tokens=workload.batch * (workload.context + workload.tokens),
        rows=sum(chunk.rows for chunk in program.chunks),
        largest=max(
            step.chunk.rows
            for step in program.steps
            if step.block < scenario.model.num_hidden_layers
        ),
    )
    return Memory(
        weights=float(weights),
        kv_cache=float(kv_cache),
        activations=float(activations),
        reserved=scenario.hardware.runtime.memory_reserved,
        capacity=scenario.hardware.gpu.memory,
    )


def gpu_bytes(
    scenario: Scenario, tp: int, *, batch: Size, tokens: Size, rows: Size, largest: Size
) -> tuple[float, Array, Array]:
    """Bytes of weights, KV cache and activations per GPU; sizes may be arrays of one shape.

    `tokens` are held in the cache, `rows` are in flight, `largest` of them in one chunk.
    """
    model, workload = scenario.model, scenario.workload
    width = workload.width
    blocks = model.num_hidden_layers * model.block_weight_elements(tp)
    rest = model.embedding_weight_elements(tp)
    ffn = model.intermediate_size / tp * (3 if model.gated_mlp else 2) * model.num_experts_per_token
    heads = 2 * model.heads_per_gpu(tp) * model.head_dim + model.kv_elements_per_token(tp)
    weights = blocks * bytes_of(workload.weight_dtype) + rest * width
    kv_elements = model.num_hidden_layers * model.kv_elements_per_token(tp)
    kv_cache = np.asarray(tokens * (kv_elements * width), dtype=np.float64)
    in_flight = (3 * rows * model.hidden_size + largest * max(ffn, heads)) * width
    logits = batch * (model.vocab_size / tp * 4.0)
    return weights, kv_cache, np.asarray(in_flight + logits, dtype=np.float64)


def fitting(scenario: Scenario, largest: Size) -> npt.NDArray[np.bool_]:
    """Which passes of a workload fit whose largest chunk has this many tokens of each request."""
    work = scenario.workload
    parts = gpu_bytes(
        scenario,
        work.tp,
        batch=work.batch,
        tokens=work.batch * (work.context + work.tokens),
        rows=work.batch * work.tokens,
        largest=work.batch * largest,
    )
    needed = sum(parts) + scenario.hardware.runtime.memory_reserved
    return np.asarray(needed <= scenario.hardware.gpu.memory)


def memory_of(scenario: Scenario, plan: Plan) -> Memory:
    """The memory of a plan, whether it fits or not."""
    return memory(scenario, expand(scenario.model, scenario.workload, plan))


def check_memory(scenario: Scenario, plan: Plan) -> Memory:
    """The memory of a plan that fits.

    Raises:
        DoesNotFitError: says how much is needed, how much there is, and the smallest tp
            of this node that fits.
    """
    program = expand(scenario.model, scenario.workload, plan)
    here = memory(scenario, program)
    if here.fits:
        return here
    raise DoesNotFitError(
        f"{scenario.model.name} ({scenario.workload.weight_dtype} weights) does not fit in memory: "
        f"each of {scenario.workload.tp} GPUs needs {here.needed / 1e9:.1f} GB (weights "
        f"{here.weights / 1e9:.1f}, KV cache {here.kv_cache / 1e9:.1f}, activations "
        f"{here.activations / 1e9:.1f}, reserved {here.reserved / 1e9:.1f}) and has "
        f"{here.capacity / 1e9:.1f} GB; {_way_out(scenario, program)}"
    )


def _way_out(scenario: Scenario, program: Program) -> str:
    for tp in range(scenario.workload.tp + 1, scenario.model.num_attention_heads + 1):
        try:
            check_tp(scenario.model, tp)
        except InputError:
            continue
        other = memory(scenario, program, tp)
        if other.fits:
            gpus = scenario.hardware.max_ranks
            beyond = f", more than the {gpus} GPUs of {scenario.hardware.name}" if tp > gpus else ""
            return f"the smallest tp that fits is {tp}{beyond}"
    return "no tp fits; use a shorter prompt, a smaller batch or a narrower --weight-dtype"
