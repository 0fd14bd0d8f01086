"""Parallelism: how GPUs share a model, and the groups of ranks that they form.

Ranks are numbered with tensor parallelism innermost, then context and data parallelism, as
engines place them: the ranks of a tensor-parallel group stand side by side in one node. Experts
are divided over all ranks, whatever these share otherwise.
"""

import re
from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

Axis = Literal["tp", "ep", "cp", "dp"]
"""What the ranks of a group share: matrices, experts, the tokens of a prompt, or requests."""
AXES: Final[tuple[Axis, ...]] = get_args(Axis)


_SIZE = rf"(?:{'|'.join(AXES)})[1-9][0-9]{{0,5}}"
_KEY = rf"{_SIZE}(?:_{_SIZE})*"


@dataclass(frozen=True, kw_only=True)
class Parallelism:
    """How many ranks share the matrices, the experts, the tokens of a prompt, and the requests.

    `tp` ranks hold a share of every matrix and the same tokens. `cp` such groups hold a part of
    every prompt's tokens each (context parallelism), and `dp` of these a part of the requests
    (attention data parallelism). With `ep` 1 the matrices of every expert are shared as all
    others; else whole experts are divided over all ranks.
    """

    tp: int = 1
    ep: int = 1
    cp: int = 1
    dp: int = 1

    @classmethod
    def of(cls, ranks: "Ranks") -> "Parallelism":
        """The parallelism itself, or tensor parallelism over so many ranks."""
        return ranks if isinstance(ranks, Parallelism) else cls(tp=ranks)

    @classmethod
    def read(cls, key: str) -> "Parallelism":
        """What `key` wrote.

        Raises:
            ValueError: it is none.
        """
        if not re.fullmatch(_KEY, key):
            raise ValueError(f"{key!r:.60} is no layout")
        return cls(**{part[:2]: int(part[2:]) for part in key.split("_")})

    @property
    def key(self) -> str:
        """One word for files and parameters: `tp2_dp4_ep8`."""
        sizes = (f"_{axis}{self.size(axis)}" for axis in (*AXES[2:], "ep") if self.size(axis) > 1)
        return f"tp{self.tp}{''.join(sizes)}"

    @property
    def gpus(self) -> int:
        """Ranks in all."""
        return self.tp * self.cp * self.dp

    def size(self, axis: Axis) -> int:
        """Ranks of a group that shares this."""
        return {"tp": self.tp, "ep": self.ep, "cp": self.cp, "dp": self.dp}[axis]

    def stride(self, axis: Axis) -> int:
        """Distance between neighbours of a group."""
        return {"tp": 1, "ep": 1, "cp": self.tp, "dp": self.tp * self.cp}[axis]

    def groups(self, axis: Axis) -> tuple[tuple[int, ...], ...]:
        """The ranks of each group that shares this; every rank is in one of them."""
        size, stride = self.size(axis), self.stride(axis)
        firsts = (rank for rank in range(self.gpus) if rank // stride % size == 0)
        return tuple(tuple(first + stride * at for at in range(size)) for first in firsts)

    @property
    def dispatches(self) -> bool:
        """Whether tokens travel to the ranks that hold their experts.

        They need not where every rank has all tokens.
        """
        return self.ep > 1 and self.cp * self.dp > 1

    @property
    def communicates(self) -> bool:
        """Whether its ranks have anything to send each other in a pass."""
        return self.tp > 1 or self.cp > 1 or self.dispatches

    @property
    def contradiction(self) -> str:
        """Why the sizes cannot be combined; empty where they can."""
        if self.ep not in (1, self.gpus):
            return (
                f"ep: {self.ep} of {self.gpus} ranks ({replace(self, ep=1).text}): experts are "
                f"divided over all ranks, as engines do (allowed: 1 or {self.gpus})"
            )
        return ""

    @property
    def text(self) -> str:
        """In a few words, for people: `tp 2 x dp 4, ep 8`."""
        groups = (f" x {axis} {self.size(axis)}" for axis in AXES[2:] if self.size(axis) > 1)
        return f"tp {self.tp}{''.join(groups)}" + f", ep {self.ep}" * (self.ep > 1)


Ranks = int | Parallelism
"""A parallelism, or the ranks of a tensor-parallel group that is all there is."""
