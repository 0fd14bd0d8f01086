"""What overlap saves at one prompt length after another."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from isotune.simulator.errors import DoesNotFitError
from isotune.simulator.predict import Scenario, predict
from isotune.simulator.schedule import CommDtype, Plan
from isotune.tuner.exact import best_split
from isotune.tuner.techniques import LONGEST_PROMPT

SHORTEST_PROMPT = 128
_POINTS = 21


@dataclass(frozen=True, kw_only=True)
class AtLength:
    """A plan at one prompt length (tokens): seconds, the saving and its 80 % interval."""

    prompt: int
    plan: Plan
    latency_s: float
    serial_latency_s: float
    saving: float
    saving_interval: tuple[float, float]


def by_length(
    scenario: Scenario,
    plan_at: Callable[[Scenario], Plan | None],
    first: int = SHORTEST_PROMPT,
    last: int = LONGEST_PROMPT,
) -> Iterator[AtLength]:
    """What `plan_at` chooses for prompts from `first` to `last`, evenly over their logarithm.

    Lengths without a plan, and those that do not fit in memory, are left out.
    """
    for length in np.unique(np.geomspace(first, last, _POINTS).round().astype(int)).tolist():
        at_length = scenario.with_workload(prompt=length)
        plan = plan_at(at_length)
        if plan is None:
            continue
        try:
            prediction = predict(at_length, plan)
        except DoesNotFitError:
            continue
        yield AtLength(
            prompt=length,
            plan=plan,
            latency_s=prediction.latency_s,
            serial_latency_s=prediction.serial_latency_s,
            saving=prediction.saving,
            saving_interval=prediction.saving_interval,
        )


def best_iso(
    comm_dtype: CommDtype = "bf16", dropped: tuple[int, ...] = ()
) -> Callable[[Scenario], Plan | None]:
    """The best two-chunk split of any prompt, with this transfer type and drop set."""

    def plan_at(scenario: Scenario) -> Plan | None:
        best = best_split(scenario, comm_dtypes=(comm_dtype,), drop_sets=(dropped,), chunks=2)
        return None if best is None else best.plan

    return plan_at
