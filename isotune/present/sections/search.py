"""The sections of a search: for a plan, for deployments, and of a study that several work on."""

from collections.abc import Iterator, Sequence

from isotune.present.phrases import (
    count,
    gap_text,
    milliseconds,
    percent,
    plan_text,
    points_text,
    rough_ms,
    treatments_text,
    verdict,
    workload_text,
)
from isotune.present.section import Field, Section, Table, ms, number, share, table, text
from isotune.present.sections.prediction import (
    above_ideal,
    all_reduces_tables,
    head,
    ops_table,
    saving,
    saving_interval,
    times_table,
)
from isotune.results import (
    FrontPoint,
    Robust,
    SearchResult,
    SharedSearch,
    Technique,
    Times,
    Trials,
)
from isotune.simulator.schedule import TILE, Plan

_SAME = 5e-5
"""Relative difference below which two latencies are one."""
_REASONS = 3
"""Reasons of failed trials shown, the most frequent first; `--json` has all."""


def search_section(result: SearchResult) -> Section:
    """The best plan beside serial, each technique alone, and what was tried."""
    plans: dict[str, Times] = {"serial": result.baseline, "best plan": result}
    note = f"The best plan is {above_ideal(result)}, max(C, M)."
    return Section(
        kind="search",
        verdict=verdict(result),
        tables=(
            times_table(plans, note),
            ops_table(result, plans),
            *all_reduces_tables(plans),
            _techniques_table(result),
            *asked_tables(result),
        ),
        notes=(*asked_notes(result), *_how_notes(result)),
        **head(result),
    )


def asked_tables(result: SearchResult) -> Iterator[Table]:
    """Tables that options of the search ask for."""
    yield from _robust_tables(result.robust)
    yield from _front_tables(result)
    yield from _accuracy_tables(result.accuracy_front)


def asked_notes(result: SearchResult) -> Iterator[str]:
    """What a reader needs to act: from where it pays off, the simplest plan, who can run it."""
    if result.accuracy_cost is not None and result.accuracy_budget is not None:
        yield (
            f"Predicted growth of perplexity: {result.accuracy_cost * 100:.2f} % "
            f"(budget {result.accuracy_budget * 100:g} %)."
        )
    if result.iso_asked:
        yield pays_text(result)
    yield from advice(result)
    if result.robust is not None:
        yield from _robust_notes(result.robust)
    yield from repair_notes(result.treatments, result.treated_growth)


def proof_text(result: SearchResult) -> str:
    """How the plan is known to be the best."""
    exact, least = result.exact, result.latency_s * (1 - _SAME)
    if result.trials.best_s is not None and result.trials.best_s < least:
        return ""  # chosen by something else than its predicted latency
    if exact is None or exact.latency_s < least:
        return f"the fastest of {count(result.trials.run, 'trial')}"
    of = f"{exact.compared:,} plans of up to three chunks"
    if exact.proven_to <= _SAME:
        return f"proven optimal among {of}"
    return f"the fastest of {of}; none is more than {percent(exact.proven_to)} faster"


def _how_notes(result: SearchResult) -> Iterator[str]:
    """How the plan was found."""
    yield from trials_notes(result.trials)
    exact = result.exact
    if exact is not None and exact.gap is not None:
        yield (
            f"Exact optimum over {exact.compared} plans of up to three chunks: "
            f"{milliseconds(exact.latency_s)} (proven to {exact.proven_to * 100:.2f} %); "
            f"{gap_text(exact.gap)}."
        )
    if result.trials.stopped_at_bound:
        yield "Stopped early: no plan of this space is faster."


def pays_text(result: SearchResult) -> str:
    """From which prompt on ISO pays off, and from which on by more than the model's error.

    Between the lengths that were tried others may do worse; the one that was searched says so.
    """
    first, surely = result.iso_pays_from, result.iso_surely_pays_from
    if first is None:
        return "ISO does not pay off at every length from any prompt up to 131072 tokens on."
    shortest = " (the shortest tried)" if first == TILE else ""
    doubt = "; beyond the model's error from none"
    if surely is not None:
        doubt = f"; beyond the model's error from about {surely}"
        doubt = doubt if surely > first else ", beyond the model's error there already"
    measured = result.iso_measured_from
    unproven = f" No overlapped run below {measured} tokens was measured." * (first < measured)
    here = f" At {result.workload.prompt} tokens, a length between, it does not." * _between(result)
    return (
        f"ISO pays off at every length from about {first} tokens{shortest}{doubt}.{unproven}{here}"
    )


def _between(result: SearchResult) -> bool:
    """Whether the searched length does worse than the lengths around it."""
    iso = [t for t in result.techniques if t.plan.how.enumerable and not t.lossy]
    if not iso:
        return False
    best = min(iso, key=lambda technique: technique.latency_s)
    prompt = result.workload.prompt
    first, surely = result.iso_pays_from, result.iso_surely_pays_from
    if first is not None and prompt >= first and best.saving <= 0:
        return True
    return surely is not None and prompt >= surely and not best.saving_is_certain


def advice(result: SearchResult) -> Iterator[str]:
    """What to do with it: the simplest plan, a plan that is slower, and who can run it."""
    if result.saving < 0:
        yield "Slower than serial: run serial, or allow other techniques."
    simplest = result.simplest
    if simplest is not None and simplest.saving > 0:
        points = (result.saving - simplest.saving) * 100
        sms = "" if simplest.plan.comm_sms is None else f", {count(simplest.plan.comm_sms, 'SM')}"
        yield (
            f"Simplest: cut in the middle{sms}: {rough_ms(simplest.latency_s)}, "
            f"{percent(simplest.saving)} faster, {points_text(points)}."
        )
    if not result.is_serial and result.engines:
        yield who_text(result)


def who_text(result: SearchResult) -> str:
    """Which serving engines run the plan as it is."""
    target = next((one.target for one in result.engines if one.runs), "")
    able = [one.engine for one in result.engines if one.runs]
    unable = [one.engine for one in result.engines if not one.runs]
    if not able:
        return (
            f"Who can run it: no serving engine as it is (isotune export says why for "
            f"{_listed(unable)}); isotune validate runs it."
        )
    file = result.plan_file or "plan.yaml"
    how = f"isotune export {file} --to {target}"
    others = f"; not {_listed(unable)} (isotune export says why)" if unable else ""
    return f"Who can run it: {_listed(able)} ({how}) and isotune validate{others}."


def _listed(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last


def trials_notes(trials: Trials) -> Iterator[str]:
    """What a study did: trials, why some have no result, and what mattered."""
    best = "none within limits." if trials.best_s is None else ""
    yield (
        f"Optuna: {trials.run} trials (seed {trials.seed}, {trials.per_second:.0f}/s), "
        f"{trials.pruned} did not fit, {trials.failed} failed; "
        + (best or f"fastest {milliseconds(trials.best_s or 0.0)}.")
    )
    yield from why_notes(trials.why)
    if trials.importances:
        shares = sorted(trials.importances.items(), key=_by_share)[:4]
        yield "What mattered: " + ", ".join(f"{name} {percent(share)}" for name, share in shares)
    if trials.interrupted:
        yield f"Interrupted after {count(trials.run, 'trial')}: this is the best of them."


def failure_notes(trials: Trials) -> Iterator[str]:
    """What went wrong in a study; nothing where nothing did."""
    if trials.failed:
        yield f"{trials.failed} of {count(trials.run, 'trial')} failed:"
        yield from why_notes(trials.why)
    if trials.interrupted:
        yield f"Interrupted after {count(trials.run, 'trial')}: this is the best of them."


def _by_share(item: tuple[str, float]) -> tuple[float, str]:
    name, share = item
    return -round(share, 3), name


def why_notes(why: dict[str, int]) -> Iterator[str]:
    """The most frequent reasons of trials without a result."""
    often = sorted(why.items(), key=lambda item: -item[1])
    yield from (f"  {times} x {reason}" for reason, times in often[:_REASONS])
    if rest := sum(times for _, times in often[_REASONS:]):
        yield f"  {rest} x for {len(often) - _REASONS} other reasons"


def repair_notes(treatments: dict[int, str], growth: float | None) -> Iterator[str]:
    """How dropped blocks are recovered, where there is something to say."""
    if treatments and growth is not None:
        yield (
            f"Treatments: {treatments_text(treatments)}; together {growth * 100:+.2f} % "
            "perplexity if costs add up (isotune remeasure checks)."
        )


def _techniques_table(result: SearchResult) -> Table:
    return table(
        "Each technique alone",
        result.techniques,
        text("technique", lambda t: t.name, short="technique alone"),
        text("outputs", outputs_text),
        ms("latency", lambda t: t.latency_s),
        share("saving", saving),
        share("80 % interval", saving_interval),
        ms("exposed", lambda t: t.exposed_comm_s),
        text("plan", lambda t: plan_text(t.plan), place="page"),
        note=assumed_note(result.techniques),
    )


def assumed_note(techniques: Sequence[Technique]) -> str:
    """What `*` and `+` mean, where they stand."""
    said = []
    if any(technique.assumed for technique in techniques):
        said.append(
            "* assumed harmless (measure it: isotune sensitivity); chosen only if asked for"
        )
    if any(technique.plan.how.compared for technique in techniques):
        said.append("+ in an engine that has such kernels; never chosen here")
    return "\n".join(said)


def outputs_text(technique: Technique) -> str:
    """Whether a technique changes the model's outputs; `*` where nobody measured how much."""
    return ("changed" if technique.lossy else "same") + "*" * technique.assumed


def _robust_notes(robust: Robust) -> Iterator[str]:
    low, high = (percent(end) for end in robust.saving_interval)
    yield (
        f"Robust ({robust.mode} over {robust.draws} draws of the profile's errors): "
        f"{plan_text(robust.plan)}."
    )
    yield (
        f"It saves {low} to {high} (5-95 %), is the best plan in {percent(robust.best_in)} of the "
        f"draws and within 1 % of it in {percent(robust.near_best_in)}."
    )


def _robust_tables(robust: Robust | None) -> list[Table]:
    if robust is None:
        return []
    return [
        table(
            "Best plans under the profile's errors",
            robust.winners,
            text(
                "plan",
                lambda winner: plan_text(winner.plan),
                short="best plans under the profile's errors",
                fold=True,
            ),
            share("best in", lambda winner: winner.share, unit="% of draws"),
            most=4,
            more="other plans",
        )
    ]


def _front_tables(result: SearchResult) -> list[Table]:
    if len(result.objectives) < 2 or not result.front:
        return []
    items = [item for item in result.front if len(item.values) == len(result.objectives)]
    values = [_objective(name) for name in result.objectives]
    plan = text("plan", lambda item: plan_text(item.plan), short="Pareto set", fold=True)
    return [table("Pareto set", items, plan, *values)]


def _objective(name: str) -> Field:
    """The column of an objective's values, in people's units."""
    title = name.replace("_", " ")
    if name == "latency":
        return ms(title, lambda item: item.values[name])
    if name == "accuracy_cost":
        return share(title, lambda item: item.values[name], 3)
    return number(title, lambda item: item.values[name], 4)


def _accuracy_tables(front: tuple[FrontPoint, ...]) -> list[Table]:
    """Latency against perplexity; on the page the figure has the table."""
    if not front:
        return []
    return [
        table(
            "Latency against perplexity",
            front,
            ms("latency", lambda point: point.latency_s),
            share("perplexity", lambda point: point.perplexity_growth, 2, signed=True),
            number("dropped", lambda point: len(point.plan.dropped)),
            text("plan", _made_by, fold=True),
            text("treatments", lambda point: treatments_text(point.treatments), fold=True),
            place="terminal",
        )
    ]


def _made_by(point: FrontPoint) -> str:
    """A point's plan without its drop set, and the rule that made it."""
    dominated = " (dominated)" if point.dominated else ""
    rule = f"{point.rule}{dominated}: " if point.rule else ""
    return rule + plan_text(point.plan.model_copy(update={"dropped": ()}))


def shared_section(result: SharedSearch) -> Section:
    """The best plan that all workers of a study found so far."""
    best, work = result.best, result.workload
    title = "" if work is None else workload_text(result.model, result.hardware, work)
    if best is None:
        verdict_text = f"Study {result.study}: no plan within the limits so far."
    else:
        verdict_text = f"Study {result.study}, best so far: {verdict(best)}"
    mine = "" if result.mine is None else f", {result.mine} of them here"
    notes = [
        f"Study {result.study}: {count(result.run, 'trial')} done{mine}; "
        f"{result.pruned} did not fit, {result.failed} failed.",
        *why_notes(result.why),
        *repair_notes(result.treatments, result.treated_growth),
    ]
    if result.run_again:
        notes.append(
            f"{count(result.run_again, 'trial')} put up again: workers died, were interrupted or "
            "lost the storage."
        )
    if result.interrupted:
        notes.append(f"Interrupted; go on with: isotune search --join {result.study} --storage URL")
    return Section(
        kind="shared search",
        title=title,
        verdict=verdict_text,
        plan=plan_text(result.plan) if isinstance(result.plan, Plan) else "",
        command=result.command,
        cautions=() if best is None else best.cautions,
        tables=() if best is None else (times_table({"serial": best.baseline, "best": best}),),
        notes=tuple(notes),
    )
