"""MLPs: dense, and mixtures of experts."""

from dataclasses import dataclass
from typing import ClassVar

from isotune.simulator.architecture.block import (
    Activation,
    ColumnParallel,
    Experts,
    Op,
    RowParallel,
)
from isotune.simulator.architecture.parts import indivisible


@dataclass(frozen=True, kw_only=True)
class Dense:
    """up, nonlinearity (times a gate), down; `columns` is the intermediate size."""

    columns: int
    gated: bool = True
    bias: bool = False
    heads: ClassVar[int] = 0

    def ops(self, hidden: int, tp: int) -> tuple[Op, ...]:
        """What a rank does with its share of the columns."""
        columns, projections = self.columns // tp, 2 if self.gated else 1
        up = projections * columns
        return (
            ColumnParallel(
                name="mlp_up",
                sublayer="mlp",
                n=up,
                k=hidden,
                parameters=up * (hidden + self.bias),
            ),
            Activation(name="activation", sublayer="mlp", elements=(projections + 1) * columns),
            RowParallel(
                name="mlp_down",
                sublayer="mlp",
                n=hidden,
                k=columns,
                parameters=hidden * (columns + self.bias),
            ),
        )

    def obstacle(self, tp: int) -> str:
        """The columns are shared."""
        return indivisible(self.columns, "intermediate_size", tp)

    def widest(self, tp: int) -> float:
        """Both projections and their product."""
        return self.columns / tp * (3 if self.gated else 2)

    @property
    def text(self) -> str:
        """In a few words, for people."""
        return f"MLP {self.columns}"


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """`per_token` of `experts` MLPs work on a row, chosen by a router; all of them are sharded.

    `columns` is the intermediate size of one expert.
    """

    experts: int
    per_token: int
    columns: int
    gated: bool = True
    bias: bool = False
    heads: ClassVar[int] = 0

    def ops(self, hidden: int, tp: int) -> tuple[Op, ...]:
        """What a rank does with its share of the columns of every expert."""
        count, per_token, columns = self.experts, self.per_token, self.columns // tp
        projections = 2 if self.gated else 1
        up = projections * columns
        return (
            ColumnParallel(
                name="mlp_up",
                sublayer="mlp",
                n=up,
                k=hidden,
                experts=Experts(count=count, per_token=per_token, routes=True),
                parameters=count * up * (hidden + self.bias) + hidden * count,
            ),
            Activation(
                name="activation", sublayer="mlp", elements=per_token * (projections + 1) * columns
            ),
            RowParallel(
                name="mlp_down",
                sublayer="mlp",
                n=hidden,
                k=columns,
                experts=Experts(count=count, per_token=per_token),
                parameters=count * hidden * (columns + self.bias),
            ),
        )

    def obstacle(self, tp: int) -> str:
        """The columns of every expert are shared."""
        return indivisible(self.columns, "intermediate_size", tp)

    def widest(self, tp: int) -> float:
        """Both projections and their product, of the experts that a row visits."""
        return self.columns / tp * (3 if self.gated else 2) * self.per_token

    @property
    def text(self) -> str:
        """In a few words, for people."""
        return f"{self.per_token} of {self.experts} experts {self.columns}"
