"""`isotune remeasure`: do the costs of a plan's dropped blocks add up?"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isotune import results
from isotune.commands.options import (
    EpochsOption,
    FolderOfPlan,
    OutputOptions,
    TextOptions,
    application,
    command,
    fraction,
    option,
    plain,
    progress,
    whole,
)
from isotune.simulator.files import locate, read_plan, scenario_of
from isotune.simulator.io import check_writable, write_text
from isotune.validation.extra import require_validate_extra

if TYPE_CHECKING:
    from isotune.validation.spd.recover import Measurement


@dataclass(frozen=True, kw_only=True)
class Remeasure(TextOptions, OutputOptions):
    """Measure the perplexity of a plan's drop set and correct the sensitivity table.

    With more rounds, a set that exceeds the budget is replaced by the best plan of the corrected
    table, and that one is measured, until one keeps to the budget.
    """

    plan: Annotated[Path, typer.Argument(help="Plan file, as search --sensitivity writes it.")]
    sensitivity: Annotated[
        Path, plain("--sensitivity", "FILE", "Table to check; the result is added to it.")
    ]
    model: FolderOfPlan = None
    accuracy_budget: Annotated[
        float,
        option(
            "--accuracy-budget",
            fraction,
            "SHARE",
            "Largest growth of perplexity.",
            show_default="1%",
        ),
    ] = 0.01
    rounds: Annotated[
        int, option("--rounds", whole(1), "N", "Searches and measurements at most.")
    ] = 1
    epochs: EpochsOption = 10

    def run(self) -> None:
        """Measure, correct the table, and search again while rounds are left."""
        from isotune.tuner.accuracy import read_sensitivity
        from isotune.tuner.drop_check import DropCheck

        require_validate_extra()
        file = read_plan(self.plan)
        folder = self.model or Path(locate(file.model.name, self.plan.parent))
        scenario = scenario_of(file, self.plan.parent, model=str(folder))
        table = read_sensitivity(self.sensitivity, scenario.model, (scenario.workload.tp,))
        check_writable(self.sensitivity)
        where = self._where(folder, scenario.workload.tp)
        check = DropCheck(table=table, file=file, budget=self.accuracy_budget)
        for number in range(self.rounds):
            if number:
                check = check.searched_again(scenario)
            if not check.file.plan.dropped:
                break
            with progress(f"measuring, round {number + 1}", not self.as_json) as report:
                check = check.measured(partial(where.growth, on_progress=report))
            # Written at once: what was measured stays, whatever comes next.
            write_text(self.sensitivity, check.table.model_dump_json(indent=2) + "\n")
            if check.within_budget:
                break
        if check.file != file:
            check.file.write(self.plan)
        more = f"added what was measured to {self.sensitivity}; the plan is {self.plan}"
        found = results.DropCheck.of(
            check, sensitivity_file=str(self.sensitivity), plan_file=str(self.plan)
        )
        self.emit(found, *([more] if check.rounds else []))
        if not check.within_budget:
            raise typer.Exit(1)

    def _where(self, folder: Path, tp: int) -> "Measurement":
        """The checkpoint and the text that drop sets are measured on."""
        from isotune.validation.spd.model import load_network

        device = self.torch_device()
        corpus, dtype = self.corpus(folder, self.text, tp, self.dtype)
        network = load_network(folder, tp, dtype=dtype, device=device)
        return self.measurement(network, corpus, epochs=self.epochs)


app = application(command(Remeasure), renamed={"batch": "eval-batch"})
