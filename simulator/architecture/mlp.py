"""MLPs: dense, and mixtures of experts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from isotune.simulator.architecture.block import (
    Activation,
    Collective,
    ColumnParallel,
    Experts,
    ExpertsActivation,
    ExpertSum,
    Op,
    Permute,
    Replicated,
    Router,
    RowParallel,
    Segment,
)
from isotune.simulator.architecture.parallelism import Parallelism, Ranks
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
    """`per_token` of `experts` MLPs work on a row, chosen by a router.

    All of them are sharded, or whole experts are divided over the ranks (expert parallelism).

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

    def ops(self, hidden: int, tp: Ranks) -> tuple[Op, ...]:
        """What a rank that has all tokens does with its share of the experts."""
        how = Parallelism.of(tp)
        up, activation, down = self._routed(hidden, how, routes=True)
        first, last = self._latent(hidden)
        return (*self._shared(hidden, how.tp), *first, up, activation, *last, down)

    def dispatched(
        self, hidden: int, how: Parallelism, before: Sequence[Op]
    ) -> tuple[Segment, ...]:
        """What a rank does whose tokens travel to the ranks of their experts, after `before`.

        A token travels once to each rank that has one of its experts, on average
        ep (1 - (1 - 1/ep)^per_token) of them if experts are chosen evenly, and its results come
        back summed (DeepEP). The ranks of a tensor-parallel group send a share of the rows each,
        and hold the shared expert whole.
        """
        ranks, width = how.ep, self.latent or hidden
        copies = ranks * (1.0 - (1.0 - 1.0 / ranks) ** self.per_token)
        elements = -(-round(copies * width) // how.tp)
        router = self.experts * (hidden + self.router_vectors)
        first, last = self._latent(hidden)
        scores = Router(name="router", sublayer="mlp", n=self.experts, k=hidden, parameters=router)
        permute = Permute(name="permute", sublayer="mlp", elements=4 * self.per_token * width)
        combined = round((copies + 1) * hidden)
        total = ExpertSum(name="expert_sum", sublayer="mlp", elements=combined)
        pieces = (
            ((*before, scores, *first), "dispatch"),
            ((permute, *self._routed(hidden, how, routes=False)), "combine"),
        )
        travelling = tuple(
            Segment(
                sublayers=(ops,),
                collective=Collective(
                    name=f"{name}_all_to_all",
                    sublayer="mlp",
                    kind="all_to_all",
                    elements=elements,
                    group="ep",
                ),
                sharded=True,
            )
            for ops, name in pieces
        )
        gather = Collective(
            name="mlp_all_gather", sublayer="mlp", kind="all_gather", elements=hidden
        )
        end = Segment(
            sublayers=((*self._shared(hidden, 1), total, *last),), collective=gather, sharded=True
        )
        return (*travelling, end)

    def _routed(
        self, hidden: int, how: Parallelism, *, routes: bool
    ) -> tuple[ColumnParallel, ExpertsActivation, RowParallel]:
        """The products of one rank's routed experts: of a share of the columns, or whole ones."""
        columns = self.columns // (how.tp if how.ep == 1 else 1)
        projections, width = 2 if self.gated else 1, self.latent or hidden
        gathered = how.ep if how.dispatches else 1
        experts = Experts(
            count=self.experts,
            per_token=self.per_token,
            matrices=projections + 1,
            routes=routes,
            ep=how.ep,
            gathered=gathered,
        )
        up, held = projections * columns, experts.held
        router = self.experts * (hidden + self.router_vectors) * routes
        activated = self.per_token * (projections + 1) * columns * gathered // how.ep
        return (
            ColumnParallel(
                name="mlp_up",
                sublayer="mlp",
                n=up,
                k=width,
                modules=APART_UP if self.apart else EXPERTS_UP,
                joined=(columns,),
                experts=experts,
                parameters=held * up * (width + self.bias) + router,
            ),
            ExpertsActivation(name="activation", sublayer="mlp", elements=activated),
            RowParallel(
                name="mlp_down",
                sublayer="mlp",
                n=width,
                k=columns,
                modules=APART_DOWN if self.apart else EXPERTS_DOWN,
                experts=replace(experts, routes=False),
                parameters=held * width * (columns + self.bias),
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

    def obstacle(self, tp: Ranks) -> str:
        """The columns of every expert are shared, or whole experts are divided."""
        how = Parallelism.of(tp)
        shared = self.shared.obstacle(how.tp) if self.shared and not how.dispatches else ""
        if how.ep > 1:
            return shared or indivisible(self.experts, "the number of experts", how.ep)
        return indivisible(self.columns, "intermediate_size", how.tp) or shared

    def widest(self, tp: Ranks) -> float:
        """Both projections and their product, of the experts that a row visits."""
        how = Parallelism.of(tp)
        shared = self.shared.widest(1 if how.dispatches else how.tp) if self.shared else 0
        share = how.tp if how.ep == 1 else 1 if how.dispatches else how.ep
        return max(self.columns / share * (3 if self.gated else 2) * self.per_token, shared)

    @property
    def text(self) -> str:
        """In a few words, for people."""
        shared = f" + MLP {self.shared.columns}" if self.shared else ""
        return f"{self.per_token} of {self.experts} experts {self.columns}{shared}"
