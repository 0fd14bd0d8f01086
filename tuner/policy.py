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

import numpy as np

from isotune.simulator.batch import Array
from isotune.simulator.errors import DoesNotFitError
from isotune.simulator.files import Bucket, Rule
from isotune.simulator.io import heard
from isotune.simulator.predict import GpuMemory, Scenario
from isotune.simulator.schedule import TILE, CommDtype, Plan
from isotune.tuner.exact import Solved, solve, times
from isotune.tuner.prompt_lengths import Lengths

_AT_ONCE = 128
_PROBES = 24
"""Random lengths on which the rules are tried in each round, beside those that look suspect."""
_ROUNDS = 12
"""How often the rules are chosen anew at most."""
_STEP = TILE // 2
"""The smallest tile's rows: between its multiples, costs are smooth in the length."""
_MARGIN = 0.9
"""Share of the loss that solved lengths may use; what is left is for those between them."""


@dataclass(frozen=True, kw_only=True)
class PolicyResult:
    """Buckets, the length from which on ISO wins, and seconds by length beside the optimum."""

    buckets: tuple[Bucket, ...]
    serial_below: int | None
    expected_saving: float
    worst_loss: float
    longest: int
    solved: int
    simplest: "OneRule | None" = None
    interrupted: bool = False
    """Whether the lengths between the solved ones were left unchecked."""


@dataclass(frozen=True, kw_only=True)
class OneRule:
    """One rule for every length: what it saves over them, and its largest loss on solved ones."""

    rule: Rule
    expected_saving: float
    worst_loss: float


LOSS = 0.03
"""How far above the optimum a rule may lie, unless told: less than a saving is known to."""


def find_policy(
    scenario: Scenario,
    lengths: Lengths,
    *,
    comm_dtype: CommDtype = "bf16",
    dropped: tuple[int, ...] = (),
    loss: float = LOSS,
    progress: Callable[[int, int], None] | None = None,
) -> PolicyResult:
    """Rules for all lengths that fit in memory, each within `loss` of the best plan there.

    Raises:
        DoesNotFitError: not even the shortest fits.
    """
    plain = Plan(comm_dtype=comm_dtype, dropped=dropped)
    return _PolicySearch(scenario, lengths, plain, loss, progress).result()


class _PolicySearch:
    """Lengths as they are solved, rules as they are timed, and the buckets that follow.

    `plain` gives the transfer type and the drop set of every rule.
    """

    def __init__(
        self,
        scenario: Scenario,
        lengths: Lengths,
        plain: Plan,
        loss: float,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self._scenario, self._plain, self._allowed = scenario, plain, loss
        self._progress = progress
        self._tokens = _fitting(scenario, lengths.tokens)
        self._weights = np.array(lengths.weights[: len(self._tokens)])
        self._solved: dict[int, Solved] = {}
        self._seconds: dict[Rule, dict[int, float]] = {}
        first = {*self._tokens, *_tile_edges(self._tokens[0], self._tokens[-1])}
        self._expected = len(first) + _PROBES
        self._solve(sorted(first))

    def result(self) -> PolicyResult:
        """The policy, once no length that is tried loses too much, or after Ctrl-C."""
        interrupted = False
        try:
            self._refine()
        except KeyboardInterrupt:  # a policy of what is solved; less is checked between
            heard()
            interrupted = True
        buckets = self._with_losses(self._buckets())
        tokens = self._tokens
        chosen = [self._solved[n].optimum * (1 + self._loss(buckets, n)) for n in tokens]
        serial = [self._solved[n].serial for n in tokens]
        return PolicyResult(
            buckets=tuple(buckets),
            serial_below=_crossover(buckets),
            expected_saving=1.0 - float(self._weights @ chosen / (self._weights @ serial)),
            worst_loss=max(bucket.loss for bucket in buckets),
            longest=tokens[-1],
            solved=len(self._solved),
            simplest=self._cut_in_the_middle(serial),
            interrupted=interrupted,
        )

    def _cut_in_the_middle(self, serial: Sequence[float]) -> OneRule | None:
        """The rule of two halves with the SM budget that is best over the lengths.

        None where it gains nothing over `serial`, the seconds of the lengths.
        """
        halves = [self._half(sms) for sms in self._scenario.sm_budgets]
        seconds = [float(self._weights @ self._times(rule, self._tokens)) for rule in halves]
        best = int(np.argmin(seconds))
        saving = 1.0 - seconds[best] / float(self._weights @ serial)
        if saving <= 0.0:
            return None
        optima = [self._solved[length].optimum for length in self._tokens]
        excess = self._times(halves[best], self._tokens) / optima - 1.0
        return OneRule(
            rule=halves[best], expected_saving=saving, worst_loss=max(0.0, float(excess.max()))
        )

    def _half(self, sms: int | None) -> Rule:
        return Rule(
            strategy="iso",
            shares=(0.5, 0.5),
            comm_sms=sms,
            comm_dtype=self._plain.comm_dtype,
            dropped=self._plain.dropped,
        )

    def _refine(self) -> None:
        """Solve lengths at which the rules may lose too much, and random ones, and choose anew."""
        rng, (first, *_, last) = np.random.default_rng(0), (*self._tokens, self._tokens[-1])
        for _ in range(_ROUNDS):
            buckets = self._buckets()
            probes = np.exp(rng.uniform(np.log(first), np.log(last), _PROBES))
            # exp(log(200)) may be a little less than 200.
            probed = probes.astype(int).clip(first, last).tolist()
            tried = {*self._suspects(buckets), *probed}
            new = sorted(tried - set(self._solved))
            self._solve(new)
            if all(self._loss(buckets, length) <= self._allowed for length in new):
                break

    def _solve(self, lengths: Sequence[int]) -> None:
        for first in range(0, len(lengths), _AT_ONCE):
            some = lengths[first : first + _AT_ONCE]
            self._solved |= zip(some, solve(self._scenario, some, self._plain), strict=True)
            if self._progress:
                done = len(self._solved)
                self._progress(done, max(done, self._expected))

    def _buckets(self) -> list[Bucket]:
        tokens = sorted(self._solved)
        optima = np.array([self._solved[length].optimum for length in tokens])
        rules = self._candidates()
        self._time(rules, tokens)
        excess = np.stack([self._times(rule, tokens) for rule in rules]) / optima - 1.0
        buckets: list[Bucket] = []
        begin = 0
        while begin < len(tokens):
            chosen, reach = _furthest(excess[:, begin:], _MARGIN * self._allowed)
            rule = rules[chosen]
            if not reach:  # no candidate will do here: its own rule, which does at least here
                rule = Rule.of(self._solved[tokens[begin]].plan)
                own = self._times(rule, tokens) / optima - 1.0
                _, reach = _furthest(own[None, begin:], _MARGIN * self._allowed)
            end = begin + reach
            first = buckets[-1].last + 1 if buckets else tokens[0]
            last = tokens[-1] if end == len(tokens) else (tokens[end - 1] + tokens[end]) // 2
            buckets.append(Bucket(first=first, last=last, rule=rule))
            begin = end
        return buckets

    def _candidates(self) -> list[Rule]:
        """The rules worth trying everywhere: of those alike to a hundredth, the longest's."""
        alike: dict[tuple[object, ...], Rule] = {}
        for length in sorted(self._solved):
            rule = Rule.of(self._solved[length].plan)
            alike[rule.comm_sms, *(round(share, 2) for share in rule.shares)] = rule
        return list(alike.values())

    def _loss(self, buckets: Sequence[Bucket], length: int) -> float:
        rule = next(bucket.rule for bucket in buckets if bucket.first <= length <= bucket.last)
        return max(0.0, float(self._times(rule, [length])[0]) / self._solved[length].optimum - 1.0)

    def _suspects(self, buckets: Sequence[Bucket]) -> set[int]:
        """Lengths at which a rule may lose too much, by the optimum between solved neighbours.

        Of each stretch of such lengths the worst, and its ends with the lengths just outside, so
        that a bucket can end there.
        """
        known = sorted(self._solved)
        optima = [self._solved[length].optimum for length in known]
        suspects: set[int] = set()
        for bucket in buckets:
            turns = _turns(bucket)
            excess = self._times(bucket.rule, turns) / np.interp(turns, known, optima) - 1.0
            high = np.flatnonzero((excess > _MARGIN * self._allowed) & ~np.isin(turns, known))
            for stretch in np.split(high, np.flatnonzero(np.diff(high) > 1) + 1):
                if len(stretch):
                    ends = max(0, stretch[0] - 1), stretch[0], stretch[-1], stretch[-1] + 1
                    worst = stretch[excess[stretch].argmax()]
                    suspects |= {turns[index] for index in (*ends, worst) if index < len(turns)}
        return suspects

    def _with_losses(self, buckets: Sequence[Bucket]) -> list[Bucket]:
        """The buckets, each with the largest loss at a solved length inside."""
        told: list[Bucket] = []
        for bucket in buckets:
            inside = [length for length in self._solved if bucket.first <= length <= bucket.last]
            losses = [self._loss([bucket], length) for length in inside]
            told.append(bucket.model_copy(update={"loss": max(losses)}))
        return told

    def _times(self, rule: Rule, tokens: Sequence[int]) -> Array:
        """Seconds of a rule at every length [lengths]; what was timed before is remembered."""
        self._time([rule], tokens)
        return np.array([self._seconds[rule][length] for length in tokens])

    def _time(self, rules: Sequence[Rule], tokens: Sequence[int]) -> None:
        """Time every rule at every length; rules of one shape go into one batch."""
        groups: dict[tuple[Rule, int], list[tuple[Rule, int, tuple[int, ...]]]] = {}
        for rule in rules:
            known = self._seconds.setdefault(rule, {})
            shape = rule.model_copy(update={"shares": ()})
            for length in tokens:
                if length not in known:
                    sizes = rule.sizes(length)
                    groups.setdefault((shape, len(sizes)), []).append((rule, length, sizes))
        for (_, count), members in groups.items():
            lengths = [length for _, length, _ in members]
            none = np.empty((len(members), 0), dtype=np.int64)
            splits = np.array([sizes for _, _, sizes in members]) if count > 1 else none
            rule, length, _ = members[0]
            seconds = times(self._scenario, rule.plan(length), lengths, splits)
            for (rule, length, _), time in zip(members, seconds.tolist(), strict=True):
                self._seconds[rule][length] = time


def _tile_edges(first: int, last: int) -> list[int]:
    """Lengths around whole tiles, where wave quantisation moves the optimum: all of the first
    hundred tiles, then fewer and fewer, since a tile more matters less and less."""
    tiles = {int(tiles) for tiles in np.geomspace(100, 10_000, 40)} | set(range(1, 100))
    around = {TILE * tile + offset for tile in tiles for offset in (0, 1, _STEP, _STEP + 1)}
    short = set(range(16, 4 * TILE, 16))
    return [length for length in around | short if first <= length <= last]


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


def _furthest(excess: Array, loss: float) -> tuple[int, int]:
    """The rule that keeps within `loss` for the most lengths from the first on, and how many."""
    within = np.cumprod(excess <= loss + 1e-12, axis=1).sum(axis=1)
    reach = int(within.max())
    best = min(np.flatnonzero(within == reach), key=lambda rule: excess[rule, :reach].mean())
    return int(best), reach


def _crossover(buckets: Sequence[Bucket]) -> int | None:
    iso = [bucket.first for bucket in buckets if bucket.rule.shares]
    return min(iso) if iso else None
