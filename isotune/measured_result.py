"""What a measured search found: plans predicted beside measured, and where the simulator erred."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scipy.stats import spearmanr

from isotune.simulator.predict import SERIAL, Prediction, Scenario, predict
from isotune.simulator.schedule import Measurement, Plan, kind_seconds
from isotune.validation.real_run import BenchmarkRun


@dataclass(frozen=True, kw_only=True, eq=False)
class Tried:
    """A plan as predicted and as measured; `proposed` if the simulator chose it."""

    prediction: Prediction
    measured: Measurement
    proposed: bool

    @property
    def plan(self) -> Plan:
        """Which plan."""
        return self.prediction.plan

    @property
    def error(self) -> float:
        """Predicted over measured, less one."""
        return self.prediction.latency_s / self.measured.median_s - 1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class MeasuredSearch:
    """All plans that ran, fastest first, and the best of the last comparison in turns.

    Until it came to that, or where the run ended early, the best is that of all rounds.
    `saving` is against the serial run of the same rounds; None if that was not measured.
    """

    best: Tried
    serial: Tried | None
    tried: tuple[Tried, ...]
    compared_in_turns: bool
    failure: str | None

    @property
    def saving(self) -> float | None:
        """Measured share of the serial latency that the best plan saves."""
        if self.serial is None:
            return None
        return 1.0 - self.best.measured.median_s / self.serial.measured.median_s

    @property
    def rank_correlation(self) -> float | None:
        """Spearman's, of predicted and measured latencies; None below three plans."""
        if len(self.tried) < 3:
            return None
        predicted = [item.prediction.latency_s for item in self.tried]
        measured = [item.measured.median_s for item in self.tried]
        found = float(spearmanr(predicted, measured).statistic)
        return None if math.isnan(found) else found  # as where all are equal

    @property
    def kinds(self) -> Mapping[str, tuple[float, float]]:
        """Mean predicted and measured seconds of each kind of step, the most wrong one first."""
        sums: dict[str, list[float]] = {}
        for item in self.tried:
            predicted = kind_seconds(item.prediction.program, item.prediction.timeline)
            measured = kind_seconds(item.measured.program, item.measured.timeline)
            for kind, seconds in measured.items():
                both = sums.setdefault(kind, [0.0, 0.0])
                both[0] += predicted.get(kind, 0.0) / len(self.tried)
                both[1] += seconds / len(self.tried)
        ordered = sorted(sums.items(), key=lambda item: -abs(item[1][0] - item[1][1]))
        return {kind: (predicted, measured) for kind, (predicted, measured) in ordered}


def measured_search(
    scenario: Scenario, run: BenchmarkRun, proposed: tuple[Plan, ...]
) -> MeasuredSearch | None:
    """What a driven run found; None if it ended before any plan had run on all ranks."""
    if not run.measured:
        return None

    def tried(pairs: tuple[tuple[Plan, Measurement], ...]) -> tuple[Tried, ...]:
        found = [
            Tried(prediction=predict(scenario, plan), measured=ran, proposed=plan in proposed)
            for plan, ran in pairs
        ]
        return tuple(sorted(found, key=lambda item: item.measured.median_s))

    everything, finals = tried(run.measured), tried(run.finals)
    field = finals or everything
    serial = [item for item in field if item.plan == SERIAL]
    return MeasuredSearch(
        best=field[0],
        serial=serial[0] if serial else None,
        tried=everything,
        compared_in_turns=bool(finals),
        failure=run.failure,
    )


def measured_dict(found: MeasuredSearch) -> dict[str, Any]:
    """A measured search as plain data; times in seconds."""
    return {
        "plan": found.best.plan.model_dump(mode="json"),
        "measured_s": found.best.measured.median_s,
        "predicted_s": found.best.prediction.latency_s,
        "serial_measured_s": found.serial.measured.median_s if found.serial else None,
        "measured_saving": found.saving,
        "predicted_saving": found.best.prediction.saving,
        "compared_in_turns": found.compared_in_turns,
        "rank_correlation": found.rank_correlation,
        "kinds": {
            kind: {"predicted_s": predicted, "measured_s": measured}
            for kind, (predicted, measured) in found.kinds.items()
        },
        "tried": [
            {
                "plan": item.plan.model_dump(mode="json"),
                "proposed": item.proposed,
                "predicted_s": item.prediction.latency_s,
                "measured_s": item.measured.median_s,
                "measured_all_s": list(item.measured.latencies),
            }
            for item in found.tried
        ],
        "complete": found.failure is None,
        "failure": found.failure,
    }
