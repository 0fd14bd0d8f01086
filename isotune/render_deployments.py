"""The answer of a search over tensor-parallel sizes and batches, for people."""

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from isotune.present.phrases import milliseconds, plan_text, scenario_text, verdict
from isotune.render import new_table
from isotune.render_search import trials_notes
from isotune.simulator.schedule import Plan

if TYPE_CHECKING:
    from isotune.tuner.search import DeploymentResult


def deployments_view(result: "DeploymentResult") -> RenderableType:
    """The chosen deployment, and the front it was chosen from."""
    from isotune.tuner.search import front_rows

    best, options, rows = result.best, result.options, front_rows(result)
    work = best.scenario.workload
    table = new_table("tp", "batch", "latency", "tokens/s per GPU", "plan")
    table.columns[-1].justify, table.columns[-1].no_wrap = "left", False
    for row in rows:
        table.add_row(
            str(row["tp"]),
            str(row["batch"]),
            milliseconds(row["latency_s"]),
            f"{row['tokens_per_s_per_gpu']:,.0f}",
            plan_text(Plan.model_validate(row["plan"])),
        )
    limit = options.latency_limit
    within = "" if limit is None else f" within {milliseconds(limit)}"
    return Group(
        Text(
            f"Best {options.objectives[0].replace('_', ' ')}{within}: tp {work.tp}, batch "
            f"{work.batch}: {milliseconds(best.latency_s)}, "
            f"{rows[0]['tokens_per_s_per_gpu']:,.0f} tokens/s per GPU.",
            style="bold",
        ),
        Text(verdict(best)),
        Text(scenario_text(best.scenario)),
        Text(f"plan: {plan_text(best.plan)}"),
        Text(),
        Text(f"No other deployment is better in {' and '.join(options.objectives)} at once:"),
        table,
        Text(),
        Text("\n".join(trials_notes(result.trials, options.seed))),
    )
