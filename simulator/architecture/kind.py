"""A kind of decoder block: its sublayers, and where its norms stand."""

from dataclasses import dataclass
from typing import Literal

from isotune.simulator.architecture.attention import GroupedQuery
from isotune.simulator.architecture.block import (
    Block,
    Collective,
    CollectiveKind,
    Norm,
    Op,
    PartialAdd,
    PostNorm,
    Segment,
)
from isotune.simulator.architecture.mlp import Mixture
from isotune.simulator.architecture.parallelism import Parallelism, Ranks
from isotune.simulator.architecture.parts import NORM_VECTORS, NormKind, Part

NormPlaces = Literal["pre", "post", "sandwich"]
"""Norms before every sublayer, after it (before the residual add), or both."""
Parallel = Literal["no", "one_norm", "two_norms"]
"""Whether attention and MLP read the same hidden state, and the norms before them."""


@dataclass(frozen=True, kw_only=True)
class BlockKind:
    """What a decoder block does, in sizes of the whole model; a block may lack a sublayer."""

    attention: Part | None
    mlp: Part | None
    norm: NormKind = "rms_norm"
    norms: NormPlaces = "pre"
    parallel: Parallel = "no"

    @property
    def parts(self) -> tuple[Part, ...]:
        """Its sublayers, in order."""
        return tuple(part for _, part in self._named)

    @property
    def _named(self) -> tuple[tuple[str, Part], ...]:
        named = ("attention", self.attention), ("mlp", self.mlp)
        return tuple((name, part) for name, part in named if part is not None)

    @property
    def text(self) -> str:
        """Its sublayers in a few words, for people."""
        sides = " beside " if self.parallel != "no" else "; "
        return sides.join(part.text for part in self.parts)

    def block(self, hidden: int, tp: Ranks) -> Block:
        """The block of one rank."""
        how = Parallelism.of(tp)
        if self.parallel != "no":
            return self._side_by_side(hidden, how)
        return Block(
            tuple(
                segment
                for name, part in self._named
                for segment in self._segments(name, part, hidden, how)
            )
        )

    def _segments(
        self, name: str, part: Part, hidden: int, how: Parallelism
    ) -> tuple[Segment, ...]:
        """A sublayer with its norms, up to the collectives that its rows need."""
        norms = self._norms(name, hidden)
        if isinstance(part, Mixture) and how.dispatches:
            return part.dispatched(hidden, how, norms)
        # The rows of a sum go to the rank that sends them on where tokens travel to their experts.
        travel = how.dispatches and part is self.attention and isinstance(self.mlp, Mixture)
        total = _sum(name, hidden, "reduce_scatter" if travel else "all_reduce")
        if isinstance(part, GroupedQuery) and how.cp > 1:
            return part.gathered(hidden, how, norms, total)
        return (Segment(sublayers=((*norms, *_ops(part, hidden, how)),), collective=total),)

    @property
    def sums_once(self) -> bool:
        """Whether attention and experts share one sum, so that no rows travel between them."""
        return self.parallel != "no" and isinstance(self.mlp, Mixture)

    @property
    def shares_prompts(self) -> bool:
        """Whether ranks can share a prompt: they gather keys and values that all heads see."""
        one = self.attention
        attends = one is None or (isinstance(one, GroupedQuery) and not one.chunked)
        return attends and self.parallel == "no"

    def obstacle(self, how: Parallelism) -> str:
        """Why its ranks cannot share it so; empty where they can."""
        shares = (
            part.obstacle(how) if isinstance(part, Mixture) else part.obstacle(how.tp)
            for part in self.parts
        )
        return next(filter(None, shares), "")

    def widest(self, how: Parallelism) -> float:
        """Elements per row of the widest intermediates, on one rank."""
        return max(
            part.widest(how) if isinstance(part, Mixture) else part.widest(how.tp)
            for part in self.parts
        )

    def _side_by_side(self, hidden: int, how: Parallelism) -> Block:
        """Attention and MLP, whose partial sums are added before one all-reduce."""
        (_, attention), (_, mlp) = self._named
        *ops, down = _ops(mlp, hidden, how)
        add = PartialAdd(name="partial_add", sublayer="mlp", elements=3 * hidden)
        second = self._norms("mlp", hidden) if self.parallel == "two_norms" else ()
        before = (*self._norms("attention", hidden), *_ops(attention, hidden, how))
        return Block(
            (
                Segment(
                    sublayers=(before, (*second, *ops, add, down)),
                    collective=_sum("mlp", hidden),
                ),
            )
        )

    def _norms(self, sublayer: str, hidden: int) -> tuple[Op, ...]:
        """The norms at the start of a sublayer.

        One kernel adds the residual and norms the sum: it reads and writes two streams, the
        partial sums' total and the residual. A norm after a sublayer ("post") costs as much: it
        stands at the start of the next one, and the last of a model in its first block. Where both
        stand ("sandwich"), the norm of what the sublayer before has completed is a kernel of its
        own.
        """
        weights = NORM_VECTORS[self.norm] * hidden
        kind = PostNorm if self.norms == "post" else Norm
        norm = kind(
            name=f"{sublayer}_norm", sublayer=sublayer, elements=4 * hidden, parameters=weights
        )
        if self.norms != "sandwich":
            return (norm,)
        after = PostNorm(
            name=f"{sublayer}_post_norm",
            sublayer=sublayer,
            elements=2 * hidden,
            parameters=weights,
        )
        return after, norm


def _ops(part: Part, hidden: int, how: Parallelism) -> tuple[Op, ...]:
    """What a rank that has all tokens runs of a sublayer."""
    return part.ops(hidden, how) if isinstance(part, Mixture) else part.ops(hidden, how.tp)


def _sum(sublayer: str, hidden: int, kind: CollectiveKind = "all_reduce") -> Collective:
    """What completes the partial sums of a sublayer: for every rank, or for its share of rows."""
    return Collective(name=f"{sublayer}_{kind}", sublayer=sublayer, kind=kind, elements=hidden)
