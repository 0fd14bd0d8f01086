"""`isotune search` over several tensor-parallel sizes or batches."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from isotune.commands.output import print_result, progress, show
from isotune.results import prediction_dict, trials_dict
from simulator.planfile import PlanFile
from simulator.scenario import Scenario

if TYPE_CHECKING:
    from tuner.search import Options

Axes = tuple[tuple[int, ...], tuple[int, ...]]
"""Tensor-parallel sizes and batches."""


def deploy(
    scenario: Scenario,
    axes: Axes,
    options: "Options",
    names: tuple[str, str],
    output: Path,
    as_json: bool,
) -> None:
    """Find, write and show the best deployment; `names` are those of hardware and model."""
    from tuner.deployments import front_rows, search_deployments

    with progress("searching", not as_json) as report:
        result = search_deployments(scenario, *axes, options, report)
    PlanFile.of(result.best, *names).write(output)
    if as_json:
        found = {
            "objectives": list(options.objectives),
            "latency_limit_s": options.latency_limit,
            "front": front_rows(result),
            "trials": trials_dict(result.trials, options.seed),
        }
        data = prediction_dict(result.best) | found | {"plan_file": str(output)}
        print_result("deployments", data)
    else:
        from isotune.render_deployments import deployments_view

        show(deployments_view(result))
        show(f"wrote {output}; reproduce with: isotune predict --plan {output}")
    if result.trials.interrupted:
        raise typer.Exit(130)
