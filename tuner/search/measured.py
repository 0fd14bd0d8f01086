"""The search by real runs: the simulator proposes, real runs decide, Optuna goes on."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from isotune.simulator.predict import SERIAL, Scenario
from isotune.simulator.schedule import Plan
from isotune.tuner.search.best_plan import Options, exact_of, judge_of, space_of, starts
from isotune.tuner.search.distributed import SharedStudy, work
from isotune.tuner.search.objectives import Evaluator
from isotune.tuner.search.storages import open_storage
from isotune.tuner.search.study import Settings, run_study
from isotune.tuner.search.trial import Trial

CANDIDATES = 8
"""Plans of the simulator that are measured before Optuna goes on."""
_FINALISTS = 3
_ROUNDS = 3
_FINAL_ROUNDS = 9
_FINAL_SHARE = 0.2
"""At most this share of the budget is kept for the last comparison, in turns."""


class Bench(Protocol):
    """What plans are measured with."""

    def measure(self, plans: Sequence[Plan], rounds: int, *, final: bool = False) -> list[float]:
        """Run plans in turns; seconds of each, the median over `rounds`.

        A plan that runs for the first time has one more turn before the first that counts;
        `final` marks the last comparison.
        """


@dataclass(frozen=True, kw_only=True)
class StudyAddress:
    """A study that several machines measure for: its storage's URL and its name."""

    url: str
    study: str


@dataclass(frozen=True, kw_only=True)
class MeasuredStudy:
    """Measures candidates in turns, lets Optuna go on from them, and the best meet again.

    `budget_s` counts from the call.
    """

    scenario: Scenario
    options: Options
    candidates: tuple[Plan, ...]
    budget_s: float
    shared: StudyAddress | None = None

    def __call__(self, bench: Bench) -> None:
        """Spend the budget on the bench."""
        runs = _Runs(bench, self.budget_s, self.scenario)
        also: tuple[Plan, ...] = ()
        if runs.begin((SERIAL, *self.candidates)):
            if self.shared is None:
                self._optimise(runs)
            else:
                also = self._share(runs, self.shared)
        runs.finish(also)

    def _optimise(self, runs: "_Runs") -> None:
        """Optuna, with real seconds as its objective."""
        settings = Settings(
            trials=None,
            deadline=runs.deadline,
            seed=self.options.seed,
            sampler=self.options.sampler,
            at_once=1,
        )
        space, judge = space_of(self.scenario, self.options), judge_of(self.scenario, self.options)
        run_study(space, judge, runs, settings, self.candidates)

    def _share(self, runs: "_Runs", address: StudyAddress) -> tuple[Plan, ...]:
        """The same in a shared study; the best plan of all workers, whoever measured it."""
        shared = SharedStudy(
            storage=open_storage(address.url),
            name=address.study,
            space=space_of(self.scenario, self.options),
            judge=judge_of(self.scenario, self.options),
            trials=self.options.trials,
            seed=self.options.seed,
            sampler=self.options.sampler,
            deadline=runs.deadline,
        )
        best = work(shared, runs).best
        return (best.plan,) if best else ()


class _Runs(Evaluator):
    """Tries plans by real runs; a plan that comes again is measured again."""

    def __init__(self, bench: Bench, budget_s: float, scenario: Scenario) -> None:
        super().__init__(scenario)
        self._bench, self._budget_s = bench, budget_s
        self._end = time.monotonic() + budget_s
        self._seconds: dict[Plan, list[float]] = {}
        self._fresh: set[Plan] = set()

    @property
    def deadline(self) -> float:
        """Time after which no other plan is begun: it would run into the last comparison's."""
        return self._end - self._kept_s() - (_ROUNDS + 1) * self._slowest_s()

    def begin(self, plans: Sequence[Plan]) -> bool:
        """Measure the first plans: each once, then all in turns; False if the budget is spent."""
        rounds = [*((plan,) for plan in plans), *[tuple(plans)] * (_ROUNDS - 1)]
        for together in rounds:
            if len(self._seconds) > 1 and not self._room(together):
                return False
            self._measure(together)
        self._fresh |= set(plans)
        return True

    def __call__(self, plans: Sequence[Plan]) -> list[Trial]:
        """See `Evaluator`."""
        return [self._trial(plan) for plan in plans]

    def _trial(self, plan: Plan) -> Trial:
        if pruned := self._misfit(plan):
            return pruned
        if plan in self._fresh:  # a candidate, measured before the study began
            self._fresh.remove(plan)
        else:
            for _ in range(_ROUNDS):
                self._measure((plan,))
        return Trial(plan=plan, seconds=self._median(plan))

    def finish(self, also: Sequence[Plan] = ()) -> None:
        """The best plans, `also` and the serial run once more, in turns: the fair comparison."""
        ranked = sorted(self._seconds, key=self._median)
        best = [plan for plan in ranked if plan != SERIAL][:_FINALISTS]
        plans = list(dict.fromkeys((SERIAL, *best, *also)))
        left = self._end - time.monotonic()
        rounds = max(1, min(_FINAL_ROUNDS, int(left / max(self._round_s(plans), 1e-6))))
        self._bench.measure(plans, rounds, final=True)

    def _measure(self, plans: Sequence[Plan]) -> None:
        for plan, seconds in zip(plans, self._bench.measure(plans, 1), strict=True):
            self._seconds.setdefault(plan, []).append(seconds)

    def _median(self, plan: Plan) -> float:
        return float(np.median(self._seconds[plan]))

    def _room(self, plans: Sequence[Plan]) -> bool:
        """Whether a round of plans leaves the time that is kept for the end."""
        return time.monotonic() + 2 * self._round_s(plans) <= self._end - self._kept_s()

    def _kept_s(self) -> float:
        """Seconds that are kept for the last comparison."""
        best = sorted(map(self._median, self._seconds))[: _FINALISTS + 1]
        return min(_FINAL_SHARE * self._budget_s, 1.5 * _FINAL_ROUNDS * sum(best))

    def _slowest_s(self) -> float:
        return max((max(runs) for runs in self._seconds.values()), default=0.0)

    def _round_s(self, plans: Sequence[Plan]) -> float:
        slowest = self._slowest_s()
        # A plan that is new to the ranks has a turn that does not count before.
        new = sum(plan not in self._seconds for plan in plans)
        return sum(max(self._seconds.get(plan, [slowest])) for plan in plans) + new * slowest


def candidates_of(scenario: Scenario, options: Options, best: Plan) -> tuple[Plan, ...]:
    """The simulator's best plans, fastest first: its choice, even splits, and their neighbours."""
    space = space_of(scenario, options)
    pool = dict.fromkeys((best, *starts(space, exact_of(space, options))))
    pool |= dict.fromkeys(near for plan in tuple(pool) for near in space.neighbours(plan))
    plans = [plan for plan in pool if plan != SERIAL]
    judge = judge_of(scenario, options)
    trials = [judge.judged(trial) for trial in Evaluator(scenario)(plans)]
    within = [trial for trial in trials if trial.values and trial.feasible]
    fastest = sorted(within, key=lambda trial: trial.seconds)
    return tuple(trial.plan for trial in fastest[:CANDIDATES])
