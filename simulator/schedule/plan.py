"""The plan: how one forward pass is cut, overlapped and thinned of its all-reduces."""

from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator

from isotune.simulator.architecture import Model
from isotune.simulator.errors import InputError
from isotune.simulator.io import CommDtype, Schema
from isotune.simulator.schedule.workload import Workload

Strategy = Literal["serial", "gemm_overlap", "request_overlap", "iso"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
_Count = Annotated[int, Field(gt=0, strict=True)]
MAX_CHUNKS = 256
"""More would have a name for every tile; no schedule gains from so many."""


class Plan(Schema):
    """What to run.

    `chunks` says how the work is cut, in the strategy's own unit: tokens of the prompt
    (`iso`), requests of the batch (`request_overlap`), or token tiles of the row-parallel
    GEMMs (`gemm_overlap`). They add up to the whole. `serial` has no chunks.
    """

    strategy: Strategy = "serial"
    chunks: tuple[_Count, ...] = Field(default=(), max_length=MAX_CHUNKS)
    comm_dtype: CommDtype = Field(default="bf16", description="what an all-reduce sends")
    comm_sms: _Count | None = Field(
        default=None, description="SMs the collective may hold; the library's choice if absent"
    )
    dropped: tuple[Annotated[int, Field(strict=True)], ...] = Field(
        default=(), description="drop set: blocks whose attention sync is dropped (SPD), sorted"
    )

    @field_validator("dropped")
    @classmethod
    def _sorted_once(cls, dropped: tuple[int, ...]) -> tuple[int, ...]:
        if list(dropped) != sorted(set(dropped)):
            raise ValueError("blocks must be in ascending order, each named once")
        return dropped

    @property
    def lossy(self) -> bool:
        """Whether the plan changes the model's numbers (SPD or a quantised transfer)."""
        return bool(self.dropped) or self.comm_dtype != "bf16"

    @property
    def overlaps(self) -> bool:
        """Whether the blocks are run otherwise than serially."""
        return self.strategy != "serial"


def check_plan(plan: Plan, model: Model, workload: Workload) -> None:
    """Refuse a plan that cannot run this workload on this model.

    Raises:
        InputError: chunks that do not add up or are not wanted, or blocks the model lacks.
    """
    blocks = model.num_hidden_layers
    if plan.dropped and not (plan.dropped[0] >= 0 and plan.dropped[-1] < blocks):
        raise InputError(
            f"plan: dropped: {model.name} has blocks 0 to {blocks - 1}, not "
            f"{plan.dropped[0] if plan.dropped[0] < 0 else plan.dropped[-1]}"
        )
    if plan.comm_sms is not None and not plan.overlaps:
        raise InputError(
            "plan: comm_sms: a serial plan has nothing to share SMs with (allowed: null)"
        )
    _check_chunks(plan, workload)


def _check_chunks(plan: Plan, workload: Workload) -> None:
    chunks = plan.chunks
    if plan.strategy == "serial":
        if chunks:
            raise InputError("plan: chunks: a serial plan has none (allowed: [])")
        return
    whole = chunked_total(plan.strategy, workload)
    if not chunks or sum(chunks) != whole:
        raise InputError(
            f"plan: chunks: {list(chunks)} add up to {sum(chunks)}; {plan.strategy} "
            f"needs chunks that add up to {whole} ({_UNITS[plan.strategy]})"
        )


_UNITS = {
    "iso": "tokens of a request",
    "request_overlap": "requests of the batch",
    "gemm_overlap": "tokens of the batch",
}


def chunked_total(strategy: Strategy, workload: Workload) -> int:
    """What a strategy's chunks add up to, in its own unit (see `Plan`)."""
    if strategy == "request_overlap":
        return workload.batch
    return workload.tokens if strategy == "iso" else workload.batch * workload.tokens
