"""The plan that is best over the errors of the profile, not only at its nominal figures.

Every operation class of `predict.uncertainty` (contention among them) gets one factor per draw,
log-normal with the relative error of its calibration; all candidates are timed under the same
draws, so that they are compared, not their noise.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from isotune.simulator.batch import Array, Batch, Timer
from isotune.simulator.errors import InputError
from isotune.simulator.io import check_known
from isotune.simulator.machine import CLASSES
from isotune.simulator.predict import Factors, GpuMemory, Scenario
from isotune.simulator.schedule import Plan
from isotune.tuner.choices import MODES
from isotune.tuner.exact import batch_of, chosen_plan, spaces

DRAWS = 64
NEAR = 0.01


@dataclass(frozen=True, kw_only=True)
class RobustChoice:
    """The chosen plan, and how the choice could change.

    `saving_interval` holds 5 and 95 % of its saving against serial under the same draw; `best_in`
    and `near_best_in` the shares of draws in which it is the best plan, or within 1 % of it;
    `winners` the plans that are best in some draw, the most frequent first.
    """

    mode: str
    plan: Plan
    expected_s: float
    worst_s: float
    saving_interval: tuple[float, float]
    best_in: float
    near_best_in: float
    winners: tuple[tuple[Plan, float], ...]
    draws: int


def errors_of(scenario: Scenario) -> dict[str, float]:
    """Relative standard error of each operation class.

    Raises:
        InputError: the profile has none.
    """
    known = {name: error for name, error in scenario.class_errors().items() if error}
    if not known:
        raise InputError(
            f"--robust: profile {scenario.hardware.name} has no errors "
            f"(needed: {', '.join(CLASSES)})"
        )
    return known


def robust_choice(
    scenario: Scenario,
    errors: Mapping[str, float],
    mode: str = "expected",
    *,
    also: Plan | None = None,
    overlap: bool = True,
    draws: int = DRAWS,
    seed: int = 0,
) -> RobustChoice:
    """The best of serial, every two-chunk ISO plan and `also`, over draws of the errors.

    `also` gives transfer type and drop set of them all.

    Raises:
        InputError: an unknown mode or class of ops.
    """
    check_known("--robust", (mode,), MODES)
    check_known("errors", sorted(errors), CLASSES)
    base = also or Plan()
    drawn = _draws(errors, draws, seed)
    plain = Plan(comm_dtype=base.comm_dtype, dropped=base.dropped)
    batches = [batch_of(scenario, plain)] if GpuMemory(scenario).of(plain).fits else []
    if also is not None and also.overlaps:
        batches.append(batch_of(scenario, also))
    if overlap and scenario.workload.parallelism.communicates:
        for batch in spaces(scenario, 2, (base.comm_dtype,)):
            plan = batch.plan.model_copy(update={"dropped": base.dropped})
            batches.append(replace(batch, plan=plan))
    timer, baseline = Timer(scenario), batch_of(scenario, Plan())
    times = np.concatenate([timer.run_with(batch, drawn) for batch in batches], axis=1)
    serial = timer.run_with(baseline, drawn)[:, 0]
    return _choose(batches, times, serial, mode)


def _choose(batches: list[Batch], times: Array, serial: Array, mode: str) -> RobustChoice:
    """Choose a column of `times` [draws, plans] beside `serial` [draws]."""
    plans = [
        chosen_plan(batch, split, batch.plan.dropped)
        for batch in batches
        for split in range(len(batch.splits))
    ]
    score = times.mean(axis=0) if mode == "expected" else times.max(axis=0)
    chosen = int(score.argmin())
    best = times.min(axis=1)
    wins = Counter(plans[index] for index in times.argmin(axis=1).tolist())
    saving = 1.0 - times[:, chosen] / serial
    return RobustChoice(
        mode=mode,
        plan=plans[chosen],
        expected_s=float(times[:, chosen].mean()),
        worst_s=float(times[:, chosen].max()),
        saving_interval=(float(np.quantile(saving, 0.05)), float(np.quantile(saving, 0.95))),
        best_in=wins[plans[chosen]] / len(times),
        near_best_in=float((times[:, chosen] <= (1 + NEAR) * best).mean()),
        winners=tuple((plan, count / len(times)) for plan, count in wins.most_common()),
        draws=len(times),
    )


def _draws(errors: Mapping[str, float], draws: int, seed: int) -> list[Factors]:
    """A factor of every class per draw; their mean is one."""
    rng = np.random.default_rng(seed)
    sigma = np.sqrt([np.log1p(errors.get(name, 0.0) ** 2) for name in CLASSES])
    factors = np.exp(sigma * rng.standard_normal((draws, len(CLASSES))) - sigma**2 / 2)
    return [Factors(classes=dict(zip(CLASSES, row, strict=True))) for row in factors.tolist()]
