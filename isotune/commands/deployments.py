"""`isotune search` over several tensor-parallel sizes or batches."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from isotune.commands.output import print_result, progress, show
from isotune.commands.repair import Repair, repair_dict, show_repair
from isotune.results import prediction_dict, trials_dict
from isotune.simulator.files import PlanFile
from isotune.simulator.predict import Scenario

if TYPE_CHECKING:
    from isotune.tuner.search import Options

Axis = tuple[int, ...]
Axes = tuple[Axis, Axis]
"""Tensor-parallel sizes and batches."""


def deploy(
    scenario: Scenario,
    axes: Axes,
    options: "Options",
    names: tuple[str, str],
    repair: Repair | None,
    output: Path,
    as_json: bool,
) -> None:
    """Find, write and show the best deployment; `names` are those of hardware and model."""
    from isotune.tuner.search import front_rows, search_deployments

    with progress("searching", not as_json) as report:
        result = search_deployments(scenario, *axes, options, report)
    treated = repair.treated(result.best.plan, options) if repair else None
    PlanFile.of(result.best, *names, treatments=treated.treatments if treated else {}).write(output)
    if as_json:
        found = {
            "objectives": list(options.objectives),
            "latency_limit_s": options.latency_limit,
            "front": front_rows(result),
            "trials": trials_dict(result.trials, options.seed),
        }
        data = prediction_dict(result.best) | found | repair_dict(treated)
        print_result("deployments", data | {"plan_file": str(output)})
    else:
        from isotune.render_deployments import deployments_view

        show(deployments_view(result))
        show_repair(treated)
        show(f"wrote {output}; reproduce with: isotune predict --plan {output}")
    if result.trials.interrupted:
        raise typer.Exit(130)
