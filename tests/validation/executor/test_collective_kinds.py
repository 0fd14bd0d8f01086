"""Every kind that the executor has gives what its definition says; a new one is tested by being
listed."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from isotune.simulator.kernels import KINDS
from isotune.validation.choices import COLLECTIVES
from isotune.validation.executor import collective_of
from isotune.validation.ranks import Rank, placements
from isotune.validation.ranks import run as run_ranks

SHAPES = ((6, 4), (5, 3), (1, 1))


def message_of(rank: int, shape: tuple[int, int]) -> torch.Tensor:
    torch.manual_seed(rank)
    return torch.randn(shape)


def parts(message: torch.Tensor, ranks: int) -> list[slice]:
    """Which elements of a message belong to each rank."""
    size = -(-message.numel() // ranks)
    return [slice(size * rank, size * (rank + 1)) for rank in range(ranks)]


def all_reduce(messages, _rank):
    return sum(messages).view(-1), slice(None)


def reduce_scatter(messages, rank):
    own = parts(messages[0], len(messages))[rank]
    return sum(messages).view(-1)[own], own


def all_gather(messages, _rank):
    held = zip(messages, parts(messages[0], len(messages)), strict=True)
    return torch.cat([message.view(-1)[part] for message, part in held]), slice(None)


REFERENCES = {
    "all_reduce": all_reduce,
    "reduce_scatter": reduce_scatter,
    "all_gather": all_gather,
}


@dataclass(frozen=True)
class Ended:
    """A rank, and what it ends with for each shape."""

    rank: int
    found: list[list[float]]


@dataclass(frozen=True)
class Run:
    """Runs kinds one after the other on each shape; every rank sends what it ends with."""

    messages: ClassVar = (Ended,)
    kinds: tuple[str, ...]

    def __call__(self, rank: Rank) -> None:
        found = []
        for shape in SHAPES:
            message = message_of(rank.index, shape)
            for kind in self.kinds:
                collective_of(kind, rank.ranks)(message)
            found.append(message.view(-1).tolist())
        rank.send(Ended(rank.index, found))


def run(kinds: tuple[str, ...], ranks: int) -> dict[int, list[list[float]]]:
    received: list[Ended] = []
    failure = run_ranks(
        Run(kinds),
        placements(ranks),
        device="cpu",
        timeout_s=60,
        on_message=lambda _, message: received.append(message),
    )
    assert failure is None, failure
    return {ended.rank: ended.found for ended in received}


@pytest.mark.parametrize("kind", COLLECTIVES)
def test_each_rank_ends_with_what_the_kind_defines(kind):
    ranks = 3
    for rank, found in run((kind,), ranks).items():
        for shape, values in zip(SHAPES, found, strict=True):
            messages = [message_of(other, shape) for other in range(ranks)]
            want, where = REFERENCES[kind](messages, rank)
            assert values[where] == pytest.approx(want.tolist(), rel=1e-6, abs=1e-6)


def test_a_reduce_scatter_and_an_all_gather_make_an_all_reduce():
    both, one = (run(kinds, 2) for kinds in (("reduce_scatter", "all_gather"), ("all_reduce",)))
    for rank, found in both.items():
        for values, want in zip(found, one[rank], strict=True):
            assert values == pytest.approx(want, rel=1e-6, abs=1e-6)


NOT_YET_RUN = {"all_to_all"}
"""Layouts whose rows travel are predicted; a real run of one is refused."""


def test_every_kind_with_a_cost_runs():
    assert set(COLLECTIVES) == set(KINDS) - NOT_YET_RUN
    for kind in NOT_YET_RUN:
        with pytest.raises(TypeError, match=f"the executor has no {kind}"):
            collective_of(kind, 2)


def test_a_kind_that_nothing_runs_is_refused_by_name():
    with pytest.raises(TypeError, match="send"):
        collective_of("send", 2)
