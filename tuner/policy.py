"""Adaptive segmentation: the fewest rules that are near the optimum at every prompt length.

A rule that stays within `loss` of the per-length optimum from one length on to the longest
possible other makes the first bucket; the next begins after it. Greedy is optimal here: a bucket
that ends later never makes the rest harder.

A length is solved by `exact.by_length`, with up to three chunks. Not every length is: between those
that are, the rules are checked wherever they or the kernels turn (see `_turns`) against the
optimum interpolated there; where a rule may lose too much the length is solved as well, and the
rules are chosen anew.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from isotune.simulator.batch import Array
from isotune.simulator.errors import DoesNotFitError, InputError
from isotune.simulator.files import Bucket, Rule
from isotune.simulator.io import AboveZero, Count, CsvRow, read_rows
from isotune.simulator.predict import GpuMemory, Scenario
from isotune.simulator.schedule import TILE, CommDtype, Plan
from isotune.tuner.exact import solve as lengths_solved
from isotune.tuner.exact import times as seconds_of

LENGTHS = 64
"""Lengths of a range that are solved exactly at first."""
_AT_ONCE = 128
_PROBES = 24
"""Random lengths on which the rules are tried in each round, beside those that look suspect."""
_ROUNDS = 12
"""How often the rules are chosen anew at most."""
_STEP = TILE // 2
"""The smallest tile's rows: between its multiples, costs are smooth in the length."""
_MARGIN = 0.9
"""Share of the loss that solved lengths may use; what is left is for those between them."""

_LONGEST = 10_000_000
"""The longest prompt in tokens that a table may name."""
_Memo = dict[Rule, dict[int, float]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Lengths:
    """Prompt lengths in tokens, ascending, and the share of requests each stands for."""

    tokens: tuple[int, ...]
    weights: tuple[float, ...]

    @classmethod
    def between(cls, first: int, last: int) -> "Lengths":
        """Lengths spread evenly over their logarithm, each as likely as another."""
        if not 1 <= first <= last:
            raise InputError(f"--prompt: {first}:{last} is not a range of prompt lengths")
        spread = np.geomspace(first, last, LENGTHS).round().astype(int)
        tokens = tuple(np.unique(spread).tolist())
        return cls(tokens=tokens, weights=(1 / len(tokens),) * len(tokens))


class LengthRow(CsvRow):
    """A prompt length, and how many requests had it."""

    tokens: Count
    count: AboveZero = 1.0


def read_lengths(path: Path) -> Lengths:
    """Lengths from a CSV: a length per line, and optionally how many requests had it.

    Many lengths are gathered into `LENGTHS` groups of neighbours, by their longest.

    Raises:
        InputError: unreadable file, or a line that is not a length (with its number).
    """
    counts: dict[int, float] = {}
    for row in read_rows(path, LengthRow, columns=("tokens", "count")):
        if row.tokens > _LONGEST:
            raise InputError(
                f"{path}: row {row.line}: column tokens: {row.tokens} (allowed: 1 to {_LONGEST})"
            )
        counts[row.tokens] = counts.get(row.tokens, 0.0) + row.count
    tokens = np.array(sorted(counts))
    weights = np.array([counts[length] for length in tokens])
    if len(tokens) > LENGTHS:
        ends = np.unique(np.linspace(1, len(tokens), LENGTHS).round().astype(int))
    else:
        ends = np.arange(1, len(tokens) + 1)
    sums = np.diff(np.cumsum(weights)[ends - 1], prepend=0.0)
    return Lengths(
        tokens=tuple(tokens[ends - 1].tolist()), weights=tuple((sums / weights.sum()).tolist())
    )


@dataclass(frozen=True, kw_only=True)
class PolicyResult:
    """Buckets, the length from which on ISO wins, and seconds by length beside the optimum."""

    buckets: tuple[Bucket, ...]
    serial_below: int | None
    expected_saving: float
    worst_loss: float
    longest: int
    solved: int
    interrupted: bool = False
    """Whether the lengths between the solved ones were left unchecked."""


class _Solved(NamedTuple):
    """Serial baseline and optimum of a length in seconds, and the optimum's rule."""

    serial: float
    optimum: float
    rule: Rule


def find_policy(
    scenario: Scenario,
    lengths: Lengths,
    *,
    comm_dtype: CommDtype = "bf16",
    dropped: tuple[int, ...] = (),
    loss: float = 0.01,
    progress: Callable[[int, int], None] | None = None,
) -> PolicyResult:
    """Rules for all lengths that fit in memory, each within `loss` of the best plan there.

    Raises:
        DoesNotFitError: not even the shortest fits.
    """
    tokens = _fitting(scenario, lengths.tokens)
    solved: dict[int, _Solved] = {}
    memo: _Memo = {}
    edges = _tile_edges(tokens[0], tokens[-1])
    expected = len({*tokens, *edges}) + _PROBES

    plain = Plan(comm_dtype=comm_dtype, dropped=dropped)

    def solve(new: Sequence[int]) -> None:
        for first in range(0, len(new), _AT_ONCE):
            some = new[first : first + _AT_ONCE]
            for length, best in zip(some, lengths_solved(scenario, some, plain), strict=True):
                solved[length] = _Solved(best.serial, best.optimum, Rule.of(best.plan))
            if progress:
                progress(len(solved), max(len(solved), expected))

    solve(sorted({*tokens, *edges}))
    rng = np.random.default_rng(0)
    interrupted = False
    try:
        for _ in range(_ROUNDS):
            buckets = _buckets(scenario, solved, loss, memo)
            probes = np.exp(rng.uniform(np.log(tokens[0]), np.log(tokens[-1]), _PROBES))
            suspects = _suspects(scenario, buckets, solved, loss, memo)
            new = sorted({*suspects, *(int(length) for length in probes)} - set(solved))
            solve(new)
            if all(
                _loss(scenario, buckets, length, solved[length], memo) <= loss for length in new
            ):
                break
    except KeyboardInterrupt:  # a policy of what is solved; less is checked between
        interrupted = True
    buckets = _with_losses(scenario, _buckets(scenario, solved, loss, memo), solved, memo)
    weights = np.array(lengths.weights[: len(tokens)])
    chosen = [
        solved[n].optimum * (1 + _loss(scenario, buckets, n, solved[n], memo)) for n in tokens
    ]
    serial = [solved[n].serial for n in tokens]
    return PolicyResult(
        buckets=tuple(buckets),
        serial_below=_crossover(buckets),
        expected_saving=1.0 - float(weights @ chosen / (weights @ serial)),
        worst_loss=max(bucket.loss for bucket in buckets),
        longest=tokens[-1],
        solved=len(solved),
        interrupted=interrupted,
    )


def _tile_edges(first: int, last: int) -> list[int]:
    """Lengths around whole tiles, where wave quantisation moves the optimum: all of the first
    hundred tiles, then fewer and fewer, since a tile more matters less and less."""
    tiles = {int(tiles) for tiles in np.geomspace(100, 10_000, 40)} | set(range(1, 100))
    around = {TILE * tile + offset for tile in tiles for offset in (0, 1, _STEP, _STEP + 1)}
    short = set(range(16, 4 * TILE, 16))
    return [length for length in around | short if first <= length <= last]


def _buckets(
    scenario: Scenario, solved: dict[int, _Solved], loss: float, memo: _Memo
) -> list[Bucket]:
    tokens = sorted(solved)
    optima = np.array([solved[length].optimum for length in tokens])
    rules = _candidates(solved)
    _ask(scenario, rules, tokens, memo)
    excess = np.stack([_times(scenario, rule, tokens, memo) for rule in rules]) / optima - 1.0
    buckets: list[Bucket] = []
    begin = 0
    while begin < len(tokens):
        chosen, reach = _furthest(excess[:, begin:], _MARGIN * loss)
        rule = rules[chosen]
        if not reach:  # no candidate will do here: its own rule, which does at least here
            rule = solved[tokens[begin]].rule
            own = _times(scenario, rule, tokens, memo) / optima - 1.0
            _, reach = _furthest(own[None, begin:], _MARGIN * loss)
        end = begin + reach
        first = buckets[-1].last + 1 if buckets else tokens[0]
        last = tokens[-1] if end == len(tokens) else (tokens[end - 1] + tokens[end]) // 2
        buckets.append(Bucket(first=first, last=last, rule=rule))
        begin = end
    return buckets


def _candidates(solved: dict[int, _Solved]) -> list[Rule]:
    """The rules worth trying everywhere: of those alike to a hundredth, the longest prompt's."""
    alike: dict[tuple[object, ...], Rule] = {}
    for length in sorted(solved):
        rule = solved[length].rule
        alike[rule.comm_sms, *(round(share, 2) for share in rule.shares)] = rule
    return list(alike.values())


def _loss(
    scenario: Scenario, buckets: Sequence[Bucket], length: int, best: _Solved, memo: _Memo
) -> float:
    rule = next(bucket.rule for bucket in buckets if bucket.first <= length <= bucket.last)
    return max(0.0, float(_times(scenario, rule, [length], memo)[0]) / best.optimum - 1.0)


def _suspects(
    scenario: Scenario,
    buckets: Sequence[Bucket],
    solved: dict[int, _Solved],
    loss: float,
    memo: _Memo,
) -> set[int]:
    """Lengths at which a rule may lose too much, by the optimum between solved neighbours.

    Of each stretch of such lengths the worst, and its ends with the lengths just outside, so
    that a bucket can end there.
    """
    known = sorted(solved)
    optima = [solved[length].optimum for length in known]
    found: set[int] = set()
    for bucket in buckets:
        turns = _turns(bucket)
        excess = _times(scenario, bucket.rule, turns, memo) / np.interp(turns, known, optima) - 1.0
        high = np.flatnonzero((excess > _MARGIN * loss) & ~np.isin(turns, known))
        for stretch in np.split(high, np.flatnonzero(np.diff(high) > 1) + 1):
            if len(stretch):
                ends = max(0, stretch[0] - 1), stretch[0], stretch[-1], stretch[-1] + 1
                worst = stretch[excess[stretch].argmax()]
                found |= {turns[index] for index in (*ends, worst) if index < len(turns)}
    return found


def _turns(bucket: Bucket) -> list[int]:
    """The ends of a bucket and of the ranges in which its rule cuts alike and tiles stay as many.

    Between two that follow each other latency is smooth; short prompts are cut finer, and
    there every length is one.
    """
    lengths = np.arange(bucket.first, bucket.last + 1)
    tiles = lengths // TILE
    cut = np.zeros_like(lengths)
    for share in bucket.rule.shares[:-1]:
        cut = cut * (tiles[-1] + 2) + np.rint(share * lengths / TILE).astype(np.int64)
    turned = (np.diff(cut) != 0) | (np.diff((lengths - 1) // _STEP) != 0)
    turned |= lengths[1:] < 4 * TILE
    starts = np.append(True, turned)
    return [int(length) for length in lengths[starts | np.append(turned, True)]]


def _with_losses(
    scenario: Scenario, buckets: Sequence[Bucket], solved: dict[int, _Solved], memo: _Memo
) -> list[Bucket]:
    found: list[Bucket] = []
    for bucket in buckets:
        inside = [length for length in solved if bucket.first <= length <= bucket.last]
        losses = [_loss(scenario, [bucket], length, solved[length], memo) for length in inside]
        found.append(bucket.model_copy(update={"loss": max(losses)}))
    return found


def _fitting(scenario: Scenario, tokens: Sequence[int]) -> list[int]:
    GpuMemory(scenario.with_workload(prompt=tokens[0])).check(Plan())
    fitting = [tokens[0]]
    for length in tokens[1:]:
        try:
            GpuMemory(scenario.with_workload(prompt=length)).check(Plan())
        except DoesNotFitError:
            break
        fitting.append(length)
    return fitting


def _times(scenario: Scenario, rule: Rule, tokens: Sequence[int], memo: _Memo) -> Array:
    """Seconds of a rule at every length [lengths]; `memo` keeps what was asked before."""
    _ask(scenario, [rule], tokens, memo)
    return np.array([memo[rule][length] for length in tokens])


def _ask(scenario: Scenario, rules: Sequence[Rule], tokens: Sequence[int], memo: _Memo) -> None:
    """Have `memo` know every rule at every length; rules of one shape go into one batch."""
    groups: dict[tuple[Rule, int], list[tuple[Rule, int, tuple[int, ...]]]] = {}
    for rule in rules:
        known = memo.setdefault(rule, {})
        shape = rule.model_copy(update={"shares": ()})
        for length in tokens:
            if length not in known:
                sizes = rule.sizes(length)
                groups.setdefault((shape, len(sizes)), []).append((rule, length, sizes))
    for (_, count), members in groups.items():
        lengths = [length for _, length, _ in members]
        none = np.empty((len(members), 0), dtype=np.int64)
        cuts = np.array([sizes for _, _, sizes in members]) if count > 1 else none
        rule, length, _ = members[0]
        seconds = seconds_of(scenario, rule.plan(length), lengths, cuts)
        for (rule, length, _), time in zip(members, seconds.tolist(), strict=True):
            memo[rule][length] = time


def _furthest(excess: Array, loss: float) -> tuple[int, int]:
    """The rule that keeps within `loss` for the most lengths from the first on, and how many."""
    within = np.cumprod(excess <= loss + 1e-12, axis=1).sum(axis=1)
    reach = int(within.max())
    best = min(np.flatnonzero(within == reach), key=lambda rule: excess[rule, :reach].mean())
    return int(best), reach


def _crossover(buckets: Sequence[Bucket]) -> int | None:
    iso = [bucket.first for bucket in buckets if bucket.rule.shares]
    return min(iso) if iso else None
