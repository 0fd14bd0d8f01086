"""A kind of decoder block: its sublayers, and where its norms stand."""

from dataclasses import dataclass
from typing import Literal

from isotune.simulator.architecture.block import (
    Block,
    Collective,
    Norm,
    Op,
    PartialAdd,
    PostNorm,
    Segment,
)
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

    def block(self, hidden: int, tp: int) -> Block:
        """The block of one of `tp` ranks."""
        if self.parallel != "no":
            return self._side_by_side(hidden, tp)
        return Block(
            tuple(
                Segment(
                    sublayers=((*self._norms(name, hidden), *part.ops(hidden, tp)),),
                    collective=_all_reduce(name, hidden),
                )
                for name, part in self._named
            )
        )

    def _side_by_side(self, hidden: int, tp: int) -> Block:
        """Attention and MLP, whose partial sums are added before one all-reduce."""
        (_, attention), (_, mlp) = self._named
        *ops, down = mlp.ops(hidden, tp)
        add = PartialAdd(name="partial_add", sublayer="mlp", elements=3 * hidden)
        second = self._norms("mlp", hidden) if self.parallel == "two_norms" else ()
        before = (*self._norms("attention", hidden), *attention.ops(hidden, tp))
        return Block(
            (
                Segment(
                    sublayers=(before, (*second, *ops, add, down)),
                    collective=_all_reduce("mlp", hidden),
                ),
            )
        )

    def _norms(self, sublayer: str, hidden: int) -> tuple[Op, ...]:
        """The norms at the start of a sublayer.

        One kernel adds the residual and norms the sum: it reads and writes two streams, the
        partial sums' total and the residual. A norm after a sublayer ("post") costs as much. Where
        both stand ("sandwich"), the norm of what the sublayer before has completed is a kernel of
        its own; the last one of a model stands in its first block.
        """
        weights = NORM_VECTORS[self.norm] * hidden
        norm = Norm(
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


def _all_reduce(sublayer: str, hidden: int) -> Collective:
    return Collective(name=f"{sublayer}_all_reduce", sublayer=sublayer, elements=hidden)
