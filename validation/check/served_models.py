"""A profile against whole models as engines serve them.

The time per output token at the smallest concurrency c is that of a decode step of c requests at
the context in the middle of the output, and a share of the prefills that interrupt it: requests of
one length that begin together also end together, so that a request waits for (c - 1) / 2 others'
prefills, on average, spread over its output tokens. The time to the first token contains the wait
in the engine's queue, so that it only bounds a prefill from above.
"""

from collections import Counter
from collections.abc import Sequence

from isotune.simulator.errors import InputError
from isotune.simulator.machine import HardwareProfile
from isotune.simulator.predict import CostModel, Scenario, SimulatedRun, latency_interval
from isotune.simulator.schedule import Plan, Workload
from isotune.validation.check.measured_passes import model_named
from isotune.validation.check.profile_check import Check, Part, Scored
from isotune.validation.tables import ServedRow, least_loaded

_TYPES = {"": "bf16", "bf16": "bf16", "fp8": "fp8", "fp8 block": "fp8_block", "nvfp4": "nvfp4"}


def check_served(name: str, rows: Sequence[ServedRow], profile: HardwareProfile) -> Check:
    """Score a profile against the rows of its machine."""
    unscored: Counter[str] = Counter()
    scored: list[Scored] = []
    here = [row for row in rows if row.machine == profile.name]
    unscored["measured on another machine"] = len(rows) - len(here)
    least = least_loaded(here)
    unscored["a larger concurrency of the same deployment"] = len(here) - len(least)
    for row in least:
        try:
            scored += _tokens(row, profile)
            unscored[_first_token(row, profile)] += 1
        except InputError as error:
            unscored[str(error)] += 1
    part = Part(name="end_to_end", rows=tuple(scored)) if scored else None
    reasons = {reason: count for reason, count in unscored.items() if reason and count}
    return Check(hw=profile.name, table=name, ops=(), end_to_end=part, unscored=reasons)


def _tokens(row: ServedRow, profile: HardwareProfile) -> list[Scored]:
    """The time per output token, where the row has it."""
    if row.tpot_ms is None or row.osl is None or row.isl is None:
        return []
    requests = row.concurrency or 1
    context = row.isl + row.osl // 2
    done = _priced(row, profile, phase="decode", batch=requests, prompt=context)
    prefill = _priced(row, profile, phase="prefill", batch=1, prompt=row.isl)
    predicted = done.latency + (requests - 1) / 2 * prefill.latency / row.osl
    low, high = (predicted / done.latency * end for end in latency_interval(done))
    return [
        Scored(
            what=str(row),
            line=row.line,
            predicted_s=predicted,
            measured_s=row.tpot_ms / 1e3,
            groups=(
                ("phase", "decode"),
                ("ranks", row.tp),
                ("engine", row.engine_name or "unnamed"),
                ("model", f"{row.model} {row.dtype or 'bf16'}"),
                ("source", row.source or "unnamed"),
            ),
            interval_s=(low, high),
        )
    ]


def _first_token(row: ServedRow, profile: HardwareProfile) -> str:
    """How the time to the first token compares with a prefill of one request."""
    if row.ttft_ms is None or row.isl is None:
        return ""
    done = _priced(row, profile, phase="prefill", batch=1, prompt=row.isl)
    if done.latency <= row.ttft_ms / 1e3:
        return "time to the first token: above the predicted prefill, as it must be"
    return "time to the first token: below the predicted prefill"


def _priced(row: ServedRow, profile: HardwareProfile, **fields: object) -> SimulatedRun:
    """A serial pass of the deployment.

    Raises:
        InputError: a model, type, engine or layout that cannot be predicted.
    """
    if row.dtype.lower() not in _TYPES:
        raise InputError(f"dtype {row.dtype!r:.40} is not known")
    if not row.tp.isdigit():
        raise InputError(f"tp {row.tp!r:.40} is not a number of ranks")
    asked = fields | {"engine": row.engine_name} if row.engine_name else fields
    try:
        workload = Workload.model_validate(
            {"tp": int(row.tp), "quant": _TYPES[row.dtype.lower()], **asked}
        )
    except ValueError as error:
        raise InputError(f"engine {row.engine!r:.40} or tp {row.tp!r:.20} is not known") from error
    scenario = Scenario(model=model_named(row.model), hardware=profile, workload=workload)
    return SimulatedRun(Plan(), CostModel(scenario))
