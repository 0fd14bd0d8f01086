"""The section of a validation: a real run beside its prediction."""

from collections.abc import Iterator

from isotune.present.phrases import count, op_text, percent, plan_text, workload_text
from isotune.present.section import Section, Table, ms, share, table, text
from isotune.results import Pair, Quality, Validation

Compared = tuple[str, str, float, float | None]
"""Which run, what of it, predicted seconds, measured seconds."""


def validation_section(done: Validation) -> Section:
    """Are the numbers the model's, is the time the prediction's?"""
    return Section(
        kind="validation",
        title=workload_text(done.model, done.hardware, done.workload),
        verdict=_verdict(done),
        plan=plan_text(done.plan),
        command=done.command,
        lines=tuple(_lines(done)),
        tables=(_table(done),),
        notes=tuple(_notes(done)),
    )


def _verdict(done: Validation) -> str:
    if done.failure is not None:
        return f"The run ended early: {done.failure}."
    time, error = done.time, done.time.error
    checked = (
        "not checked" if done.numbers is None else "the model's" if done.numbers.ok else "WRONG"
    )
    numbers = f"The numbers are {checked}"
    if done.emulated_tp is not None:
        numbers = f"Emulation of rank 0 of {done.emulated_tp}; {numbers[0].lower()}{numbers[1:]}"
    if error is None:
        return f"{numbers}; no time was measured."
    said = f"{numbers}; the predicted time is off by {error * 100:+.1f} %"
    if time.measured_saving is None:
        return f"{said}; the saving was not measured, since no serial run was."
    low, high = (end * 100 for end in time.predicted_saving_interval)
    return (
        f"{said}; measured saving {percent(time.measured_saving)}, predicted "
        f"{percent(time.predicted_saving)} (80 % interval: {low:.1f} to {high:.1f} %)."
    )


def _lines(done: Validation) -> Iterator[str]:
    weights = "random weights"
    if done.weights != "random":
        weights = f"weights of {done.weights_folder or done.weights}"
    yield f"Ran on {_ran_on(done)}, {weights}."
    yield from (f"Note: {note}" for note in done.notes)
    if done.numbers is not None:
        yield (
            f"Numbers: error {done.numbers.max_rel_error:.1e} of the largest logit in "
            f"{done.numbers.dtype} (allowed {done.numbers.tolerance:.0e}), against "
            f"{done.numbers.reference}."
        )


def _ran_on(done: Validation) -> str:
    if done.emulated_tp is not None:
        return f"one device ({done.device}) that plays rank 0 of {done.emulated_tp}"
    return f"{count(done.ranks or done.workload.tp, 'rank')} of {done.device}"


def _notes(done: Validation) -> Iterator[str]:
    time = done.time
    if time.measured_all_s:
        peak = max(done.memory.peak_bytes, default=0.0) / 1e9
        memory = f"; peak memory of a rank {peak:.2f} GB" if peak else ""
        yield (
            f"Medians of {count(len(time.measured_all_s), 'run')} (middle half within "
            f"{percent(time.measured_spread or 0.0)}){memory}."
        )
    yield from _quality(done)


def _quality(done: Validation) -> Iterator[str]:
    if done.quality is not None:
        yield from quality_lines(done.quality)
    elif done.plan.lossy:
        yield "Quality: not judged; this plan is lossy (--quality --text FILE judges it)."
    else:
        yield "Quality: the plan changes no numbers."


def quality_lines(found: Quality) -> Iterator[str]:
    """What the quality gate found; the verdict first."""
    yield "Quality: " + ("good." if found.ok else f"NOT GOOD: {'; '.join(found.exceeded)}.")
    yield (
        f"  perplexity {found.perplexity:.4f} instead of {found.original_perplexity:.4f} "
        f"({found.perplexity_rise * 100:+.2f} %), on {found.tokens:,} tokens"
    )
    yield (
        f"  the next token agrees at {found.agreement * 100:.2f} % of positions; a "
        f"log-probability changes by at most {found.max_logprob_change:.3g} nats"
    )
    for score in found.lm_eval:
        yield (
            f"  {score.task} {score.metric.removesuffix(',none')}: {score.planned:.4f} instead of "
            f"{score.original:.4f}"
        )


def compared(done: Validation) -> list[Compared]:
    """Whole passes and kinds of steps, predicted and measured."""
    time = done.time
    pairs: list[Compared] = [
        ("whole pass", "serial run", time.serial_predicted_s, time.serial_measured_s),
        ("whole pass", "this plan", time.predicted_s, time.measured_s),
        (
            "whole pass",
            "exposed communication of the plan",
            time.predicted_exposed_comm_s,
            time.measured_exposed_comm_s,
        ),
    ]
    return [*pairs, *_kinds("serial run", time.serial_kinds), *_kinds("this plan", time.kinds)]


def _kinds(run: str, kinds: dict[str, Pair]) -> list[Compared]:
    return [(run, op_text(kind), pair.predicted_s, pair.measured_s) for kind, pair in kinds.items()]


def _table(done: Validation) -> Table:
    ran = "measured" if done.emulated_tp is None else "emulated"
    return table(
        f"Predicted beside {ran}",
        compared(done),
        text("of", lambda group, *_: group),
        text("what", lambda _, what, *__: what, fold=True),
        ms("predicted", lambda *pair: pair[2], 3),
        ms(ran, lambda *pair: pair[3], 3),
        share("error", lambda *pair: pair[2] / pair[3] - 1 if pair[3] else None, signed=True),
    )
