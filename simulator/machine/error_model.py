"""How far off each operation class may be, as a profile states it."""

from pydantic import Field

from isotune.simulator.io import Schema


class Errors(Schema):
    """Relative standard error of each operation class, as it appears in a whole pass."""

    gemm: float = Field(ge=0, le=1, description="matrix products")
    attention: float = Field(ge=0, le=1, description="attention kernels")
    elementwise: float = Field(ge=0, le=1, description="kernels that only move bytes")
    collectives: float = Field(ge=0, le=1, description="all-reduces")
    runtime: float = Field(ge=0, le=1, description="what the engine and its clock add to compute")
    skew: float = Field(
        ge=0,
        le=1,
        description="what an engine adds to all-reduces: waits, launches, resting clocks",
    )
    contention: float = Field(
        ge=0, le=2, description="what compute and collectives take from each other"
    )


CLASSES: tuple[str, ...] = tuple(Errors.model_fields)
SECTION_OF = {name: name if name in CLASSES[:4] else "runtime" for name in CLASSES}
"""The section of a profile whose origin decides how far a class's error can be trusted."""
