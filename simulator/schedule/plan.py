"""The plan: how one forward pass is split and overlapped, and which all-reduces it drops."""

from typing import Annotated

from pydantic import Field, field_validator

from isotune.simulator.architecture import Model
from isotune.simulator.errors import InputError
from isotune.simulator.io import CommDtype, Schema
from isotune.simulator.number_types import loses
from isotune.simulator.schedule.strategies import STRATEGIES, Strategy, StrategyName
from isotune.simulator.schedule.workload import Workload

_Count = Annotated[int, Field(gt=0, strict=True)]
MAX_CHUNKS = 256
"""More would have a name for every tile; no schedule gains from so many."""


class Plan(Schema):
    """What to run.

    `chunks` says how the work is split, in the strategy's own unit: tokens of the prompt
    (`iso`), requests of the batch (`request_overlap`), or token tiles of the row-parallel
    GEMMs (`gemm_overlap`). They add up to all of it. `serial` has no chunks.
    """

    strategy: StrategyName = "serial"
    chunks: tuple[_Count, ...] = Field(default=(), max_length=MAX_CHUNKS)
    comm_dtype: CommDtype = Field(default="bf16", description="what an all-reduce sends")
    comm_sms: _Count | None = Field(
        default=None, description="SMs the collective may hold; the library's choice if absent"
    )
    dropped: tuple[Annotated[int, Field(strict=True)], ...] = Field(
        default=(),
        description="drop set: blocks without their attention all-reduce (SPD), sorted",
    )

    @field_validator("dropped")
    @classmethod
    def _sorted_once(cls, dropped: tuple[int, ...]) -> tuple[int, ...]:
        if list(dropped) != sorted(set(dropped)):
            raise ValueError("blocks must be in ascending order, each named once")
        return dropped

    @property
    def how(self) -> Strategy:
        """The strategy itself."""
        return STRATEGIES[self.strategy]

    @property
    def lossy(self) -> bool:
        """Whether the model's numbers change: by SPD, a quantised transfer, or the strategy."""
        return bool(self.changes)

    @property
    def changes(self) -> tuple[str, ...]:
        """What changes the model's numbers, in words; empty where nothing does."""
        dropped = len(self.dropped)
        said = f"{dropped} dropped all-reduce" + "s" * (dropped > 1) if dropped else ""
        transfer = f"{self.comm_dtype} transfer" if self.quantised else ""
        return tuple(filter(None, (said, transfer, self.how.caveat)))

    @property
    def quantised(self) -> bool:
        """Whether its all-reduces send a narrower type than the activations have."""
        return loses(self.comm_dtype)

    @property
    def overlaps(self) -> bool:
        """Whether all-reduces can run beside compute."""
        return self.how.overlaps

    @property
    def serial(self) -> bool:
        """Whether the blocks are run as in the baseline, but for dropped all-reduces."""
        return self.strategy == "serial"


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
    if plan.dropped and workload.tp > 1:
        alone = set(plan.dropped).difference(model.droppable(workload.parallelism))
        if alone:
            block = model.blocks(workload.parallelism)[model.pattern[min(alone)]]
            raise InputError(
                f"plan: dropped: block {min(alone)} of {model.name} {block.drop_obstacle}"
            )
    if (unsuited := plan.how.unsuited(model, workload.parallelism)) is not None:
        raise InputError(f"plan: strategy: {unsuited}")
    if plan.comm_sms is not None and not plan.overlaps:
        raise InputError(
            f"plan: comm_sms: a {plan.how.label} plan has nothing to share SMs with (allowed: null)"
        )
    if plan.quantised and not plan.how.quantised:
        raise InputError(
            f"plan: comm_dtype: the collectives of {plan.strategy} send bf16, not "
            f"{plan.comm_dtype} (allowed: bf16)"
        )
    if plan.quantised and not model.only_sums(workload.parallelism):
        raise InputError(
            f"plan: comm_dtype: only all-reduces can send {plan.comm_dtype}, and with "
            f"{workload.parallelism.text} blocks have other collectives too (allowed: bf16)"
        )
    if plan.dropped and not plan.how.drops:
        raise InputError(
            f"plan: dropped: {plan.strategy} drops no all-reduces of single blocks (allowed: [])"
        )
    _check_chunks(plan, workload)


def _check_chunks(plan: Plan, workload: Workload) -> None:
    chunks, how = plan.chunks, plan.how
    if (refusal := how.refusal(workload)) is not None:
        raise InputError(f"plan: strategy: {refusal}")
    if not how.chunked:
        if chunks:
            raise InputError(f"plan: chunks: a {how.label} plan has none (allowed: [])")
        return
    total, what = how.total(workload.share), how.adds_up_to(workload)
    if not chunks:
        raise InputError(
            f"plan: chunks: {plan.strategy} needs chunks that add up to {total} ({what}), "
            f"such as {total - total // 2},{total // 2}"
        )
    if sum(chunks) != total:
        raise InputError(
            f"plan: chunks: {list(chunks)} add up to {sum(chunks)}; {plan.strategy} "
            f"needs chunks that add up to {total} ({what})"
        )
