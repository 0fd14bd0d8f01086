"""What dropping an attention all-reduce costs in accuracy, and the drop sets that budget allows.

Sensitivities are differences of perplexity per block (SPD, arXiv 2502.20727), here as a share
of the un-dropped model's perplexity; that they add up is an assumption.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from isotune.simulator.architecture import Model, Ranks
from isotune.simulator.errors import InputError
from isotune.simulator.io import Schema, read_json, validate
from isotune.simulator.number_types import COMM_DTYPES, number_type
from isotune.simulator.schedule import steps_of
from isotune.tuner.accuracy.budget import DropCosts
from isotune.tuner.accuracy.classes import SensitivityClass

ASSUMED_SHARE = 0.7
"""Share of blocks shown as dropped where no sensitivity is at hand; the paper's total saving of
about 20 % on LLaMA2-70B at under 1 % accuracy loss belongs to 70-90 % of blocks."""


_Cost = Annotated[float, Field(strict=True)]


class Measured(Schema):
    """How `isotune sensitivity` measured: the text, and the perplexities of both scans.

    `single[i]` is the perplexity with block i alone dropped, `cumulative[i]` with block i and
    all after it; `perplexity` is the un-dropped model's. `scan` is the one that `blocks` is of.
    """

    tp: int = Field(gt=0)
    scan: Literal["single", "cumulative"]
    perplexity: float = Field(gt=0)
    single: tuple[float, ...]
    cumulative: tuple[float, ...]
    text: str = Field(description="SHA-256 of the texts and the tokenizer")
    tokens: int = Field(gt=0, description="tokens scored")
    context: int
    stride: int
    windows: int
    seed: int
    dtype: str


class Check(Schema):
    """A drop set that was measured: the recovery of each of its blocks, and the relative growth of
    perplexity of all together."""

    treatments: dict[int, str] = Field(min_length=1)
    growth: _Cost


class Sensitivity(Schema):
    """`sensitivity.json`: what each block's dropped attention all-reduce costs.

    `blocks[i]` is the relative growth of perplexity when block i's attention all-reduce is dropped
    (0.001 = 0.1 %); it may be negative. `transfer` gives the same for a quantised all-reduce,
    `treatments` for the drop after recovery steps, named as in `bias+heads`. `classes` are the
    blocks' by `tau1` and `tau2`; `measured` tells how. `checks` are drop sets measured since.
    """

    model: str = Field(min_length=1)
    blocks: tuple[_Cost, ...] = Field(min_length=1)
    transfer: dict[str, _Cost] = Field(default_factory=dict)
    treatments: dict[str, tuple[_Cost, ...]] = Field(default_factory=dict)
    classes: tuple[SensitivityClass, ...] = ()
    tau1: float | None = None
    tau2: float | None = None
    measured: Measured | None = None
    checks: tuple[Check, ...] = ()

    @model_validator(mode="after")
    def _known_transfers(self) -> Self:
        lossy = [name for name in COMM_DTYPES if number_type(name).transfer]
        unknown = set(self.transfer) - set(lossy)
        if unknown:
            raise ValueError(
                f"transfer: unknown type {min(unknown)!r} (allowed: {', '.join(lossy)})"
            )
        return self

    @model_validator(mode="after")
    def _of_every_block(self) -> Self:
        rows: dict[str, tuple[object, ...]] = {
            f"treatments.{name}": costs for name, costs in self.treatments.items()
        }
        if self.classes:
            rows["classes"] = self.classes
        if self.measured:
            rows["measured.single"] = self.measured.single
            rows["measured.cumulative"] = self.measured.cumulative
        for name, row in rows.items():
            if len(row) != len(self.blocks):
                raise ValueError(f"{name}: {len(row)} values for {len(self.blocks)} blocks")
        for name in self.treatments:
            try:
                steps_of(name)
            except InputError as error:
                raise ValueError(f"treatments: {error}") from error
        return self

    def costs(self) -> DropCosts:
        """What drops cost as they are, without recovery."""
        return DropCosts(blocks=self.blocks, transfer=self.transfer)


def read_sensitivity(path: Path, model: Model, tps: Collection[int] = ()) -> Sensitivity:
    """The sensitivities of a model's blocks, to be used at these tensor-parallel sizes.

    Raises:
        InputError: unreadable or malformed file, or one for another model or tp: the more ranks,
            the less of the attention each sees without the sync.
    """
    table = validate(Sensitivity, read_json(path), path)
    measured_on, searched = (name.lower().removesuffix("-hf") for name in (table.model, model.name))
    if measured_on != searched:
        raise InputError(f"{path}: model: measured on {table.model!r}, not on {model.name!r}")
    if len(table.blocks) != model.num_hidden_layers:
        raise InputError(
            f"{path}: blocks: {len(table.blocks)} sensitivities, but {model.name} has "
            f"{model.num_hidden_layers} blocks"
        )
    known = table.measured.tp if table.measured else None
    other = [tp for tp in tps if known not in (None, tp)]
    if other:
        raise InputError(
            f"{path}: measured.tp: measured at tp {known}, not at tp {other[0]} (allowed: tp "
            f"{known}, or a table of isotune sensitivity --tp {other[0]})"
        )
    return table


def assumed_drops(model: Model, ranks: Ranks) -> tuple[int, ...]:
    """The drop set that is shown where nothing is known: the last `ASSUMED_SHARE` of the blocks.

    The paper's scan goes from the last block to the first. Only blocks count whose all-reduce can
    be dropped at all.
    """
    blocks = model.droppable(ranks)
    return blocks[len(blocks) - round(ASSUMED_SHARE * len(blocks)) :]
