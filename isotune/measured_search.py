"""`isotune search --measured`: the simulator proposes, real runs decide, Optuna goes on."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from isotune.simulator.predict import SERIAL, Scenario
from isotune.simulator.schedule import Plan
from isotune.tuner.search import (
    Evaluator,
    Options,
    Outcome,
    Settings,
    exact_of,
    judge_of,
    run_study,
    space_of,
    starts,
)

if TYPE_CHECKING:
    from isotune.validation.real_run import Bench

CANDIDATES = 8
"""Plans of the simulator that are measured before Optuna goes on."""
_FINALISTS = 3
_ROUNDS = 3
_FINAL_ROUNDS = 9
_FINAL_SHARE = 0.2
"""At most this share of the budget is kept for the last comparison, in turns."""


class BudgetSpentError(KeyboardInterrupt):
    """No time is left; stops a study as Ctrl-C does, with what it has found."""


@dataclass(frozen=True, kw_only=True)
class Shared:
    """A study that several measure on: its storage's URL and its name."""

    url: str
    study: str


@dataclass(frozen=True, kw_only=True)
class SearchDriver:
    """Measures candidates in turns, lets Optuna go on from them, and the best meet again.

    `budget_s` counts from when the ranks are there.
    """

    scenario: Scenario
    options: Options
    candidates: tuple[Plan, ...]
    budget_s: float
    shared: Shared | None = None

    def __call__(self, bench: "Bench") -> None:
        """See `isotune.validation.real_run.benchmark_job.Driver`."""
        measuring = _Measuring(bench, self.budget_s, self.scenario)
        try:
            measuring.begin((SERIAL, *self.candidates))
            self._go_on(measuring)
        except BudgetSpentError:
            pass
        measuring.finish()

    def _go_on(self, measuring: "_Measuring") -> None:
        """Optuna, with real seconds as its objective, until the budget or the trials are spent."""
        if self.shared is not None:
            self._share(measuring)
            return
        settings = Settings(
            trials=10**9, seed=self.options.seed, sampler=self.options.sampler, at_once=2
        )
        space, judge = space_of(self.scenario, self.options), judge_of(self.scenario, self.options)
        run_study(space, judge, measuring, settings, self.candidates)

    def _share(self, measuring: "_Measuring") -> None:
        from isotune.tuner.search import SharedStudy, open_storage, work

        assert self.shared is not None
        shared = SharedStudy(
            storage=open_storage(self.shared.url),
            name=self.shared.study,
            space=space_of(self.scenario, self.options),
            judge=judge_of(self.scenario, self.options),
            trials=self.options.trials,
            seed=self.options.seed,
            sampler=self.options.sampler,
        )
        found = work(shared, measuring)
        if found.best is not None:
            measuring.also = found.best.plan


class _Measuring(Evaluator):
    """Outcomes of plans by real runs; a plan that comes again is measured again.

    `also` is a plan that takes part in the last comparison whatever was measured here.
    """

    def __init__(self, bench: "Bench", budget_s: float, scenario: Scenario) -> None:
        super().__init__(scenario)
        self._bench, self._budget = bench, budget_s
        self._deadline = time.monotonic() + budget_s
        self._runs: dict[Plan, list[float]] = {}
        self._fresh: set[Plan] = set()
        self.also: Plan | None = None

    def begin(self, plans: Sequence[Plan]) -> None:
        """Measure the first plans: each once while the budget lasts, then all in turns.

        Raises:
            BudgetSpentError: the budget is spent.
        """
        for plan in plans:
            self._round((plan,))
        for _ in range(_ROUNDS - 1):
            self._round(plans)
        self._fresh |= set(plans)

    def _round(self, plans: Sequence[Plan]) -> None:
        if self._spent(plans):
            raise BudgetSpentError
        for plan, seconds in zip(plans, self._bench.measure(plans, 1), strict=True):
            self._runs.setdefault(plan, []).append(seconds)

    def __call__(self, plans: Sequence[Plan]) -> list[Outcome]:
        """See `Evaluator`.

        Raises:
            BudgetSpentError: there is no time for another plan.
        """
        return [self._outcome(plan) for plan in plans]

    def _outcome(self, plan: Plan) -> Outcome:
        if why := self._misfit(plan):
            return Outcome(None, why)
        if plan in self._fresh:  # a candidate, measured before the study began
            self._fresh.remove(plan)
        else:
            for _ in range(_ROUNDS):
                self._round((plan,))
        return Outcome(float(np.median(self._runs[plan])))

    def finish(self) -> None:
        """The best plans and the serial run once more, in turns: the only fair comparison."""
        ranked = sorted(self._runs, key=lambda plan: float(np.median(self._runs[plan])))
        best = [plan for plan in ranked if plan != SERIAL][:_FINALISTS]
        also = [] if self.also is None else [self.also]
        plans = list(dict.fromkeys((SERIAL, *best, *also)))
        left = self._deadline - time.monotonic()
        rounds = max(1, min(_FINAL_ROUNDS, int(left / max(self._round_s(plans), 1e-6))))
        self._bench.measure(plans, rounds, final=True)

    def _spent(self, plans: Sequence[Plan]) -> bool:
        """Whether another round of plans would take time that is kept for the end."""
        best = sorted(float(np.median(runs)) for runs in self._runs.values())[: _FINALISTS + 1]
        kept = min(_FINAL_SHARE * self._budget, 1.5 * _FINAL_ROUNDS * sum(best))
        return len(self._runs) > 1 and (
            time.monotonic() + 2 * self._round_s(plans) > self._deadline - kept
        )

    def _round_s(self, plans: Sequence[Plan]) -> float:
        slowest = max((max(runs) for runs in self._runs.values()), default=0.0)
        # A plan that is new to the ranks has a turn that does not count before.
        new = sum(plan not in self._runs for plan in plans)
        return sum(max(self._runs.get(plan, [slowest])) for plan in plans) + new * slowest


def candidates_of(scenario: Scenario, options: Options, best: Plan) -> tuple[Plan, ...]:
    """The simulator's best plans, fastest first: its choice, even splits, and their neighbours."""
    space = space_of(scenario, options)
    pool = dict.fromkeys((best, *starts(space, exact_of(space, options))))
    pool |= dict.fromkeys(near for plan in tuple(pool) for near in space.neighbours(plan))
    plans = [plan for plan in pool if plan != SERIAL]
    outcomes = zip(plans, Evaluator(scenario)(plans), strict=True)
    judge = judge_of(scenario, options)
    timed = [
        (outcome.seconds, place, plan)
        for place, (plan, outcome) in enumerate(outcomes)
        if outcome.seconds is not None and _allowed(judge.over(plan, outcome.seconds))
    ]
    return tuple(plan for _, _, plan in sorted(timed)[:CANDIDATES])


def _allowed(over: Sequence[float]) -> bool:
    return all(excess <= 1e-12 for excess in over)
