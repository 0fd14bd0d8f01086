"""What each technique alone would bring, and from which prompt length on ISO pays."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from isotune.simulator.batch import Batch, Index, Timer
from isotune.simulator.errors import DoesNotFitError
from isotune.simulator.machine import CLASSES
from isotune.simulator.predict import (
    SERIAL,
    Factors,
    GpuMemory,
    Prediction,
    Scenario,
    predict,
    saving_interval,
)
from isotune.simulator.schedule import COMPARED, SEARCHABLE, STRATEGIES, TILE, Plan
from isotune.tuner.accuracy import DropCosts
from isotune.tuner.exact import best_split, split_sizes, splits_of
from isotune.tuner.space import even_plan

LONGEST_PROMPT = 131_072


@dataclass(frozen=True, kw_only=True)
class Technique:
    """One technique by itself. `assumed` marks a loss that no sensitivity file measures."""

    name: str
    prediction: Prediction
    assumed: bool = False

    @property
    def lossy(self) -> bool:
        """Whether it changes the model's numbers."""
        return self.prediction.plan.lossy


def techniques(
    scenario: Scenario,
    *,
    best: Plan,
    dropped: tuple[int, ...],
    drop_costs: DropCosts | None,
    strategies: tuple[str, ...],
    spd: bool,
) -> list[Technique]:
    """Every technique that the scenario allows, each tuned by itself, then all together.

    Args:
        scenario: what is run, and on what.
        best: the best plan of a search, a candidate for the last and for ISO.
        dropped: the drop set that stands for SPD.
        drop_costs: what lossy techniques cost; those it does not tell are marked as assumed.
        strategies: overlap strategies to show.
        spd: whether dropping is among the techniques to show.
    """
    ranks = scenario.workload.parallelism
    if not ranks.communicates:
        return []
    plans: list[tuple[str, Plan | None]] = []
    for name in strategies:
        plans += _overlapped(scenario, name, best)
    beside = list(_compared(scenario)) if set(SEARCHABLE) <= set(strategies) else []
    if spd and (dropped or drop_costs is not None):
        plans.append((f"SPD, {len(dropped)} blocks", Plan(dropped=dropped)))
    narrowest = _narrowest(scenario)
    if narrowest.quantised:
        plans.append(("int8 transfer", narrowest))
    alone = [plan for _, plan in plans if plan is not None]
    candidates = [best, *alone, *_combinations(scenario, dropped if spd else (), strategies)]
    candidates = [plan for plan in candidates if GpuMemory(scenario).of(plan).fits]
    plans += [*beside, ("all combined", _fastest(scenario, candidates))]
    shown: list[Technique] = []
    for name, plan in plans:
        if plan is not None:
            with suppress(DoesNotFitError):
                prediction, guess = predict(scenario, plan), _assumed(plan, drop_costs)
                shown.append(Technique(name=name, prediction=prediction, assumed=guess))
    return shown


def _overlapped(scenario: Scenario, name: str, best: Plan) -> list[tuple[str, Plan | None]]:
    """A strategy's even splits, and its best split where all are compared."""
    how = STRATEGIES[name]
    unsuited = how.unsuited(scenario.model, scenario.workload.parallelism)
    if not how.chunked or unsuited is not None:
        return []
    if not how.enumerable:
        return [(how.label, best_even(scenario, name, how.most_parts))]
    return [
        (f"{how.label}, even split", even_plan(scenario, name, 2)),
        (f"{how.label}, tuned", _tuned(scenario, best)),
    ]


def _narrowest(scenario: Scenario) -> Plan:
    """The serial plan whose collectives send the least: int8 where all of them are all-reduces."""
    only_sums = scenario.model.only_sums(scenario.workload.parallelism)
    return Plan(comm_dtype="int8") if only_sums else Plan()


def _compared(scenario: Scenario) -> Iterator[tuple[str, Plan | None]]:
    """What an engine's own kernels would bring; no search chooses it."""
    for how in COMPARED:
        if how.unsuited(scenario.model, scenario.workload.parallelism) is not None:
            continue
        if how.chunked:
            yield f"{how.label}+", best_even(scenario, how.name, how.most_parts)
        elif how.refusal(scenario.workload) is None:
            yield f"{how.label}+", Plan(strategy=how.name)


def _assumed(plan: Plan, drop_costs: DropCosts | None) -> bool:
    """Whether a plan loses accuracy in a way that no measurement backs."""
    if drop_costs is None:
        return plan.lossy
    return plan.quantised and plan.comm_dtype not in drop_costs.transfer


def _tuned(scenario: Scenario, best: Plan) -> Plan | None:
    """The best lossless ISO plan known; None where the prompt cannot be split."""
    exact = best_split(scenario)
    plans = [exact.plan] if exact else []
    if best.how.enumerable and not best.lossy:
        plans.append(best)
    return _fastest(scenario, plans) if plans else None


def _combinations(
    scenario: Scenario, dropped: tuple[int, ...], strategies: tuple[str, ...]
) -> Iterator[Plan]:
    """Quantised transfer and the drop set, without overlap and under the best ISO split."""
    sent = _narrowest(scenario).comm_dtype
    yield Plan(comm_dtype=sent, dropped=dropped)
    if any(STRATEGIES[name].enumerable for name in strategies):
        dtypes = tuple(dict.fromkeys((Plan().comm_dtype, sent)))
        exact = best_split(scenario, comm_dtypes=dtypes, drop_sets={(), dropped})
        if exact is not None:
            yield exact.plan


def _fastest(scenario: Scenario, plans: Sequence[Plan]) -> Plan:
    return plans[int(Timer(scenario).seconds(plans).argmin())]


def latency(scenario: Scenario, plan: Plan) -> float:
    """Seconds of one plan, without the rest of a prediction."""
    return float(Timer(scenario).seconds([plan])[0])


def best_even(scenario: Scenario, strategy: str, most: int, *, like: Plan = SERIAL) -> Plan | None:
    """The best of even splits into 2 to `most` parts, over SM budgets; None if it cannot split.

    Transfer type and drop set are those of the plan `like`.
    """
    even = [even_plan(scenario, strategy, count) for count in range(2, most + 1)]
    same = {"comm_dtype": like.comm_dtype, "dropped": like.dropped}
    plans = [
        plan.model_copy(update={"comm_sms": sms} | same)
        for plan in even
        if plan is not None
        for sms in scenario.sm_budgets
    ]
    return _fastest(scenario, plans) if plans else None


def cut_in_the_middle(scenario: Scenario, best: Plan) -> Prediction | None:
    """The best plan's strategy with two even parts, the rest as the best plan has it.

    None where the best plan splits nothing, has that very cut, or memory does not hold it.
    """
    if len(best.chunks) < 2:
        return None
    even = best_even(scenario, best.strategy, 2, like=best)
    if even is None or even.chunks == best.chunks:
        return None
    with suppress(DoesNotFitError):
        return predict(scenario, even)
    return None


class IsoGains:
    """Whether a two-chunk ISO prefill gains, at many prompt lengths.

    All lengths of `LENGTHS` are solved together, by coarse splits with every SM budget.
    """

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario

    def pays_from(self) -> int | None:
        """Smallest prompt (tokens) from which on it beats the serial prefill.

        At every longer length of `LENGTHS`. None where no prompt up to `LONGEST_PROMPT` gains, or
        there is nothing to overlap.
        """
        return _from(at.prompt for at in self._at if at.saving <= 0.0) if self._at else None

    def surely_pays_from(self) -> int | None:
        """Smallest prompt (tokens) from which on that gain is larger than the model's error.

        That is, the 80 % interval of the saving lies above zero. None as for `pays_from`.
        """
        return _from(at.prompt for at in self._at if at.least <= 0.0) if self._at else None

    @cached_property
    def _at(self) -> tuple["Gain", ...]:
        workload = self._scenario.workload
        if workload.phase != "prefill" or not workload.parallelism.communicates:
            return ()
        return gains(self._scenario, LENGTHS)


@dataclass(frozen=True, kw_only=True)
class Gain:
    """What the best coarse split of a prompt saves, a fraction, and the least it surely saves."""

    prompt: int
    plan: Plan
    saving: float
    least: float


def _lengths() -> tuple[int, ...]:
    """Half tiles up to 2048 tokens, where savings jump from tile to tile, then ever fewer."""
    short = range(TILE, 2048, TILE // 2)
    octaves = range((LONGEST_PROMPT // 2048).bit_length() - 1)
    long = (
        (2048 << octave) * (_PER_OCTAVE + part) // _PER_OCTAVE
        for octave in octaves
        for part in range(_PER_OCTAVE)
    )
    return (*short, *long, LONGEST_PROMPT)


_PER_OCTAVE = 8
LENGTHS = _lengths()
"""Prompt lengths (tokens) at which ISO is tried."""


def _from(failing: Iterable[int]) -> int | None:
    """The length after the last one that fails; None if that is the longest."""
    last = max(failing, default=0)
    return next((length for length in LENGTHS if length > last), None)


def gains(scenario: Scenario, lengths: Sequence[int]) -> tuple[Gain, ...]:
    """What the best coarse two-chunk split saves at each prompt length (tokens)."""
    sizes = [_coarse(length) for length in lengths]
    owner = np.repeat(np.arange(len(lengths)), [len(each) for each in sizes])
    splits = splits_of(scenario, np.array(lengths)[owner], np.concatenate(sizes))
    budgets, timer = scenario.sm_budgets, Timer(scenario)
    plans = [Plan(strategy="iso", chunks=(1, 1), comm_sms=sms) for sms in budgets]
    seconds = np.stack(
        [timer.run(Batch(scenario=scenario, plan=plan, splits=splits)) for plan in plans]
    )
    best = [int(seconds[:, owner == at].argmin()) for at in range(len(lengths))]
    counts = np.bincount(owner)
    firsts = np.cumsum(counts) - counts
    budget_of = np.array([at // counts[length] for length, at in enumerate(best)])
    row_of = firsts + np.array([at % counts[length] for length, at in enumerate(best)])
    factors = [None, *shifts(scenario)]
    none = np.empty((len(lengths), 0), dtype=np.int64)
    whole = splits_of(scenario, lengths, none)
    serial = timer.run_with(Batch(scenario=scenario, plan=SERIAL, splits=whole), factors)
    split = np.empty_like(serial)
    for budget in set(budget_of.tolist()):
        own = np.flatnonzero(budget_of == budget)
        rows = splits.part(row_of[own])
        split[:, own] = timer.run_with(
            Batch(scenario=scenario, plan=plans[budget], splits=rows), factors
        )
    found: list[Gain] = []
    for at, length in enumerate(lengths):
        ours, theirs = (Passes.of(times[:, at].tolist()) for times in (split, serial))
        chunks = tuple(splits.sizes[row_of[at]].tolist())
        found.append(
            Gain(
                prompt=length,
                plan=plans[budget_of[at]].model_copy(update={"chunks": chunks}),
                saving=1.0 - ours.latency / theirs.latency,
                least=saving_interval(ours, theirs)[0],
            )
        )
    return tuple(found)


def _coarse(length: int) -> Index:
    """Some sixteen splits of a prompt into two chunks [splits, 2]."""
    sizes = split_sizes(length)
    return sizes[:: max(1, len(sizes) // 16)]


@dataclass(frozen=True, kw_only=True)
class Passes:
    """A pass as predicted, and with each operation class slower by one standard error."""

    latency: float
    shifted: tuple[float, ...]

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Self:
        """From seconds under no factors, then under each of `shifts`."""
        return cls(latency=seconds[0], shifted=tuple(seconds[1:]))


def shifts(scenario: Scenario) -> list[Factors]:
    """Each operation class slower by one standard error."""
    errors = scenario.class_errors()
    return [Factors(classes={name: 1.0 + errors[name]}) for name in CLASSES]
