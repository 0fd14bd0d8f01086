"""What each technique alone would bring, and from which prompt length on ISO pays."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from isotune.simulator.batch import Batch, Splits, Timer
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
from isotune.simulator.schedule import STRATEGIES, TILE, Plan
from isotune.tuner.accuracy import DropCosts
from isotune.tuner.exact import batch_of, best_split, split_sizes
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
    if scenario.workload.tp == 1:
        return []
    plans: list[tuple[str, Plan | None]] = []
    for name in strategies:
        plans += _overlapped(scenario, name, best)
    if spd:
        plans.append((f"SPD, {len(dropped)} blocks", Plan(dropped=dropped)))
    plans.append(("int8 transfer", Plan(comm_dtype="int8")))
    alone = [plan for _, plan in plans if plan is not None]
    candidates = [best, *alone, *_combinations(scenario, dropped if spd else (), strategies)]
    candidates = [plan for plan in candidates if GpuMemory(scenario).of(plan).fits]
    plans.append(("all combined", _fastest(scenario, candidates)))
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
    if how.splits == "nothing":
        return []
    if not how.enumerable:
        return [(how.label, best_even(scenario, name, how.most_parts))]
    return [
        (f"{how.label}, even split", even_plan(scenario, name, 2)),
        (f"{how.label}, tuned", _tuned(scenario, best)),
    ]


def _assumed(plan: Plan, drop_costs: DropCosts | None) -> bool:
    """Whether a plan loses accuracy in a way that no measurement backs."""
    if drop_costs is None:
        return plan.lossy
    return plan.comm_dtype != "bf16" and plan.comm_dtype not in drop_costs.transfer


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
    yield Plan(comm_dtype="int8", dropped=dropped)
    if any(STRATEGIES[name].enumerable for name in strategies):
        exact = best_split(scenario, comm_dtypes=("bf16", "int8"), drop_sets={(), dropped})
        if exact is not None:
            yield exact.plan


def _fastest(scenario: Scenario, plans: Sequence[Plan]) -> Plan:
    return plans[int(Timer(scenario).seconds(plans).argmin())]


def latency(scenario: Scenario, plan: Plan) -> float:
    """Seconds of one plan, without the rest of a prediction."""
    return float(Timer(scenario).seconds([plan])[0])


def best_even(scenario: Scenario, strategy: str, most: int) -> Plan | None:
    """The best of even splits into 2 to `most` parts, over SM budgets; None if it cannot split."""
    even = [even_plan(scenario, strategy, count) for count in range(2, most + 1)]
    plans = [
        plan.model_copy(update={"comm_sms": sms})
        for plan in even
        if plan is not None
        for sms in scenario.sm_budgets
    ]
    return _fastest(scenario, plans) if plans else None


class IsoGains:
    """Whether a two-chunk ISO prefill gains at one prompt length after another.

    Each length is solved once, by coarse splits with every SM budget.
    """

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._solved: dict[int, _AtLength] = {}

    def pays_from(self) -> int | None:
        """Smallest prompt (tokens) from which on it beats the serial prefill.

        None where no prompt up to `LONGEST_PROMPT` gains, or there is nothing to overlap.
        """
        return self._from(self.gains)

    def surely_pays_from(self) -> int | None:
        """Smallest prompt (tokens) from which on that gain is larger than the model's error.

        That is, the 80 % interval of the saving lies above zero. None as for `pays_from`.
        """
        return self._from(self.surely_gains)

    def gains(self, prompt: int) -> bool:
        """Whether some coarse split of a prompt of this length beats serial."""
        return self._at(prompt).gains

    def surely_gains(self, prompt: int) -> bool:
        """Whether the saving of the best coarse split is larger than the model's error."""
        solved = self._at(prompt)
        if not solved.gains:
            return False
        both = passes(solved.scenario, solved.plan), passes(solved.scenario, SERIAL)
        return saving_interval(*both)[0] > 0.0

    def _from(self, gaining: Callable[[int], bool]) -> int | None:
        """The shortest prompt from which on every tried one gains.

        Doubling finds the shortest power of two above which every longer one gains; bisection at
        tile granularity refines it.
        """
        workload = self._scenario.workload
        if workload.phase != "prefill" or workload.tp == 1:
            return None
        lengths = [TILE << power for power in range((LONGEST_PROMPT // TILE).bit_length())]
        first = len(lengths)
        while first and gaining(lengths[first - 1]):
            first -= 1
        if first == len(lengths):
            return None
        if first == 0:
            return lengths[0]
        low, high = lengths[first - 1], lengths[first]
        while high - low > TILE:
            middle = (low + high) // 2 // TILE * TILE
            low, high = (low, middle) if gaining(middle) else (middle, high)
        return high

    def _at(self, prompt: int) -> "_AtLength":
        if prompt not in self._solved:
            self._solved[prompt] = _AtLength.of(self._scenario.with_workload(prompt=prompt))
        return self._solved[prompt]


@dataclass(frozen=True, kw_only=True)
class _AtLength:
    """The best coarse split of a prompt, and whether it beats serial."""

    scenario: Scenario
    plan: Plan
    gains: bool

    @classmethod
    def of(cls, scenario: Scenario) -> "_AtLength":
        sizes = split_sizes(scenario.workload.tokens)
        sizes = sizes[:: max(1, len(sizes) // 16)]
        timer, splits = Timer(scenario), Splits.of(scenario.workload, sizes)
        best, least = SERIAL, float("inf")
        for sms in scenario.sm_budgets:
            plan = Plan(strategy="iso", chunks=tuple(sizes[0].tolist()), comm_sms=sms)
            times = timer.run(Batch(scenario=scenario, plan=plan, splits=splits))
            fastest = int(times.argmin())
            if times[fastest] < least:
                chunks = tuple(sizes[fastest].tolist())
                best, least = plan.model_copy(update={"chunks": chunks}), float(times[fastest])
        return cls(scenario=scenario, plan=best, gains=least < float(timer.seconds([SERIAL])[0]))


@dataclass(frozen=True, kw_only=True)
class Passes:
    """A pass as predicted, and with each operation class slower by one standard error."""

    latency: float
    shifted: tuple[float, ...]


def passes(scenario: Scenario, plan: Plan) -> Passes:
    """A plan's passes, by the compiled engine."""
    errors = scenario.class_errors()
    factors = [Factors(classes={name: 1.0 + errors[name]}) for name in CLASSES]
    latency, *shifted = (
        Timer(scenario).run_with(batch_of(scenario, plan), [None, *factors])[:, 0].tolist()
    )
    return Passes(latency=latency, shifted=tuple(shifted))
