"""The section of a search over layouts and batches."""

from isotune.present.phrases import few, milliseconds, plan_text, verdict
from isotune.present.section import Section, Table, ms, number, table, text
from isotune.present.sections.prediction import head, times_table
from isotune.present.sections.search import repair_notes, trials_notes
from isotune.results import Deployments, Times


def deployments_section(result: Deployments) -> Section:
    """The chosen deployment beside its serial run, and the front it was chosen from."""
    chosen, limit = result.front[0], result.latency_limit_s
    within = "" if limit is None else f" within {milliseconds(limit)}"
    first = result.objectives[0].replace("_", " ")
    return Section(
        kind="deployments",
        verdict=(
            f"Best {first}{within}: {chosen.ranks.text}, batch {chosen.batch}: "
            f"{chosen.tokens_per_s_per_gpu:,.0f} tokens/s per GPU. {verdict(result)}"
        ),
        tables=(
            deployments_table(result),
            times_table({"serial": result.baseline} | _unless_serial(result)),
        ),
        notes=(
            *(f"of {few(keys, 'other layouts')}: {said}" for said, keys in result.assumed.items()),
            *(f"left out: {why}" for why in dict.fromkeys(result.left_out.values())),
            *trials_notes(result.trials),
            *repair_notes(result.treatments, result.treated_growth),
        ),
        **head(result),
    )


def _unless_serial(result: Times) -> dict[str, Times]:
    return {} if result.is_serial else {"this plan": result}


def deployments_table(result: Deployments) -> Table:
    """The front of deployments; the first is chosen."""
    names = " and ".join(result.objectives)
    unit = "tokens/s per GPU"
    return table(
        "Deployments that no other beats",
        result.front,
        text("layout", lambda item: item.ranks.text),
        number("batch", lambda item: item.batch),
        ms("latency", lambda item: item.latency_s),
        number("throughput", lambda item: item.tokens_per_s_per_gpu, unit=unit, short=unit),
        text("plan", lambda item: plan_text(item.plan), fold=True),
        note=f"No other deployment is better in {names} at once; the first is chosen.",
    )
