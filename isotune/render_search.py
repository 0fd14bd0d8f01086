"""The answer of a search, for people."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from isotune.present.phrases import printable

if TYPE_CHECKING:
    from isotune.tuner.robust import RobustChoice
    from isotune.tuner.search import SearchResult, Trials
    from isotune.tuner.techniques import Technique

from isotune.present.phrases import (
    gap_text,
    milliseconds,
    pays_text,
    percent,
    plan_text,
    saving_interval,
    scenario_text,
    serial_misfit,
    verdict,
)
from isotune.render import cautions, new_table, ops_table, sources, times_table

_REASONS = 3
"""Reasons of failed trials shown, the most frequent first; `--json` has all."""


def search_view(result: "SearchResult") -> RenderableType:
    """The answer of a search: the best plan beside the baseline, bound and techniques."""
    return Group(*_search_parts(result))


def _search_parts(result: "SearchResult") -> Iterator[RenderableType]:
    best, baseline = result.best, result.baseline
    yield Text(verdict(best), style="bold")
    yield Text(scenario_text(best.scenario))
    yield Text(f"plan: {plan_text(best.plan)}")
    if not baseline.memory.fits:
        yield Text(serial_misfit(baseline.memory))
    yield from cautions(best)
    if result.accuracy_cost is not None:
        yield Text(
            f"predicted growth of perplexity: {result.accuracy_cost * 100:.2f} % "
            f"(budget {result.options.accuracy_budget * 100:g} %)"
        )
    yield Text()
    both = {"serial": baseline, "best plan": best}
    yield times_table(both)
    above = best.latency_s / best.bound_s - 1
    yield Text(f"The best plan ends {percent(above)} above its lower bound max(C, M).")
    yield Text()
    yield ops_table(both)
    yield sources(best)
    yield Text()
    if result.techniques:
        yield _techniques_table(result.techniques)
        if any(technique.assumed for technique in result.techniques):
            yield Text("* assumed that the model bears it: never chosen unless asked for")
        yield Text()
    if len(result.options.objectives) > 1:
        yield _front_table(result)
        yield Text()
    yield Text("\n".join(_search_notes(result)))


def _search_notes(result: "SearchResult") -> Iterator[str]:
    if result.iso_asked:
        yield pays_text(result.iso_pays_from, result.iso_surely_pays_from)
    yield from trials_notes(result.trials, result.options.seed)
    if result.exact is not None and result.gap_to_exact is not None:
        yield (
            f"Exact optimum over {result.exact.compared} plans of up to three chunks: "
            f"{milliseconds(result.exact.latency_s)} (proven to {result.exact.gap * 100:.2f} %); "
            f"{gap_text(result.gap_to_exact)}."
        )
    if result.trials.stopped_at_bound:
        yield "Stopped early: no plan of this space is faster."


def trials_notes(trials: "Trials", seed: int) -> Iterator[str]:
    """What a study did, in lines: trials, why some have no result, and what mattered."""
    yield (
        f"Optuna: {trials.run} trials (seed {seed}, {trials.per_second:.0f}/s), "
        f"{trials.pruned} did not fit, {trials.failed} failed; "
        + (
            f"fastest {milliseconds(trials.best.seconds)}."
            if trials.best
            else "none within limits."
        )
    )
    yield from why_lines(trials)
    if trials.importances:
        shares = sorted(trials.importances.items(), key=_by_share)[:4]
        yield "What mattered: " + ", ".join(f"{name} {percent(share)}" for name, share in shares)
    if trials.interrupted:
        yield "Interrupted: this is the best of what was done."


def _by_share(item: tuple[str, float]) -> tuple[float, str]:
    name, share = item
    return -round(share, 3), name


def why_lines(trials: "Trials") -> Iterator[str]:
    """The most frequent reasons of trials without a result."""
    often = sorted(trials.why.items(), key=lambda item: -item[1])
    yield from (f"  {times} x {printable(why)}" for why, times in often[:_REASONS])
    if rest := sum(times for _, times in often[_REASONS:]):
        yield f"  {rest} x for {len(often) - _REASONS} other reasons"


def _techniques_table(techniques: "list[Technique]") -> Table:
    table = new_table("technique alone", "latency", "saving", "80 % interval", "exposed", "numbers")
    for technique in techniques:
        prediction = technique.prediction
        kind = "changed*" if technique.assumed else "changed" if technique.lossy else "same"
        table.add_row(
            technique.name,
            milliseconds(prediction.latency_s),
            percent(prediction.saving),
            saving_interval(prediction),
            milliseconds(prediction.exposed_comm_s),
            kind,
        )
    return table


def _front_table(result: "SearchResult") -> Table:
    table = new_table("Pareto set", *(name.replace("_", " ") for name in result.options.objectives))
    table.columns[0].no_wrap = False
    for item in result.trials.front:
        values = zip(result.options.objectives, item.values, strict=True)
        cells = (milliseconds(v) if name == "latency" else f"{v:.4f}" for name, v in values)
        table.add_row(plan_text(item.plan), *cells)
    return table


def robust_view(choice: "RobustChoice") -> RenderableType:
    """What a robust choice rests on, and which other plan errors of the model would make best."""
    low, high = choice.saving_interval
    lines = [
        f"Robust ({choice.mode} over {choice.draws} draws of the profile's errors): "
        f"{plan_text(choice.plan)}.",
        f"It saves {percent(low)} to {percent(high)} (5-95 %), is the best plan in "
        f"{percent(choice.best_in)} of the draws and within 1 % of it in "
        f"{percent(choice.near_best_in)}.",
    ]
    others = [(plan, share) for plan, share in choice.winners if plan != choice.plan]
    lines += [f"In {percent(share)}: {plan_text(plan)}." for plan, share in others[:3]]
    return Text("\n".join(lines))
