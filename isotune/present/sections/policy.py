"""The section of a policy: plans by prompt length."""

from collections.abc import Iterator

from isotune.present.phrases import count, percent, strategy_text, workload_text
from isotune.present.section import Cell, Column, Section, Table
from isotune.present.sections.search import repair_notes
from isotune.results import FoundPolicy


def policy_section(result: FoundPolicy) -> Section:
    """What a policy saves, from where ISO pays off, and its buckets."""
    buckets = result.buckets
    points = [point for curve in result.by_length for point in curve.points]
    first, last = buckets[0].first, buckets[-1].last
    said = (
        f"A policy of {count(len(buckets), 'bucket')} saves {percent(result.expected_saving)} "
        f"over prompts of {first} to {last} tokens"
    )
    if points:
        longest = points[-1]
        low, high = (end * 100 for end in longest.saving_interval)
        said += (
            f", {percent(longest.saving)} at {longest.prompt} tokens (80 % interval: {low:.1f} to "
            f"{high:.1f} %)"
        )
    return Section(
        kind="policy",
        title=workload_text(result.model.name, result.hardware, result.workload),
        verdict=f"{said}; {crossover_text(result)}.",
        plan=f"{len(buckets)} by prompt length, in the table below",
        plan_title="plans",
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
    if result.asked is not None and last < result.asked:
        yield f"Longer prompts than {last} tokens do not fit."
    if result.interrupted:
        yield "Interrupted: the lengths between them are not checked."
    yield from repair_notes(result.treatments, result.treated_growth)


def _table(result: FoundPolicy) -> Table:
    columns = (
        Column(name="from", unit="tokens", digits=0),
        Column(name="to", unit="tokens", digits=0),
        Column(name="run as"),
        Column(name="chunks", unit="% of the prompt", short="% of the prompt"),
        Column(name="transfer", place="page"),
        Column(name="collective", unit="SMs", short="SMs"),
        Column(name="syncs dropped", digits=0, place="page"),
        Column(name="loss up to", unit="%", digits=1),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            bucket.first,
            bucket.last,
            strategy_text(bucket.rule.strategy),
            " + ".join(f"{share * 100:.1f}" for share in bucket.rule.shares) or "-",
            bucket.rule.comm_dtype,
            "-" if not bucket.rule.shares else str(bucket.rule.comm_sms or "default"),
            len(bucket.rule.dropped),
            bucket.loss * 100,
        )
        for bucket in result.buckets
    ]
    return Table(
        title="Plans by prompt length",
        columns=columns,
        rows=tuple(rows),
        note="Loss: how far above the best plan of its own length the rule lies at most.",
    )
