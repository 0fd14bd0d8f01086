"""Plans, workloads, times and verdicts in words; what came from outside is made safe to print."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol, get_args

from isotune.simulator.architecture import CollectiveKind
from isotune.simulator.io import printable
from isotune.simulator.predict import Scenario
from isotune.simulator.schedule import Plan, Workload, technique_label


class Timed(Protocol):
    """What a verdict is about: a prediction, or one read back from a file."""

    @property
    def plan(self) -> Plan: ...  # noqa: D102
    @property
    def latency_s(self) -> float: ...  # noqa: D102
    @property
    def latency_interval_s(self) -> tuple[float, float]: ...  # noqa: D102
    @property
    def serial_latency_s(self) -> float: ...  # noqa: D102
    @property
    def exposed_comm_s(self) -> float: ...  # noqa: D102
    @property
    def saving(self) -> float: ...  # noqa: D102
    @property
    def saving_interval(self) -> tuple[float, float]: ...  # noqa: D102
    @property
    def saving_is_certain(self) -> bool: ...  # noqa: D102


def count(number: int, noun: str) -> str:
    """`1 GPU`, `8 GPUs`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def few(names: Sequence[str], others: str = "more", between: str = ", ") -> str:
    """The first three names, and how many `others` there are."""
    shown = between.join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} {others}"


class Room(Protocol):
    """Bytes that one GPU needs and has."""

    @property
    def needed(self) -> float: ...  # noqa: D102
    @property
    def capacity(self) -> float: ...  # noqa: D102


def strategy_text(name: str) -> str:
    """`gemm_overlap` as people write it."""
    return technique_label(name)


def title_of(part: str) -> str:
    """`end_to_end` as `whole passes`."""
    return "whole passes" if part == "end_to_end" else part.replace("_", " ")


def fitted_text(section: str) -> str:
    """`collectives.algorithms.nccl.protocols` as `nccl all-reduce`; another kind as `nccl KIND`."""
    *_, name, last = ["", *section.split(".")]
    head, _, kind = section.partition(".kinds.")
    if kind:
        return f"{head.rpartition('.')[2]} {title_of(kind)}"
    return f"{name} all-reduce" if last == "protocols" else section.replace("_", " ")


def milliseconds(seconds: float) -> str:
    """`0.4306` as `430.6 ms`, with four digits or so."""
    value = seconds * 1e3
    digits = 3 if value < 1 else 2 if value < 100 else 1 if value < 1_000 else 0
    return f"{value:,.{digits}f} ms"


def percent(share: float) -> str:
    """`0.2301` as `23.0 %`."""
    return f"{share * 100:.1f} %"


def rough(value: float, digits: int = 3) -> str:
    """`448.78` as `449` and `2956.2` as `2,960`: as many digits as an interval bears."""
    if value == 0:
        return "0"
    rounded = round(value, digits - 1 - math.floor(math.log10(abs(value))))
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(rounded))))
    return f"{rounded:,.{decimals}f}"


def rough_ms(seconds: float) -> str:
    """`0.44878` as `449 ms`."""
    return f"{rough(seconds * 1e3)} ms"


def rough_ends(low: float, high: float) -> str:
    """The ends of an interval, each with two digits."""
    return f"{rough(low, 2)} to {rough(high, 2)}"


def points_text(points: float) -> str:
    """How much less a simpler plan saves, in points of percent."""
    return f"{points:.1f} points less" if points >= 0.05 else "no less"


def effect(times: Timed) -> str:
    """What a plan brings: `17.7 % faster (80 % interval: 11 to 24 %)`; one sign per sentence."""
    low, high = (end * 100 for end in times.saving_interval)
    if not times.saving_is_certain:
        said = f"{percent(abs(times.saving))} {_pace(times.saving)}, which is less than its error"
        ends = " to ".join(f"{rough(abs(end), 2)} % {_pace(end)}" for end in (low, high))
        return f"{said} (80 % interval: {ends})"
    if times.saving < 0:
        low, high = -high, -low
    said = f"{percent(abs(times.saving))} {_pace(times.saving)}"
    return f"{said} (80 % interval: {rough_ends(low, high)} %)"


def _pace(saving: float) -> str:
    return "faster" if saving >= 0 else "slower"


def technique_text(plan: Plan) -> str:
    """What a plan does, in a few words: `ISO`, `SPD (56 blocks)`, `ISO with int8 all-reduce`."""
    parts = [] if plan.serial else [strategy_text(plan.strategy)]
    parts += [f"SPD ({count(len(plan.dropped), 'block')})"] * bool(plan.dropped)
    parts += [f"{plan.comm_dtype} all-reduce"] * plan.quantised
    return " with ".join(parts[:2]) + "".join(f" and {part}" for part in parts[2:]) or "serial"


def plan_text(plan: Plan) -> str:
    """A plan in one line."""
    parts = [_cut_text(plan)]
    parts += [f"{plan.comm_dtype} transfer"] * plan.quantised
    if plan.overlaps:
        held = "its default number of SMs" if plan.comm_sms is None else count(plan.comm_sms, "SM")
        parts.append(f"all-reduce on {held}")
    if plan.dropped:
        parts.append(
            f"{count(len(plan.dropped), 'attention all-reduce')} dropped "
            f"({'block' if len(plan.dropped) == 1 else 'blocks'} {_ranges(plan.dropped)})"
        )
    return ", ".join(parts)


def treatments_text(treatments: Mapping[int, str]) -> str:
    """How many dropped blocks are recovered in which way."""
    counts = Counter(treatments.values()).most_common()
    return ", ".join(f"{times} {name}" for name, times in counts) or "none"


def _cut_text(plan: Plan) -> str:
    split = f", chunks of {_sizes(plan.chunks)} {plan.how.unit}" if plan.chunks else ""
    return plan.how.label + split


def _sizes(chunks: tuple[int, ...]) -> str:
    if len(chunks) > 8:
        return f"{min(chunks)} to {max(chunks)} ({len(chunks)} of them)"
    return " + ".join(str(size) for size in chunks)


def _ranges(blocks: tuple[int, ...]) -> str:
    """`0,1,2,7` as `0-2,7`."""
    runs: list[list[int]] = []
    for block in blocks:
        if runs and block == runs[-1][1] + 1:
            runs[-1][1] = block
        else:
            runs.append([block, block])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def scenario_text(scenario: Scenario) -> str:
    """A scenario in one line."""
    return workload_text(scenario.model.name, scenario.hardware.name, scenario.workload)


def _each(work: Workload) -> str:
    """What the requests of a batch put through the blocks."""
    if work.phase == "prefill":
        return f"{work.prompt} tokens"
    if work.phase == "decode":
        return f"1 token after {work.prompt}"
    return " and ".join(
        f"{one.count} x {one.new_tokens} token{'s' * (one.new_tokens > 1)} after {one.context}"
        for one in work.contents
    )


def workload_text(model: str, hardware: str, work: Workload) -> str:
    """What is asked of which model and machine, in one line."""
    what = f"batch {work.batch}, " + _each(work)
    ranks = work.parallelism
    shared = "" if ranks.gpus == ranks.tp and ranks.ep == 1 else f" ({ranks.text})"
    return printable(
        f"{model} on {count(ranks.gpus, 'GPU')} of {hardware}{shared}: {work.phase}, {what}, "
        f"{work.types}, engine {work.engine}"
    )


def serial_misfit(needed: Room | None) -> str:
    """That the serial pass has no room, so that its times are of a pass nobody can run."""
    why = ""
    if needed is not None:
        why = (
            f": each GPU needs {needed.needed / 1e9:.1f} GB and has {needed.capacity / 1e9:.1f} GB"
        )
    return f"Serial does not fit in memory{why}; its times are predicted all the same."


def gap_text(gap: float) -> str:
    """How far Optuna's best lies above the exact optimum of chunked plans, or below it."""
    if gap < -5e-5:
        return f"Optuna's best, a plan of another kind, is {-gap * 100:.2f} % below"
    return f"Optuna's gap {gap * 100:+.2f} %"


def op_text(name: str) -> str:
    """An operation's or a step's name as people write it: `mlp_all_reduce` is `mlp all-reduce`."""
    for kind in get_args(CollectiveKind):
        name = name.replace(kind, kind.replace("_", "-"))
    return name.replace("_", " ")


def verdict(prediction: Timed) -> str:
    """One plan in one sentence, with its interval."""
    now, before = rough_ms(prediction.latency_s), rough_ms(prediction.serial_latency_s)
    if prediction.plan.serial and not prediction.plan.lossy:
        low, high = (end * 1e3 for end in prediction.latency_interval_s)
        return (
            f"Serial takes {now} (80 % interval: {rough(low)} to {rough(high)} ms); "
            f"{percent(_share(prediction))} of it is communication."
        )
    name = technique_text(prediction.plan)
    return (
        f"{name[0].upper()}{name[1:]} takes {now} instead of {before}: "
        f"{effect(prediction)}{loss_text(prediction.plan)}."
    )


def loss_text(plan: Plan) -> str:
    """What a sentence about a plan must add: whether the model's numbers change, and by what."""
    return f"; the model's outputs change ({', '.join(plan.changes)})" if plan.lossy else ""


def _share(prediction: Timed) -> float:
    return prediction.exposed_comm_s / prediction.latency_s


def figure(value: object) -> str:
    """A figure of a profile as text; quantities already carry their unit."""
    return f"{value:g}" if isinstance(value, float) else str(value)
