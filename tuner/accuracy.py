"""What dropping an attention sync costs in accuracy, and the drop sets that budget allows.

Sensitivities are differences of perplexity per block (SPD, arXiv 2502.20727), here as a share
of the un-dropped model's perplexity; that they add up is an assumption.
"""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from simulator.errors import InputError
from simulator.files import read_json, validate
from simulator.model import Model
from simulator.schema import Schema

ASSUMED_SHARE = 0.7
"""Share of blocks shown as dropped where no sensitivity is at hand; the paper's total saving of
about 20 % on LLaMA2-70B at under 1 % accuracy loss belongs to 70-90 % of blocks."""


_Cost = Annotated[float, Field(strict=True)]


class Sensitivity(Schema):
    """`sensitivity.json`: what each block's dropped attention sync costs.

    `blocks[i]` is the relative growth of perplexity when block i's attention sync is dropped
    (0.001 = 0.1 %); it may be negative. `transfer` gives the same for a quantised all-reduce.
    """

    model: str = Field(min_length=1)
    blocks: tuple[_Cost, ...] = Field(min_length=1)
    transfer: dict[str, _Cost] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _known_transfers(self) -> Self:
        unknown = set(self.transfer) - {"int8", "fp8"}
        if unknown:
            raise ValueError(f"transfer: unknown type {min(unknown)!r} (allowed: int8, fp8)")
        return self

    def order(self) -> tuple[int, ...]:
        """Blocks from the least to the most sensitive."""
        return tuple(sorted(range(len(self.blocks)), key=lambda block: (self.blocks[block], block)))

    def cost(self, dropped: tuple[int, ...]) -> float:
        """Predicted relative growth of perplexity of a drop set."""
        return sum(self.blocks[block] for block in dropped)

    def affordable(self, budget: float) -> int:
        """How many blocks, least sensitive first, cost at most `budget` together.

        Every block saves the same sync, so taking the cheapest first is the optimal knapsack.
        """
        costs = [self.cost(self.order()[:count]) for count in range(len(self.blocks) + 1)]
        return max(count for count, cost in enumerate(costs) if count == 0 or cost <= budget)


def read_sensitivity(path: Path, model: Model) -> Sensitivity:
    """The sensitivities of a model's blocks.

    Raises:
        InputError: unreadable or malformed file, or one for another model.
    """
    table = validate(Sensitivity, read_json(path), path)
    measured, wanted = (name.lower().removesuffix("-hf") for name in (table.model, model.name))
    if measured != wanted:
        raise InputError(f"{path}: model: measured on {table.model!r}, not on {model.name!r}")
    if len(table.blocks) != model.num_hidden_layers:
        raise InputError(
            f"{path}: blocks: {len(table.blocks)} sensitivities, but {model.name} has "
            f"{model.num_hidden_layers} blocks"
        )
    return table


def assumed_order(blocks: int) -> tuple[int, ...]:
    """Order in which blocks are dropped where nothing is known: from the last to the first,
    the order of the paper's scan."""
    return tuple(reversed(range(blocks)))
