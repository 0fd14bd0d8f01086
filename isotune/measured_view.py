"""A measured search for people: the verdict, every plan that ran, what the simulator got wrong."""

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from isotune.measured_result import MeasuredSearch
from isotune.present.phrases import loss_text, milliseconds, percent, plan_text, printable
from isotune.render import new_table
from isotune.simulator.predict import SERIAL
from isotune.simulator.schedule import Plan

_SHOWN = 12


def measured_view(found: MeasuredSearch) -> RenderableType:
    """Verdict first, then predicted beside measured."""
    return Group(*_parts(found))


def _parts(found: MeasuredSearch) -> Iterator[RenderableType]:
    if found.failure is not None:
        yield Text(f"ended early: {printable(found.failure)}", style="bold")
    yield Text(_verdict(found), style="bold")
    yield Text()
    table = new_table("plan", "from", "predicted", "measured", "error", "runs")
    for item in found.tried[:_SHOWN]:
        table.add_row(
            _short(item.plan),
            "simulator" if item.proposed else "-" if item.plan == SERIAL else "Optuna",
            milliseconds(item.prediction.latency_s),
            milliseconds(item.measured.median_s),
            f"{item.error * 100:+.1f} %",
            str(len(item.measured.latencies)),
        )
    yield table
    if len(found.tried) > _SHOWN:
        yield Text(f"and {len(found.tried) - _SHOWN} slower ones")
    yield from map(Text, _lessons(found))


def _short(plan: Plan) -> str:
    """A plan in as few words as a table has room for."""
    parts = [plan.strategy.replace("_", " ")]
    sizes = "+".join(map(str, plan.chunks[:5])) + ("+..." if len(plan.chunks) > 5 else "")
    parts += [sizes] if plan.chunks else []
    parts += [plan.comm_dtype] if plan.comm_dtype != "bf16" else []
    parts += [f"{plan.comm_sms} SMs"] if plan.comm_sms is not None else []
    parts += [f"{len(plan.dropped)} dropped"] if plan.dropped else []
    return ", ".join(parts)


def _verdict(found: MeasuredSearch) -> str:
    best = found.best
    saving = "" if found.saving is None else f", saving {percent(found.saving)} measured"
    how = "compared in turns" if found.compared_in_turns else "not compared in turns"
    return (
        f"best measured: {plan_text(best.plan)}: {milliseconds(best.measured.median_s)}{saving} "
        f"({percent(best.prediction.saving)} predicted; {len(found.tried)} plans ran, {how})"
        f"{loss_text(best.plan)}"
    )


def _lessons(found: MeasuredSearch) -> Iterator[str]:
    if found.rank_correlation is not None:
        yield f"Rank correlation of predicted and measured: {found.rank_correlation:.2f}."
    for kind, (predicted, measured) in list(found.kinds.items())[:1]:
        error = f"{(predicted / measured - 1) * 100:+.1f} %" if measured > 0 else "-"
        yield (
            f"Furthest off: {kind.replace('_', ' ')} steps, {milliseconds(predicted)} predicted "
            f"and {milliseconds(measured)} measured of a pass on average ({error})."
        )
