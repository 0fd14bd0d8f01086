"""What a sublayer is made of: sizes that say which ops a rank runs and what it holds."""

from typing import Literal, Protocol

from isotune.simulator.architecture.block import Op

NormKind = Literal["rms_norm", "layer_norm", "layer_norm_without_bias", "plain_layer_norm"]
NORM_VECTORS: dict[NormKind, int] = {
    "rms_norm": 1,
    "layer_norm": 2,
    "layer_norm_without_bias": 1,
    "plain_layer_norm": 0,
}
"""Vectors of weights that a norm has."""


class Part(Protocol):
    """A sublayer without its norm: attention or what stands in its place, or an MLP."""

    @property
    def heads(self) -> int:
        """Attention heads; 0 where it has none."""

    def ops(self, hidden: int, tp: int) -> tuple[Op, ...]:
        """What one of `tp` ranks runs; the last op is the product whose sums are completed."""

    def obstacle(self, tp: int) -> str:
        """Why it cannot be sharded over `tp` ranks; empty where it can."""

    def widest(self, tp: int) -> float:
        """Elements per row of the intermediates that are in memory at once."""

    @property
    def text(self) -> str:
        """In a few words, for people."""


def indivisible(size: int, name: str, tp: int) -> str:
    """Why `tp` ranks cannot share `size`; empty where they can."""
    return f"it does not divide {name} {size}" if size % tp else ""


def uneven(groups: int, name: str, tp: int) -> str:
    """Why `tp` ranks can neither share `groups` nor hold copies of them; empty where they can."""
    if groups % tp and tp % groups:
        return f"it neither divides {name} {groups} nor is a multiple of it"
    return ""
