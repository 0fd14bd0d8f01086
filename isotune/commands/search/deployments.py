"""`isotune search` over several tensor-parallel sizes or batches."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import typer

from isotune.commands.options import progress
from isotune.commands.search.options import TrialsOptions


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
        from isotune.results import Deployments, repairs_of
        from isotune.tuner.search import search_deployments

        file = self.checked_file()
        job = self.job()
        options = job.options
        batches = self.batch or (job.scenario.workload.batch,)
        with progress("searching", not self.as_json) as report:
            result = search_deployments(
                job.scenario, self.ranks(job.scenario), batches, options, report
            )
        drops = job.write(result.best, file)

        found = Deployments.of(result, plan_file=str(file), **repairs_of(drops))
        self.emit(found, f"wrote {file}; reproduce with: isotune predict --plan {file}")
        if result.trials.interrupted:
            raise typer.Exit(130)
