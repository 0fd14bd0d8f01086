"""The section of a policy: plans by prompt length."""

from collections.abc import Iterator

from isotune.present.phrases import (
    count,
    percent,
    points_text,
    rough_ends,
    strategy_text,
    workload_text,
)
from isotune.present.section import Section, Table, number, share, table, text
from isotune.present.sections.search import repair_notes
from isotune.results import FoundPolicy
from isotune.simulator.files import Bucket


def policy_section(result: FoundPolicy) -> Section:
    """What a policy saves, from where ISO pays off, and its buckets."""
    buckets = result.buckets
    points = [point for curve in result.by_length for point in curve.points]
    first, last = buckets[0].first, buckets[-1].last
    said = (
        f"A policy of {count(len(buckets), 'length range')} saves "
        f"{percent(result.expected_saving)} over prompts of {first} to {last} tokens"
    )
    if points:
        longest = points[-1]
        low, high = (end * 100 for end in longest.saving_interval)
        said += (
            f", {percent(longest.saving)} at {longest.prompt} tokens (80 % interval: "
            f"{rough_ends(low, high)} %)"
        )
    return Section(
        kind="policy",
        title=workload_text(result.model.name, result.hardware, result.workload),
        verdict=f"{said}; {crossover_text(result)}.",
        command=result.command,
        tables=(_table(result),),
        notes=tuple(_notes(result)),
    )


def crossover_text(result: FoundPolicy) -> str:
    """From which length on prompts are overlapped."""
    if result.serial_below is None:
        return "serial at every length"
    if result.serial_below == result.buckets[0].first:
        return "ISO at every length"
    return f"serial below {result.serial_below} tokens"


def _notes(result: FoundPolicy) -> Iterator[str]:
    last = result.buckets[-1].last
    if result.solved is not None and result.worst_loss is not None:
        yield (
            f"{result.solved} lengths were solved; on them the policy is at most "
            f"{percent(result.worst_loss)} above the optimum of up to three chunks."
        )
    if (simplest := result.simplest) is not None:
        points = (result.expected_saving - simplest.expected_saving) * 100
        sms = "" if simplest.rule.comm_sms is None else f", {count(simplest.rule.comm_sms, 'SM')}"
        yield (
            f"Simplest: cut every prompt in the middle{sms}: {percent(simplest.expected_saving)} "
            f"saved, {points_text(points)}, at most {percent(simplest.worst_loss)} above the "
            "optimum."
        )
    if result.asked is not None and last < result.asked:
        yield f"Longer prompts than {last} tokens do not fit."
    if result.interrupted:
        yield "Interrupted: the lengths between them are not checked."
    yield from repair_notes(result.treatments, result.treated_growth)


def _table(result: FoundPolicy) -> Table:
    return table(
        "Plans by prompt length",
        result.buckets,
        number("from", lambda bucket: bucket.first, unit="tokens"),
        number("to", lambda bucket: bucket.last, unit="tokens"),
        text("run as", lambda bucket: strategy_text(bucket.rule.strategy)),
        text("chunks", _shares, unit="% of the prompt", short="% of the prompt"),
        text("transfer", lambda bucket: bucket.rule.comm_dtype, place="page"),
        text("collective", _sms, unit="SMs", short="SMs"),
        number("all-reduces dropped", lambda bucket: len(bucket.rule.dropped), place="page"),
        share("loss up to", lambda bucket: bucket.loss),
        note="Loss: how far above the best plan of its own length the rule lies at most.",
    )


def _shares(bucket: Bucket) -> str:
    return " + ".join(f"{part * 100:.1f}" for part in bucket.rule.shares) or "-"


def _sms(bucket: Bucket) -> str:
    return str(bucket.rule.comm_sms or "default") if bucket.rule.shares else "-"
