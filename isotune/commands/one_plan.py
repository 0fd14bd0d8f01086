"""`isotune search` for one workload: the plan, and what was asked beside it."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

import isotune
from isotune.commands.output import print_result, progress, show, write_timelines
from isotune.commands.repair import Repair, repair_dict, show_repair
from isotune.results import robust_dict, search_dict
from isotune.simulator.files import PlanFile
from isotune.simulator.predict import Scenario

if TYPE_CHECKING:
    from isotune.tuner.robust import RobustChoice
    from isotune.tuner.search import Options, SearchResult


@dataclass(frozen=True, kw_only=True)
class PlanExtras:
    """What is asked beside the fastest plan: robustness, a front, a trace file."""

    robust: str | None = None
    front: bool = False
    trace: Path | None = None


def search_plan(
    scenario: Scenario,
    options: "Options",
    names: tuple[str, str],
    repair: Repair | None,
    extras: PlanExtras,
    *,
    output: Path,
    as_json: bool,
) -> None:
    """Find, write and show the best plan; `names` are those of hardware and model."""
    from isotune.tuner.search import search as run_search

    with progress("searching", not as_json) as report:
        result = run_search(scenario, options, report)
    choice = None
    if extras.robust is not None:
        choice = choose_robust(scenario, result, extras.robust)
        result = replace(result, best=isotune.predict(scenario, choice.plan))
    treated = repair.treated(result.best.plan, options) if repair else None
    curve = repair.front(scenario, options) if repair and extras.front else None
    PlanFile.of(result.best, *names, treatments=treated.treatments if treated else {}).write(output)
    if extras.trace is not None:
        write_timelines(extras.trace, result.best, "best plan")
    if as_json:
        extra = {"robust": robust_dict(choice)} if choice else {}
        extra |= repair_dict(treated, curve)
        print_result("search", search_dict(result) | extra | {"plan_file": str(output)})
    else:
        from isotune.render_search import robust_view, search_view

        show(search_view(result))
        if choice is not None:
            show(robust_view(choice))
        show_repair(treated, curve)
        show(f"wrote {output}; reproduce with: isotune predict --plan {output}")
    if result.trials.interrupted:
        raise typer.Exit(130)


def choose_robust(scenario: Scenario, result: "SearchResult", mode: str) -> "RobustChoice":
    """The plan that is best over the profile's errors, the search's own among the candidates."""
    from isotune.tuner.robust import errors_of, robust_choice

    return robust_choice(
        scenario,
        errors_of(scenario.hardware),
        mode,
        also=result.best.plan,
        overlap=result.options.splits_prompt,
    )
