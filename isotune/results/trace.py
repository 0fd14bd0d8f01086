"""What `isotune import trace` prints: a profiler's trace as a measured timeline."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from isotune.results._result import MOST, Part, Result, Seconds, Word
from isotune.results.prediction import Predicted
from isotune.results.timeline import Block, Step

if TYPE_CHECKING:
    from isotune.validation import traces

Name = Annotated[str, StringConstraints(max_length=300)]
_Within = Annotated[float, Field(ge=0, le=1e9)]
"""Seconds of what lies within a trace."""
_ROUNDING = 1e-6
_MOST_STEPS = 5_000
_MOST_KERNELS = 1_000


class Busy(Part):
    """Seconds of a pass or a block: in all, and in which compute and communication ran.

    `exposed_s` is communication without compute beside it, `idle_s` the time in which nothing ran.
    """

    name: Name
    latency_s: Seconds
    compute_s: _Within
    comm_s: _Within
    overlapped_s: _Within
    exposed_s: _Within
    idle_s: _Within

    @model_validator(mode="after")
    def _parts_lie_within(self) -> Self:
        most = self.latency_s * (1 + _ROUNDING)
        if max(self.compute_s, self.comm_s, self.exposed_s, self.idle_s) > most:
            raise ValueError("a part is longer than latency_s")
        if self.overlapped_s > self.comm_s * (1 + _ROUNDING):
            raise ValueError("overlapped_s is longer than comm_s")
        return self


class TracedKernel(Part):
    """All calls of a kernel in the pass that is shown."""

    name: Name
    op: Word
    seconds: _Within
    calls: int = Field(ge=1)


class Foreseen(Part):
    """What a prediction says of a pass, with its operations by class; seconds."""

    model: str
    hardware: str
    latency_s: _Within
    compute_s: _Within
    comm_s: _Within
    exposed_comm_s: _Within
    classes: dict[Word, _Within]

    @classmethod
    def of(cls, found: Predicted) -> Self:
        """A prediction, its compute operations added up by section of the profile."""
        classes: dict[str, float] = {}
        for op, seconds in found.op_seconds.items():
            section = found.op_sections[op].split(".")[0]
            classes[section] = classes.get(section, 0.0) + seconds
        classes.pop("collectives", None)
        return cls.like(found, classes=classes)


class Traced(Result):
    """A trace of one rank: its passes, and the one of median latency in detail.

    `blocks` are the shown pass's, and `per_block` the collectives of each; None where nothing
    repeats between the collectives. `classes` are its operations' seconds by class, `kernels` what
    ran in it; those with the op `unknown` are named by no entry of the table and count as compute.
    """

    kind: Literal["trace"] = "trace"
    file: str
    device: str
    rank: int | None = None
    ranks: int | None = None
    passes: tuple[Busy, ...] = Field(min_length=1, max_length=MOST)
    shown: int = Field(ge=0)
    blocks: tuple[Busy, ...] = Field(default=(), max_length=MOST)
    per_block: int | None = None
    classes: dict[Word, _Within]
    kernels: tuple[TracedKernel, ...] = Field(max_length=_MOST_KERNELS)
    kernels_left_out: int = 0
    predicted: Foreseen | None = None
    timelines: dict[Word, Block] = Field(default_factory=dict)
    table: str | None = None
    table_rows: int = 0
    table_left_out: int = 0

    @classmethod
    def of(
        cls,
        trace: "traces.Trace",
        passes: "Sequence[traces.TracedPass]",
        *,
        per_block: int | None = None,
        beside: Predicted | None = None,
        **more: Any,
    ) -> Self:
        """A trace and its passes; `beside` is a prediction of such a pass."""
        from isotune.validation.traces import blocks_of

        order = sorted(range(len(passes)), key=lambda index: passes[index].latency_s)
        shown = order[(len(order) - 1) // 2]
        one = passes[shown]
        blocks = blocks_of(one, per_block)
        kernels = one.kernels()
        compute = {work.op for work in one.work if work.stream == "compute"}
        classes: dict[str, float] = {}
        for kernel in kernels:
            if kernel.op in compute:
                classes[kernel.op] = classes.get(kernel.op, 0.0) + kernel.seconds
        timelines = _timelines(blocks)
        if beside is not None:
            ran = beside.complete().timelines
            timelines |= {"predicted": ran["plan"]} if "plan" in ran else {}
        return cls(
            device=trace.device,
            rank=trace.rank,
            ranks=trace.ranks,
            passes=tuple(map(Busy.like, passes)),
            shown=shown,
            blocks=tuple(Busy.like(block.part, latency_s=_length(block)) for block in blocks),
            per_block=blocks[0].collectives if blocks else None,
            classes=classes,
            kernels=tuple(map(TracedKernel.like, kernels[:_MOST_KERNELS])),
            kernels_left_out=max(0, len(kernels) - _MOST_KERNELS),
            predicted=None if beside is None else Foreseen.of(beside),
            timelines=timelines,
            **more,
        )

    @property
    def one(self) -> Busy:
        """The pass that is shown."""
        return self.passes[min(self.shown, len(self.passes) - 1)]

    @property
    def unknown(self) -> tuple[TracedKernel, ...]:
        """Kernels that no entry of the table names, those that took longest first."""
        return tuple(kernel for kernel in self.kernels if kernel.op == "unknown")

    def rows(self) -> list[dict[str, Any]]:
        """One row per pass."""
        return [one.model_dump() for one in self.passes]


def _length(block: "traces.TracedBlock") -> float:
    return block.span[1] - block.span[0]


def _timelines(blocks: "Sequence[traces.TracedBlock]") -> dict[str, Block]:
    """The block of median length, drawn."""
    if not blocks:
        return {}
    block = sorted(blocks, key=_length)[(len(blocks) - 1) // 2]
    begin = block.span[0]
    steps = tuple(
        Step(
            name=work.op,
            stream=work.stream,
            block=block.index,
            chunk=0,
            tile=None,
            start_s=work.event.start - begin,
            end_s=work.event.end - begin,
            alone_s=None,
        )
        for work in block.part.work[:_MOST_STEPS]
    )
    return {"measured": Block(block=block.index, duration_s=_length(block), steps=steps)}
