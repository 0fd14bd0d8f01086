"""Assigns heads and MLP neurons to ranks so that a dropped all-reduce costs least.

Both choose assignments that minimise the squared error of the block's output on calibration
tokens; every assignment leaves the un-dropped block as it is.

Heads: with v[u,i] the change of rank i's MLP output when it does not see head unit u, the error
of an assignment r is, to first order, sum_u sum_{i != r(u)} v[u,i]: a quadratic form in the
assignment, descended by swaps. Neurons: with d[i,k] the change of neuron k's activation on
rank i and w_k its column of the down projection, the error is sum_k w_k d[r(k),k]: a convex
quadratic over the assignments' polytope, descended by Frank-Wolfe (each step a transport
problem, solved by exchanges) and rounded by one more.
"""

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isotune.validation.spd.model import Block
from isotune.validation.spd.recover.permute import HeadUnits
from isotune.validation.spd.recover.sample import Sample

_ELEMENTS = 2**27
"""Largest number of elements held at once for the effects of head units on ranks."""
_STEPS = 12
_Array = NDArray[np.float64]


def group_heads(block: Block, sample: Sample, units: HeadUnits, *, centred: bool) -> Tensor:
    """The rank of each head unit [units]; to first order no worse than as it stands.

    `centred`: a bias correction will supply the mean of what a rank does not see.
    """
    gram = _head_gram(block, sample, units, centred)
    start = units.now.numpy()
    found = _swapped(gram, start, units.allowed.numpy())
    return torch.from_numpy(found)


def _head_gram(block: Block, sample: Sample, units: HeadUnits, centred: bool) -> _Array:
    """Inner products [units, ranks, units, ranks] of the errors of putting a unit on a rank."""
    count, ranks, width = len(units.heads), block.tp, sample.x.shape[1]
    tokens = max(16, min(len(sample.x), _ELEMENTS // (count * ranks * width)))
    size = sample.mixed.shape[1] // sum(map(len, units.heads))
    x, mixed = sample.x[:tokens], sample.mixed[:tokens]
    weight = block.out.weight
    with torch.no_grad():
        entry = block.entry(x)
        whole = entry + mixed @ weight.T
        seen = torch.stack([block.mlp(whole, rank) for rank in range(ranks)])
        effects = []
        for heads in units.heads:
            columns = slice(heads[0] * size, (heads[-1] + 1) * size)
            values = mixed[:, columns] - (sample.mean[columns] if centred else 0.0)
            without = whole - values @ weight[:, columns].T
            lost = seen - torch.stack([block.mlp(without, rank) for rank in range(ranks)])
            effects.append(lost.sum(0) - lost)  # on a rank that sees it, nothing is lost
        rows = torch.stack(effects).flatten(0, 1).flatten(1).double()
        gram: _Array = (rows @ rows.T).cpu().numpy()
    return gram.reshape(count, ranks, count, ranks)


def _swapped(gram: _Array, rank: Any, allowed: Any) -> Any:
    """A local optimum of the assignment: no allowed swap of two units improves it."""
    rank, count = rank.copy(), len(rank)

    def cost(ranks: Any) -> float:
        at = np.arange(count)
        return float(gram[at, ranks][:, at, ranks].sum())

    best = cost(rank)
    while True:
        candidates = []
        for one in range(count):
            for two in range(one + 1, count):
                if rank[one] == rank[two]:
                    continue
                if not (allowed[one, rank[two]] and allowed[two, rank[one]]):
                    continue
                other = rank.copy()
                other[one], other[two] = rank[two], rank[one]
                candidates.append((cost(other), one, two))
        if not candidates or min(candidates)[0] >= best * (1 - 1e-9):
            return rank
        best, one, two = min(candidates)
        rank[one], rank[two] = rank[two], rank[one]


@dataclass(frozen=True, kw_only=True)
class _Neurons:
    """Changes d [ranks, tokens, neurons] of the activations, and the down projection
    [hidden, neurons]."""

    changes: Tensor
    down: Tensor

    def error(self, shares: Tensor) -> Tensor:
        """Output error [tokens, hidden] where rank i holds the share [neurons, i] of a neuron."""
        return torch.einsum("itk,ki->tk", self.changes, shares) @ self.down.T

    def slope(self, error: Tensor) -> Tensor:
        """Half the gradient [neurons, ranks] of the squared error."""
        return torch.einsum("itk,tk->ki", self.changes, error @ self.down)

    def alone(self) -> Tensor:
        """Squared error [neurons, ranks] of each neuron by itself."""
        return self.changes.square().sum(1).T * self.down.square().sum(0)[:, None]


def group_neurons(block: Block, sample: Sample) -> Tensor:
    """A new order of the MLP's neurons [neurons], rank by rank."""
    neurons = _neurons(block, sample)
    count, ranks = neurons.down.shape[1], block.tp
    shares = _transport(neurons.alone())
    error = neurons.error(shares)
    best, least = shares, float(error.square().sum())
    for _ in range(_STEPS):
        target = _transport(neurons.slope(error))
        corner = neurons.error(target)
        if float(corner.square().sum()) < least:
            best, least = target, float(corner.square().sum())
        towards = corner - error
        length = float(towards.square().sum())
        step = -float((error * towards).sum()) / length if length > 0 else 0.0
        if step <= 1e-6:
            break
        step = min(step, 1.0)
        shares = shares + step * (target - shares)
        error = error + step * towards
    rounded = _transport(-shares)
    now = torch.arange(count) // (count // ranks)
    options = [best, rounded, torch.nn.functional.one_hot(now, ranks).to(best)]
    errors = [float(neurons.error(option).square().sum()) for option in options]
    chosen = options[errors.index(min(errors))]
    return torch.argsort(chosen.argmax(1), stable=True)


def _neurons(block: Block, sample: Sample) -> _Neurons:
    """The activations' changes on every rank, each rank taken to hold all neurons."""
    with torch.no_grad():
        parts = block.projected(sample.mixed)
        entry = block.entry(sample.x)
        whole = block.activated(entry + sum(parts))
        local = [block.local(entry, part, rank) for rank, part in enumerate(parts)]
        changes = torch.stack([block.activated(hidden) - whole for hidden in local])
    return _Neurons(changes=changes, down=block.down.weight.detach())


def _transport(costs: Tensor) -> Tensor:
    """The cheapest assignment [neurons, ranks] (zeros and ones) with equal shares per rank.

    Exact. On 4,096 neurons and 8 ranks scipy's linprog had no answer after three minutes;
    linear_sum_assignment needs a square table of the neurons.
    """
    table: _Array = costs.double().cpu().numpy()
    neurons, ranks = table.shape
    rank = np.arange(neurons) // (neurons // ranks)
    while _exchange(table, rank):
        pass
    return torch.nn.functional.one_hot(torch.from_numpy(rank), ranks).to(costs)


def _exchange(table: _Array, rank: Any) -> bool:
    """Improve an assignment [neurons] in place; False where it is the optimum.

    Two ranks share their neurons best by the difference of the costs. Where no two can gain,
    a ring of ranks still may, each handing one neuron on; where no ring can, nothing can.
    """
    least, ranks = float((table[np.arange(len(rank)), rank]).sum()), table.shape[1]
    before = rank.copy()
    for one, two in combinations(range(ranks), 2):
        both = np.flatnonzero((rank == one) | (rank == two))
        order = both[np.argsort(table[both, one] - table[both, two], kind="stable")]
        rank[order[: len(both) // 2]], rank[order[len(both) // 2 :]] = one, two
    if float((table[np.arange(len(rank)), rank]).sum()) < least - _slack(table):
        return True
    rank[:] = before
    ring, handed = _ring(table, rank)
    for place, neuron in zip(ring, handed, strict=True):
        rank[neuron] = place
    return bool(ring)


def _ring(table: _Array, rank: Any) -> tuple[list[int], list[int]]:
    """A ring of ranks that lowers the cost if each passes one neuron on, and those neurons."""
    ranks = table.shape[1]
    prices, given = np.full((ranks, ranks), np.inf), np.zeros((ranks, ranks), dtype=np.int64)
    for giver in range(ranks):
        held = np.flatnonzero(rank == giver)
        rise = table[held] - table[held, giver, None]
        given[giver], prices[giver] = held[rise.argmin(0)], rise.min(0)
    np.fill_diagonal(prices, np.inf)
    # Bellman and Ford: a path that still gets cheaper after `ranks` rounds runs in a ring.
    paid, giver_of = np.zeros(ranks), np.zeros(ranks, dtype=np.int64)
    for _ in range(ranks):
        offers = paid[:, None] + prices
        better = offers.min(0) < paid - _slack(table)
        giver_of = np.where(better, offers.argmin(0), giver_of)
        paid = np.where(better, offers.min(0), paid)
    if not better.any():
        return [], []
    place = int(np.flatnonzero(better)[0])
    for _ in range(ranks):
        place = int(giver_of[place])
    ring = [place]
    while (before := int(giver_of[ring[-1]])) != place:
        ring.append(before)
    return ring, [int(given[giver_of[taker], taker]) for taker in ring]


def _slack(table: _Array) -> float:
    """The largest gain that may be a rounding error."""
    return 1e-12 * float(np.abs(table).max())
