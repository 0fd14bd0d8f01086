"""A kind of decoder block: its sublayers, and where its norms stand."""

from dataclasses import dataclass
from typing import Literal

from isotune.simulator.architecture.block import Block, Collective, Norm, Op, PostNorm, Segment
from isotune.simulator.architecture.parts import NORM_VECTORS, NormKind, Part

NormPlaces = Literal["pre", "post", "sandwich"]
"""Norms before every sublayer, after it (before the residual add), or both."""


@dataclass(frozen=True, kw_only=True)
class BlockKind:
    """What a decoder block does, in sizes of the whole model."""

    attention: Part
    mlp: Part
    norm: NormKind = "rms_norm"
    norms: NormPlaces = "pre"

    @property
    def parts(self) -> tuple[Part, ...]:
        """Its sublayers, in order."""
        return self.attention, self.mlp

    @property
    def text(self) -> str:
        """Its sublayers in a few words, for people."""
        return "; ".join(part.text for part in self.parts)

    def block(self, hidden: int, tp: int) -> Block:
        """The block of one of `tp` ranks."""
        names = ("attention", "mlp")
        return Block(
            tuple(
                Segment(
                    sublayers=((*self._norms(name, hidden), *part.ops(hidden, tp)),),
                    collective=Collective(name=f"{name}_sync", sublayer=name, elements=hidden),
                )
                for name, part in zip(names, self.parts, strict=True)
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
