"""MLPs: dense, and mixtures of experts."""

from dataclasses import dataclass
from typing import ClassVar

from isotune.simulator.architecture.block import (
    Activation,
    ColumnParallel,
    Experts,
    ExpertSum,
    Op,
    Replicated,
    RowParallel,
)
from isotune.simulator.architecture.parts import indivisible

Modules = tuple[str, ...]
UP = (
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.gate_up_proj",
    "feed_forward.gate_proj",
    "feed_forward.up_proj",
    "mixer.up_proj",
    "fc1",
)
DOWN = ("mlp.down_proj", "feed_forward.down_proj", "mixer.down_proj", "fc2")
EXPERTS_UP = (
    "mlp.experts.0.gate_proj",
    "mlp.experts.0.up_proj",
    "mlp.experts.gate_up_proj",
    "feed_forward.experts.gate_up_proj",
    "mixer.experts.0.up_proj",
    "block_sparse_moe.experts.0.w1",
    "block_sparse_moe.experts.0.w3",
)
EXPERTS_DOWN = (
    "mlp.experts.0.down_proj",
    "mlp.experts.down_proj",
    "feed_forward.experts.down_proj",
    "mixer.experts.0.down_proj",
    "block_sparse_moe.experts.0.w2",
)
APART_UP = ("experts.gate_up_proj", "experts.0.gate_proj", "experts.0.up_proj")
APART_DOWN = ("experts.down_proj", "experts.0.down_proj")
_SHARED = (
    "mlp.shared_experts",
    "mlp.shared_expert",
    "feed_forward.shared_expert",
    "mixer.shared_experts",
    "block_sparse_moe.shared_experts",
)
SHARED_UP = tuple(f"{one}.{name}" for one in _SHARED for name in ("gate_proj", "up_proj"))
SHARED_DOWN = tuple(f"{one}.down_proj" for one in _SHARED)
LATENT = ("mixer.fc1_latent_proj", "mixer.fc2_latent_proj")
"""Modules of checkpoints that hold the projections, in every family's spelling."""


@dataclass(frozen=True, kw_only=True)
class Dense:
    """up, nonlinearity (times a gate), down; `columns` is the intermediate size."""

    columns: int
    gated: bool = True
    bias: bool = False
    heads: ClassVar[int] = 0

    def ops(self, hidden: int, tp: int) -> tuple[Op, ...]:
        """What a rank does with its share of the columns."""
        return self.named(hidden, tp, "mlp_up", "activation", "mlp_down")

    def named(
        self, hidden: int, tp: int, *names: str, up_of: Modules = UP, down_of: Modules = DOWN
    ) -> tuple[Op, ...]:
        """The ops under other names, and of other modules of a checkpoint."""
        columns, projections = self.columns // tp, 2 if self.gated else 1
        up = projections * columns
        return (
            ColumnParallel(
                name=names[0],
                sublayer="mlp",
                n=up,
                k=hidden,
                modules=up_of,
                joined=(columns,),
                parameters=up * (hidden + self.bias),
            ),
            Activation(name=names[1], sublayer="mlp", elements=(projections + 1) * columns),
            RowParallel(
                name=names[2],
                sublayer="mlp",
                n=hidden,
                k=columns,
                modules=down_of,
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

    `columns` is the intermediate size of one expert. A `shared` MLP works on every row beside
    them, maybe with a gate of its own. Experts work on a projection of the hidden state to
    `latent` elements where it is given. `router_vectors` are the vectors of one element per expert
    that the router has beside its matrix, `inner_vectors` those of the hidden size that norms and
    scales around the experts have. Experts that stand `apart` are no part of the checkpoint's
    `mlp` module, which is then the shared one.
    """

    experts: int
    per_token: int
    columns: int
    gated: bool = True
    bias: bool = False
    shared: Dense | None = None
    shared_gate: bool = False
    latent: int | None = None
    router_vectors: int = 0
    inner_vectors: int = 0
    apart: bool = False
    heads: ClassVar[int] = 0

    def ops(self, hidden: int, tp: int) -> tuple[Op, ...]:
        """What a rank does with its share of the columns of every expert."""
        count, per_token, columns = self.experts, self.per_token, self.columns // tp
        projections, width = 2 if self.gated else 1, self.latent or hidden
        up = projections * columns
        router = count * (hidden + self.router_vectors)
        first, last = self._latent(hidden)
        return (
            *self._shared(hidden, tp),
            *first,
            ColumnParallel(
                name="mlp_up",
                sublayer="mlp",
                n=up,
                k=width,
                modules=APART_UP if self.apart else EXPERTS_UP,
                joined=(columns,),
                experts=Experts(count=count, per_token=per_token, routes=True),
                parameters=count * up * (width + self.bias) + router,
            ),
            Activation(
                name="activation", sublayer="mlp", elements=per_token * (projections + 1) * columns
            ),
            *last,
            RowParallel(
                name="mlp_down",
                sublayer="mlp",
                n=width,
                k=columns,
                modules=APART_DOWN if self.apart else EXPERTS_DOWN,
                experts=Experts(count=count, per_token=per_token),
                parameters=count * width * (columns + self.bias),
            ),
        )

    def _shared(self, hidden: int, tp: int) -> tuple[Op, ...]:
        """What works on every row, and the sum of it and of the experts' results."""
        if self.shared is None:
            return ()
        vectors = hidden * (self.inner_vectors + self.shared_gate)
        return (
            *self.shared.named(
                hidden,
                tp,
                *("shared_up", "shared_activation", "shared_down"),
                up_of=UP if self.apart else SHARED_UP,
                down_of=DOWN if self.apart else SHARED_DOWN,
            ),
            ExpertSum(name="shared_sum", sublayer="mlp", elements=3 * hidden, parameters=vectors),
        )

    def _latent(self, hidden: int) -> tuple[tuple[Op, ...], tuple[Op, ...]]:
        """The projections of rows to the experts' width and back; every rank runs them whole."""
        if self.latent is None:
            return (), ()
        weights = hidden * self.latent
        down, up = (
            Replicated(name=name, sublayer="mlp", n=n, k=k, modules=LATENT, parameters=weights)
            for name, n, k in (
                ("experts_in", self.latent, hidden),
                ("experts_out", hidden, self.latent),
            )
        )
        return (down,), (up,)

    def obstacle(self, tp: int) -> str:
        """The columns of every expert are shared."""
        shared = self.shared.obstacle(tp) if self.shared else ""
        return indivisible(self.columns, "intermediate_size", tp) or shared

    def widest(self, tp: int) -> float:
        """Both projections and their product, of the experts that a row visits."""
        shared = self.shared.widest(tp) if self.shared else 0
        return max(self.columns / tp * (3 if self.gated else 2) * self.per_token, shared)

    @property
    def text(self) -> str:
        """In a few words, for people."""
        shared = f" + MLP {self.shared.columns}" if self.shared else ""
        return f"{self.per_token} of {self.experts} experts {self.columns}{shared}"
