"""The steps that an engine makes of a prompt under a token budget, and the best plan of each.

An engine puts at most `budget` tokens into one pass: first one token for each running decode, then
as much of the prompt as there is room for (chunked prefill, arXiv 2308.16369). The first token of
the prompt comes after all its steps; each decode gets one token per step. Overlap happens within
a step, whose chunks divide the tokens of the whole batch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from isotune.simulator.errors import DoesNotFitError, InputError
from isotune.simulator.predict import SERIAL, Prediction, Scenario, predict
from isotune.simulator.schedule import SEARCHABLE, STRATEGIES, Plan, Sequences, Workload
from isotune.tuner.exact import even_sizes

MOST_STEPS = 256
"""Steps of one prompt that are searched one by one."""
_COARSE = 16
"""Split points compared at first; then those around the best, at the strategy's grain."""
_SAMPLED = 5
"""Steps of another budget that are searched; the others lie on the line between them."""
Batch = tuple[Sequences, ...]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One pass of an engine: its serial run, and its best plan."""

    serial: Prediction
    best: Prediction

    @property
    def workload(self) -> Workload:
        """What the pass holds."""
        return self.best.scenario.workload


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a token budget brings; seconds, serial and with the best plan of each step.

    `first_token` is the sum of the steps, `slowest` the longest of them: the longest time between
    two tokens of a decode.
    """

    tokens: int
    steps: int
    serial_first_token_s: float
    first_token_s: float
    serial_slowest_s: float
    slowest_s: float


@dataclass(frozen=True, kw_only=True)
class StepsResult:
    """The steps under one budget, and what other budgets would bring."""

    steps: tuple[Step, ...]
    asked: Budget
    others: tuple[Budget, ...]


def steps_of(prompt: int, budget: int, riding: Batch = ()) -> tuple[Batch, ...]:
    """What each step of a prompt holds: the next part of it, and the decodes that ride along.

    Raises:
        InputError: no room beside the decodes, or what rides along is no decode.
    """
    other = next((group for group in riding if group.kind != "decode"), None)
    if other is not None:
        raise InputError(
            f"--mix: {other} is no decode (allowed with --token-budget: COUNTx1@CONTEXT)"
        )
    room = budget - sum(group.count for group in riding)
    if room < 1:
        raise InputError(
            f"--token-budget: {budget} tokens leave none for the prompt beside "
            f"{budget - room} decodes"
        )
    count = -(-prompt // room)
    if count > MOST_STEPS:
        raise InputError(
            f"--token-budget: {budget} makes {count} steps of the prompt (allowed: {MOST_STEPS})"
        )
    return tuple(
        (
            Sequences(count=1, new_tokens=min(room, prompt - done), context=done),
            *(group.model_copy(update={"context": group.context + index}) for group in riding),
        )
        for index, done in enumerate(range(0, prompt, room))
    )


def search_steps(scenario: Scenario, prompt: int, budget: int, riding: Batch = ()) -> StepsResult:
    """The best plan of each step of a prompt, and what half, double and no budget would bring.

    Raises:
        InputError: see `steps_of`.
        DoesNotFitError: a step does not fit in memory, whatever its plan.
    """
    steps = tuple(best_step(scenario, batch) for batch in steps_of(prompt, budget, riding))
    decodes = sum(group.count for group in riding)
    whole = prompt + decodes
    tokens = [size for size in (budget // 2, 2 * budget, 4 * budget) if decodes < size < whole]
    others = [_other(scenario, prompt, size, riding) for size in dict.fromkeys([*tokens, whole])]
    return StepsResult(
        steps=steps,
        asked=_budget(
            budget, [step.serial.latency_s for step in steps], [s.best.latency_s for s in steps]
        ),
        others=tuple(one for one in others if one is not None and one.tokens != budget),
    )


def search_batch(scenario: Scenario, batch: Batch) -> StepsResult:
    """The best plan of one mixed batch.

    Raises:
        DoesNotFitError: see `best_step`.
    """
    step = best_step(scenario, batch)
    tokens = sum(group.count * group.new_tokens for group in batch)
    asked = _budget(tokens, [step.serial.latency_s], [step.best.latency_s])
    return StepsResult(steps=(step,), asked=asked, others=())


def best_step(scenario: Scenario, batch: Batch) -> Step:
    """The best plan of one pass: splits at a coarse and then at a fine grain, then SM budgets.

    Raises:
        DoesNotFitError: neither the serial pass nor a split of it fits.
    """
    own = {"phase", "batch", "prompt", "sequences"}
    fields = {
        name: getattr(scenario.workload, name) for name in Workload.model_fields if name not in own
    }
    case = replace(scenario, workload=Workload.mixed(*batch, **fields))
    serial = predict(case, SERIAL, must_fit=False)
    best = serial if serial.memory.fits else None
    for name in SEARCHABLE:
        how = STRATEGIES[name]
        if not how.chunked or how.obstacle(case.workload) is not None:
            continue
        best = _faster(best, _best_split(case, name))
    if best is None:
        best = predict(case, SERIAL)  # which says why it does not fit
    if best.plan.overlaps:
        plans = [best.plan.model_copy(update={"comm_sms": sms}) for sms in case.sm_budgets]
        best = min((best, *_fitting(case, plans)), key=lambda found: found.latency_s)
    return Step(serial=serial, best=best)


def _fitting(case: Scenario, plans: Sequence[Plan]) -> Iterator[Prediction]:
    for plan in plans:
        if (found := _tried(case, plan)) is not None:
            yield found


def _best_split(case: Scenario, name: str) -> Prediction | None:
    how = STRATEGIES[name]
    total = how.total(case.workload.share)
    grain = how.grain(total)
    points = range(grain, total, grain)
    every = max(1, len(points) // _COARSE)
    best: Prediction | None = None
    for first in points[::every]:
        best = _faster(best, _tried(case, _halves(name, first, total)))
    if best is not None and every > 1:
        near = best.plan.chunks[0]
        for first in points:
            if 0 < abs(first - near) < every * grain:
                best = _faster(best, _tried(case, _halves(name, first, total)))
    for parts in range(3, 5):
        sizes = even_sizes(how, np.array([total]), parts)[0].tolist()
        if min(sizes) > 0:
            best = _faster(best, _tried(case, Plan(strategy=name, chunks=tuple(sizes))))
    return best


def _halves(name: str, first: int, total: int) -> Plan:
    return Plan(strategy=name, chunks=(first, total - first))


def _tried(case: Scenario, plan: Plan) -> Prediction | None:
    try:
        return predict(case, plan)
    except DoesNotFitError:
        return None


def _faster(one: Prediction | None, other: Prediction | None) -> Prediction | None:
    if one is None or other is None:
        return one or other
    return min(one, other, key=lambda found: found.latency_s)


def _other(scenario: Scenario, prompt: int, tokens: int, riding: Batch) -> Budget | None:
    """Another budget from some of its steps; None where it makes too many or does not fit."""
    try:
        batches = steps_of(prompt, tokens, riding)
        chosen = _sample(batches)
        found = [best_step(scenario, batches[index]) for index in chosen]
    except (InputError, DoesNotFitError):
        return None
    whole = np.arange(len(batches))
    lines = (
        np.interp(whole, chosen, [getattr(step, kind).latency_s for step in found]).tolist()
        for kind in ("serial", "best")
    )
    return _budget(tokens, *lines)


def _sample(batches: Sequence[Batch]) -> list[int]:
    """The first, the last, the one before it, and some between: the last may be a short rest."""
    last = len(batches) - 1
    spread = np.linspace(0, max(0, last - 1), _SAMPLED - 1).round().astype(int).tolist()
    return sorted({*spread, last})


def _budget(tokens: int, serial: Sequence[float], best: Sequence[float]) -> Budget:
    return Budget(
        tokens=tokens,
        steps=len(best),
        serial_first_token_s=sum(serial),
        first_token_s=sum(best),
        serial_slowest_s=max(serial),
        slowest_s=max(best),
    )
