"""The section of a measured search: every plan that ran, predicted beside measured."""

from collections.abc import Iterator

from isotune.present.phrases import loss_text, milliseconds, percent, plan_text, workload_text
from isotune.present.section import Section, Table, ms, number, share, table, text
from isotune.present.sections.search import repair_notes
from isotune.results import MeasuredSearch, Tried
from isotune.simulator.predict import SERIAL
from isotune.simulator.schedule import Plan

_SHOWN = 12


def measured_section(done: MeasuredSearch) -> Section:
    """The best measured plan, and where the simulator erred."""
    work = done.workload
    title = "Measured search"
    return Section(
        kind="measured search",
        title=title if work is None else workload_text(done.model, done.hardware, work),
        verdict=_verdict(done),
        plan=plan_text(done.plan),
        command=done.command,
        tables=(_table(done),),
        notes=tuple(_notes(done)),
    )


def _verdict(done: MeasuredSearch) -> str:
    took, number = milliseconds(done.measured_s), len(done.tried)
    if done.measured_saving is None or done.serial_measured_s is None:
        return (
            f"The best plan that ran takes {took} measured, {milliseconds(done.predicted_s)} "
            f"predicted ({number} plans ran); no serial run to compare it with."
        )
    best = next((tried for tried in done.tried if tried.plan == done.plan), None)
    runs = "" if best is None or len(best.measured_all_s) < 2 else f", runs {_spread(best)}"
    change = "saves" if done.measured_saving >= 0 else "loses"
    return (
        f"The best plan that ran takes {took} instead of {milliseconds(done.serial_measured_s)}: "
        f"{change} {percent(abs(done.measured_saving))} measured, "
        f"{percent(done.predicted_saving)} predicted ({number} plans ran{runs})"
        f"{loss_text(done.plan)}."
    )


def _spread(best: Tried) -> str:
    low, high = min(best.measured_all_s), max(best.measured_all_s)
    return f"from {milliseconds(low).removesuffix(' ms')} to {milliseconds(high)}"


def _notes(done: MeasuredSearch) -> Iterator[str]:
    yield from done.notes
    if done.failure is not None:
        yield f"It ended early: {done.failure}."
    yield (
        "The best plans were compared in turns, so that drift of the machine hits all alike."
        if done.compared_in_turns
        else "The best plans were not compared in turns: drift of the machine may have decided."
    )
    if done.rank_correlation is not None:
        yield f"Rank correlation of predicted and measured: {done.rank_correlation:.2f}."
    for kind, pair in list(done.kinds.items())[:1]:
        measured = pair.measured_s or 0.0
        error = f"{(pair.predicted_s / measured - 1) * 100:+.1f} %" if measured > 0 else "-"
        yield (
            f"Furthest off: {kind.replace('_', ' ')} steps, {milliseconds(pair.predicted_s)} "
            f"predicted and {milliseconds(measured)} measured of a pass on average ({error})."
        )
    yield from repair_notes(done.treatments, done.treated_growth)


def origin(tried: Tried) -> str:
    """Who proposed a plan."""
    if tried.plan == SERIAL:
        return "serial"
    return "proposed by the simulator" if tried.proposed else "tried by Optuna"


def _table(done: MeasuredSearch) -> Table:
    return table(
        "Plans that ran, fastest first",
        done.tried,
        text("plan", lambda tried: _short(tried.plan)),
        text("from", origin, place="page"),
        ms("predicted", lambda tried: tried.predicted_s, 3),
        ms("measured", lambda tried: tried.measured_s, 3),
        share("error", lambda tried: tried.error, signed=True),
        number("runs", lambda tried: len(tried.measured_all_s)),
        most=_SHOWN,
        more="slower ones",
    )


def _short(plan: Plan) -> str:
    """A plan in as few words as a table has room for."""
    parts = [plan.how.label]
    sizes = "+".join(map(str, plan.chunks[:5])) + ("+..." if len(plan.chunks) > 5 else "")
    parts += [sizes] if plan.chunks else []
    parts += [plan.comm_dtype] if plan.quantised else []
    parts += [f"{plan.comm_sms} SMs"] if plan.comm_sms is not None else []
    parts += [f"{len(plan.dropped)} dropped"] if plan.dropped else []
    return ", ".join(parts)
