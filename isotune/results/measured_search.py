"""What `isotune search --measured` prints: plans predicted beside measured."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field

from isotune.results._result import MOST, Part, Result, Seconds, Word
from isotune.results.machine import Machine
from isotune.results.search import Repairs
from isotune.simulator import predict as simulated
from isotune.simulator.predict import SERIAL, Scenario, predict
from isotune.simulator.schedule import Measurement, Plan, Workload, kind_seconds

if TYPE_CHECKING:
    from isotune.validation.real_run import BenchmarkRun


class Pair(Part):
    """Predicted and measured seconds of a kind of step."""

    predicted_s: float
    measured_s: float | None


class Tried(Part):
    """A plan that ran; the simulator `proposed` it, or not. `measured_s` is its runs' median."""

    plan: Plan
    proposed: bool
    predicted_s: Seconds
    measured_s: Seconds
    measured_all_s: tuple[Seconds, ...] = Field(min_length=1)

    @property
    def error(self) -> float:
        """Predicted over measured, less one."""
        return self.predicted_s / self.measured_s - 1.0


class MeasuredSearch(Repairs, Result):
    """All plans that ran, fastest first, and the best of the last comparison in turns.

    Until it came to that, or where the run ended early, the best is that of all rounds. The
    saving is against the serial run of the same rounds; None if that was not measured.
    `rank_correlation` is Spearman's, of predicted and measured; None below three plans. `kinds`
    are means over the plans by kind of step, the most wrong one first.
    """

    kind: Literal["measured"] = "measured"
    model: str = ""
    hardware: str = ""
    workload: Workload | None = None
    plan: Plan
    measured_s: Seconds
    predicted_s: Seconds
    serial_measured_s: Seconds | None
    measured_saving: float | None
    predicted_saving: float
    compared_in_turns: bool
    rank_correlation: float | None
    kinds: dict[Word, Pair]
    tried: tuple[Tried, ...] = Field(min_length=1, max_length=MOST)
    complete_run: bool = Field(default=True, alias="complete")
    failure: str | None
    machine: Machine | None = None
    notes: tuple[str, ...] = ()
    plan_file: str | None = None

    @classmethod
    def of(cls, scenario: Scenario, run: "BenchmarkRun", proposed: Sequence[Plan]) -> Self | None:
        """What a driven run found; None if it ended before any plan had run on all ranks."""
        if not run.measured:
            return None
        predicted = {plan: predict(scenario, plan) for plan, _ in (*run.measured, *run.finals)}
        tried = _ranked(run.measured)
        field = _ranked(run.finals) or tried
        plan, best = field[0]
        serial = dict(field).get(SERIAL)
        return cls(
            model=scenario.model.name,
            hardware=scenario.hardware.name,
            workload=scenario.workload,
            plan=plan,
            measured_s=best.median_s,
            predicted_s=predicted[plan].latency_s,
            serial_measured_s=None if serial is None else serial.median_s,
            measured_saving=None if serial is None else 1.0 - best.median_s / serial.median_s,
            predicted_saving=predicted[plan].saving,
            compared_in_turns=bool(run.finals),
            rank_correlation=_rank_correlation(tried, predicted),
            kinds=_kinds(tried, predicted),
            tried=tuple(
                Tried(
                    plan=plan,
                    proposed=plan in proposed,
                    predicted_s=predicted[plan].latency_s,
                    measured_s=ran.median_s,
                    measured_all_s=tuple(ran.latencies),
                )
                for plan, ran in tried
            ),
            complete=run.failure is None,
            failure=run.failure,
            machine=None if run.machine is None else Machine.like(run.machine),
            notes=() if run.machine is None else tuple(run.machine.notes(scenario.hardware)),
        )

    def rows(self) -> list[dict[str, Any]]:
        """One row per plan that ran."""
        return [
            {
                "plan": tried.plan.strategy,
                "chunks": tried.plan.chunks,
                "predicted_s": tried.predicted_s,
                "measured_s": tried.measured_s,
                "error": tried.error,
                "runs": len(tried.measured_all_s),
            }
            for tried in self.tried
        ]


_Ran = list[tuple[Plan, Measurement]]
_Predicted = dict[Plan, simulated.Prediction]


def _ranked(pairs: Sequence[tuple[Plan, Measurement]]) -> _Ran:
    return sorted(pairs, key=lambda item: item[1].median_s)


def _rank_correlation(tried: _Ran, predicted: _Predicted) -> float | None:
    from scipy.stats import spearmanr

    if len(tried) < 3:
        return None
    latencies = [predicted[plan].latency_s for plan, _ in tried]
    found = float(spearmanr(latencies, [ran.median_s for _, ran in tried]).statistic)
    return None if math.isnan(found) else found  # as where all are equal


def _kinds(tried: _Ran, predicted: _Predicted) -> dict[str, Pair]:
    """Mean predicted and measured seconds of each kind of step, the most wrong one first."""
    sums: dict[str, list[float]] = {}
    for plan, ran in tried:
        expected = kind_seconds(predicted[plan].program, predicted[plan].timeline)
        for kind, seconds in kind_seconds(ran.program, ran.timeline).items():
            both = sums.setdefault(kind, [0.0, 0.0])
            both[0] += expected.get(kind, 0.0) / len(tried)
            both[1] += seconds / len(tried)
    ordered = sorted(sums.items(), key=lambda item: -abs(item[1][0] - item[1][1]))
    return {kind: Pair(predicted_s=a, measured_s=b) for kind, (a, b) in ordered}
