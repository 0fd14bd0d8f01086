"""The section of a comparison: would another layout, engine or machine beat hiding all-reduces?"""

from collections.abc import Iterator

from isotune.present.phrases import few, percent, plan_text, rough, rough_ms
from isotune.present.section import Section, Table, ms, number, share, table, text
from isotune.results import Compared, Contender


def compare_section(done: Compared) -> Section:
    """What each change alone brings beside the first case's serial pass, and every technique."""
    work = done.workload
    return Section(
        kind="comparison",
        title=f"{done.model}: {work.phase}, batch {work.batch}, {work.prompt} tokens, {work.types}",
        verdict=_verdict(done),
        command=done.command,
        tables=(_instead(done), _in_short(done), _techniques(done)),
        notes=tuple(_notes(done)),
    )


def case_text(one: Contender) -> str:
    """`8 x h100 (tp 4 x cp 2), vllm`."""
    return f"{one.ranks.gpus} x {one.hardware} ({one.ranks.text}), {one.engine}"


def _verdict(done: Compared) -> str:
    first = done.contenders[0]
    said = f"Serial on {case_text(first)} takes {rough_ms(first.latency_s)}."
    best = done.instead.get("technique")
    if best is None or best.serial:
        said += " No technique that anyone can run is faster there."
    else:
        said += f" {best.technique} there: {_saved(best)}."
    others = {what: one for what, one in done.instead.items() if what != "technique"}
    for what, one in others.items():
        said += f" Another {what} without overlap, {case_text(one)}: {_saved(one)}."
    if done.better:
        return f"{said} So another {' or '.join(done.better)} beats that."
    return f"{said} None of them surely beats that." if others else said


def _saved(one: Contender) -> str:
    """`13.8 % less (80 % interval: 9.9 to 18 %)`, with its error where that is known."""
    said = f"{percent(abs(one.saving))} {'less' if one.saving >= 0 else 'more'}"
    if one.saving_interval is None:
        ends = " to ".join(rough(end * 1e3) for end in one.latency_interval_s)
        return f"{said} (80 % interval of its latency: {ends} ms)"
    low, high = one.saving_interval
    if low <= 0 <= high:
        return f"{said}, which is less than its error"
    near, far = sorted(abs(end) * 100 for end in (low, high))
    return f"{said} (80 % interval: {rough(near, 2)} to {rough(far, 2)} %)"


def _instead(done: Compared) -> Table:
    rows = [("as it is", done.contenders[0])]
    rows += [(f"another {what}", one) for what, one in done.instead.items()]
    return table(
        "What is changed alone",
        rows,
        text("change", lambda what, _: what),
        text("case", lambda _, one: case_text(one), fold=True),
        text("technique", lambda _, one: one.technique, fold=True),
        ms("latency", lambda _, one: one.latency_s),
        share("saving", lambda _, one: one.saving),
        number("throughput", lambda _, one: one.tokens_per_s_per_gpu, unit="tokens/s per GPU"),
        place="page",
    )


def _in_short(done: Compared) -> Table:
    """Of each case serial, the best that anyone can run, of engines, and with other outputs."""
    shown: list[tuple[str, Contender]] = []
    for case in dict.fromkeys(one.case for one in done.contenders):
        members = [one for one in done.contenders if one.case == case]
        best = [
            min(some, key=lambda one: one.latency_s)
            for some in (
                [one for one in members if one.runnable],
                [one for one in members if not (one.runnable or one.plan.lossy)],
                [one for one in members if one.plan.lossy],
            )
            if some
        ]
        kept = list({one.technique: one for one in (members[0], *best)}.values())
        names = (case_text(kept[0]), *[""] * (len(kept) - 1))
        shown += zip(names, kept, strict=True)
    return table(
        "Best techniques by case",
        shown,
        text("case", lambda name, _: name),
        text("technique", lambda _, one: _technique(one), fold=True),
        ms("latency", lambda _, one: one.latency_s),
        share("saving", lambda _, one: one.saving),
        share("exposed", lambda _, one: one.communication),
        number("tokens/s", lambda _, one: one.tokens_per_s_per_gpu),
        note=f"{_SAVINGS} {_MARKS} All techniques: --json.",
        place="terminal",
    )


_SAVINGS = "Savings are against the first row; tokens/s are per GPU."
_MARKS = (
    "+ in an engine that has such kernels. * changes the model's outputs, by an amount that is "
    "assumed (measure it: isotune sensitivity)."
)


def _techniques(done: Compared) -> Table:
    return table(
        "Techniques by case",
        done.contenders,
        text("case", case_text),
        text("technique", _technique),
        ms("latency", lambda one: one.latency_s),
        ms("80 % interval", lambda one: one.latency_interval_s),
        share("saving", lambda one: one.saving),
        share("80 % interval of the saving", lambda one: one.saving_interval),
        share("exposed communication", lambda one: one.communication),
        number("throughput", lambda one: one.tokens_per_s_per_gpu, unit="tokens/s per GPU"),
        text("plan", lambda one: plan_text(one.plan)),
        note=f"{_SAVINGS} {_MARKS}",
        place="page",
    )


def _technique(one: Contender) -> str:
    return f"{one.technique}*" if one.plan.lossy else one.technique


def _notes(done: Compared) -> Iterator[str]:
    for caution, cases in done.assumed.items():
        every = len(cases) == len({one.case for one in done.contenders})
        yield caution if every else f"{few(cases, between='; ')}: {caution}"
    by_reason: dict[str, list[str]] = {}
    for case, why in done.left_out.items():
        by_reason.setdefault(why, []).append(case)
    for why, names in by_reason.items():
        yield f"left out: {few(names, between='; ')}: {why}"
