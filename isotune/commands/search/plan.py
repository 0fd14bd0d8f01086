"""`isotune search` for one workload: the plan, and what was asked beside it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from isotune.commands.options import TraceFile, choice, progress, write_timelines
from isotune.commands.search.options import TrialsOptions
from isotune.simulator.errors import InputError
from isotune.simulator.io import check_writable
from isotune.simulator.predict import Scenario, predict
from isotune.tuner.choices import MODES

if TYPE_CHECKING:
    from isotune.tuner.robust import RobustChoice
    from isotune.tuner.search import SearchResult


@dataclass(frozen=True, kw_only=True)
class PlanSearch(TrialsOptions):
    """A search for one plan."""

    NAME: ClassVar = "a search for one plan"
    PANEL: ClassVar = "One plan"
    INSTEAD: ClassVar = {"trace": "trace it with isotune predict --trace"}

    robust: Annotated[
        str | None,
        choice("--robust", MODES, "Choose the plan that is best over the profile's errors"),
    ] = None
    pareto: Annotated[
        bool,
        typer.Option(
            "--pareto", help="Also the Pareto front of latency and perplexity; needs --sensitivity."
        ),
    ] = False
    trace: TraceFile = None

    @classmethod
    def wanted(cls, options: Mapping[str, Any]) -> bool:
        """Always: what else could be asked for has been looked at before."""
        del options
        return True

    def run(self) -> None:
        """Find, write and print the best plan."""
        from isotune.export import runners
        from isotune.results import Engine, Robust, SearchResult, accuracy_front_of, repairs_of
        from isotune.tuner.search import search

        file = self.checked_file()
        if self.trace is not None:
            check_writable(self.trace)
        if self.pareto and self.sensitivity is None:
            raise InputError(
                "--pareto needs --sensitivity, which says what a dropped all-reduce costs"
            )
        job = self.job()
        with progress("searching", not self.as_json) as report:
            result = search(job.scenario, job.options, report)
        robust = None if self.robust is None else choose_robust(job.scenario, result, self.robust)
        if robust is not None:
            result = replace(result, best=predict(job.scenario, robust.plan))
        front = job.pareto_front() if self.pareto else None
        drops = job.write(result.best, file)
        found = SearchResult.of(
            result,
            robust=None if robust is None else Robust.of(robust),
            accuracy_front=accuracy_front_of(front or ()),
            plan_file=str(file),
            engines=tuple(map(Engine.like, runners(result.best))),
            **repairs_of(drops),
        )
        if self.trace is not None:
            write_timelines(self.trace, found, "best plan")
        self.emit(
            found,
            f"wrote {file}; reproduce with: isotune predict --plan {file}",
            f"next: --details | --json, for isotune report | isotune validate {file}",
        )
        if result.trials.interrupted:
            raise typer.Exit(130)


def choose_robust(scenario: Scenario, result: "SearchResult", mode: str) -> "RobustChoice":
    """The plan that is best over the profile's errors, the search's own among the candidates."""
    from isotune.tuner.robust import errors_of, robust_choice

    return robust_choice(
        scenario,
        errors_of(scenario),
        mode,
        also=result.best.plan,
        overlap=result.options.splits_prompt,
    )
