"""`isotune search` over several tensor-parallel sizes or batches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import typer

from isotune.commands.options import progress
from isotune.commands.search.options import TrialsOptions
from isotune.simulator.architecture import AXES, Ranks
from isotune.simulator.predict import Scenario


@dataclass(frozen=True, kw_only=True)
class DeploymentSearch(TrialsOptions):
    """A search over several tensor-parallel sizes or batches."""

    NAME: ClassVar = "several layouts or batches"
    DEFAULT_OBJECTIVES: ClassVar = ("throughput", "latency")

    @classmethod
    def wanted(cls, options: Mapping[str, Any]) -> bool:
        """Whether --tp, --ep, --cp, --dp or --batch are several."""
        return any(len(options[axis] or ()) > 1 for axis in (*AXES, "batch"))

    def run(self) -> None:
        """Find, write and print the best deployment."""
        from isotune.results import Deployments, repairs_of
        from isotune.tuner.search import search_deployments

        file = self.checked_file()
        job = self.job()
        options = job.options
        batches = self.batch or (job.scenario.workload.batch,)
        layouts, left_out = self._layouts(job.scenario)
        with progress("searching", not self.as_json) as report:
            result = search_deployments(job.scenario, layouts, batches, options, report)
        result = replace(result, left_out=left_out)
        drops = job.write(result.best, file)

        found = Deployments.of(result, plan_file=str(file), **repairs_of(drops))
        self.emit(found, f"wrote {file}; reproduce with: isotune predict --plan {file}")
        if result.trials.interrupted:
            raise typer.Exit(130)

    def _layouts(self, scenario: Scenario) -> tuple[Sequence[Ranks], dict[str, str]]:
        """The layouts to compare, and those that cannot be with the reason."""
        from isotune.tuner.search import layouts_of

        tps = self.ranks(scenario)
        if not (self.ep or self.cp or self.dp):
            return tps, {}
        if self.tp is None:
            most = scenario.hardware.node.gpus
            tps = tuple(1 << power for power in range(most.bit_length()) if 1 << power <= most)
        asked = {"ep": self.ep or (1,), "cp": self.cp or (1,), "dp": self.dp or (1,)}
        return layouts_of(scenario, tp=tps, **asked)
