"""The section of an engine's steps: the best plan of each, and what the token budget is worth."""

from collections.abc import Iterator

from isotune.present.phrases import count, milliseconds, percent, plan_text, workload_text
from isotune.present.section import Section, Table, ms, number, share, table, text
from isotune.results import EngineStep, Steps

_MOST_STEPS = 12


def steps_section(done: Steps) -> Section:
    """Serial steps beside the best plan of each."""
    return Section(
        kind="steps",
        title=workload_text(done.model, done.hardware, done.steps[-1].workload),
        verdict=_verdict(done),
        command=done.command,
        cautions=done.cautions,
        lines=(f"The last of {count(len(done.steps), 'step')}.",) if len(done.steps) > 1 else (),
        tables=tuple(_tables(done)),
        notes=tuple(_notes(done)),
    )


def _verdict(done: Steps) -> str:
    saving = percent(1 - done.latency_s / done.serial_s)
    times = f"{milliseconds(done.latency_s)} instead of {milliseconds(done.serial_s)}"
    if done.prompt is None:
        return f"The best plan of this batch takes {times}: saves {saving}."
    said = (
        f"The first token of {count(done.prompt, 'prompt token')} comes after {times}, in "
        f"{count(len(done.steps), 'step')}: saves {saving}"
    )
    if not done.decodes:
        return f"{said}."
    slow, serial = (
        max(getattr(step, name) for step in done.steps) for name in ("latency_s", "serial_s")
    )
    return (
        f"{said}; {count(done.decodes, 'decode')} wait at most {milliseconds(slow)} for a token "
        f"(serial: {milliseconds(serial)})."
    )


def _tables(done: Steps) -> Iterator[Table]:
    yield table(
        "Steps",
        done.steps,
        text("batch", lambda step: step.workload.text, fold=True),
        ms("serial", lambda step: step.serial_s),
        ms("best", lambda step: step.latency_s),
        share("saving", lambda step: step.saving),
        share("80 % interval", lambda step: step.saving_interval, place="page"),
        ms("exposed communication", lambda step: step.exposed_comm_s, place="page"),
        text("plan", _plan, fold=True),
        most=_MOST_STEPS,
        more="more steps",
    )
    if done.budgets:
        yield table(
            "Token budgets",
            done.budgets,
            number("budget", lambda one: one.tokens),
            number("steps", lambda one: one.steps),
            ms("first token, serial", lambda one: one.serial_first_token_s, short="TTFT serial"),
            ms("first token, best", lambda one: one.first_token_s, short="TTFT best"),
            ms("slowest step, serial", lambda one: one.serial_slowest_s, short="step serial"),
            ms("slowest step, best", lambda one: one.slowest_s, short="step best"),
        )


def _plan(step: EngineStep) -> str:
    return plan_text(step.plan) if step.plan.chunks else "serial"


def _notes(done: Steps) -> Iterator[str]:
    if len(done.budgets) > 1:
        yield (
            "Budgets: the first is the one asked for; of the others up to 5 steps were searched, "
            "the rest lies on the line between them."
        )
    if done.decodes and done.prompt is not None:
        yield "Each decode gets one token per step; the slowest step is its longest wait."
    yield "Scheduling, sampling and detokenising of the engine between steps are not in the times."
