"""`isotune search` over several tensor-parallel sizes or batches."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import typer
from rich.console import RenderableType

from isotune.commands.output import progress
from isotune.commands.search.job import recovery_dict, recovery_views
from isotune.commands.search.options import TrialsOptions
from isotune.results import prediction_dict, trials_dict


@dataclass(frozen=True, kw_only=True)
class DeploymentSearch(TrialsOptions):
    """A search over several tensor-parallel sizes or batches."""

    NAME: ClassVar = "several --tp or --batch"
    DEFAULT_OBJECTIVES: ClassVar = ("throughput", "latency")

    @classmethod
    def wanted(cls, options: Mapping[str, Any]) -> bool:
        """Whether --tp or --batch are several."""
        return any(len(options[axis] or ()) > 1 for axis in ("tp", "batch"))

    def run(self) -> None:
        """Find, write and print the best deployment."""
        from isotune.tuner.search import front_rows, search_deployments

        file = self.checked_file()
        job = self.job()
        options = job.options
        batches = self.batch or (job.scenario.workload.batch,)
        with progress("searching", not self.as_json) as report:
            result = search_deployments(
                job.scenario, self.ranks(job.scenario), batches, options, report
            )
        drops = job.write(result.best, file)

        def views() -> Iterator[RenderableType]:
            from isotune.render_deployments import deployments_view

            yield deployments_view(result)
            yield from recovery_views(drops)
            yield f"wrote {file}; reproduce with: isotune predict --plan {file}"

        found = {
            "objectives": list(options.objectives),
            "latency_limit_s": options.latency_limit,
            "front": front_rows(result),
            "trials": trials_dict(result.trials, options.seed),
        }
        data = prediction_dict(result.best) | found | recovery_dict(drops)
        self.emit("deployments", data | {"plan_file": str(file)}, views)
        if result.trials.interrupted:
            raise typer.Exit(130)
