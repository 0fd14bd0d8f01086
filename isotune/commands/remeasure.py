"""`isotune remeasure`: do the costs of a plan's dropped blocks add up?"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isotune.commands.options import Json, read
from isotune.commands.output import print_json, progress, show
from isotune.commands.parsers import fraction
from isotune.commands.textual import (
    Batch,
    Context,
    DeviceOption,
    Dtype,
    Seed,
    Texts,
    TokenizerOption,
    Windows,
    read_device,
    read_text_for,
)
from isotune.render import new_table
from isotune.simulator.errors import InputError
from isotune.simulator.files import PlanFile, locate, read_plan, scenario_of
from isotune.simulator.io import check_writable, write_text
from isotune.simulator.predict import Scenario
from isotune.simulator.schedule import Plan
from isotune.validation.extra import require_validate_extra

if TYPE_CHECKING:
    from isotune.tuner.accuracy import Sensitivity, Treated
    from isotune.validation.spd.recover import Measurement


def remeasure(
    plan: Annotated[Path, typer.Argument(help="Plan file, as search --sensitivity writes it.")],
    text: Texts,
    sensitivity: Annotated[
        Path, typer.Option("--sensitivity", help="Table to check; the result is added to it.")
    ],
    model: Annotated[
        Path | None,
        typer.Option("--model", help="Hugging Face folder.", show_default="the plan's"),
    ] = None,
    accuracy_budget: Annotated[
        str, typer.Option("--accuracy-budget", metavar="SHARE", help="Growth of perplexity.")
    ] = "1%",
    rounds: Annotated[
        int, typer.Option("--rounds", min=1, help="Searches and measurements at most.")
    ] = 1,
    context: Context = 512,
    windows: Windows = 64,
    tokenizer: TokenizerOption = None,
    seed: Seed = 0,
    batch: Batch = 4,
    dtype: Dtype = "float32",
    device: DeviceOption = None,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Of distillation, at most.")] = 10,
    as_json: Json = False,
) -> None:
    """Measure a plan's drop set whole, repairs included; correct the table by what comes out.

    With more rounds, a set that exceeds the budget is replaced by the best plan of the corrected
    table, and that one is measured, until one keeps to the budget.
    """
    from isotune.tuner.accuracy import read_sensitivity

    budget = read(fraction, "--accuracy-budget", accuracy_budget) or 0.0
    file = read_plan(plan)
    folder = model or Path(locate(file.model.name, plan.parent))
    scenario = scenario_of(file, plan.parent, model=str(folder))
    table = read_sensitivity(sensitivity, scenario.model, (scenario.workload.tp,))
    check_writable(sensitivity)
    require_validate_extra()
    from isotune.validation.spd.model import load_network, repair_windows
    from isotune.validation.spd.recover import Measurement, Settings, Training

    tp, place = scenario.workload.tp, read_device(device)
    corpus, torch_dtype = read_text_for(folder, text, tokenizer, context, tp, dtype)
    calibration, held_back = repair_windows(corpus, context, count=windows, seed=seed)
    where = Measurement(
        network=load_network(folder, tp, dtype=torch_dtype, device=place),
        calibration=calibration,
        held_back=held_back,
        settings=Settings(batch=batch, seed=seed, training=Training(epochs=epochs, seed=seed)),
    )
    checked = Remeasured(table=table, file=file, rounds=())
    for number in range(rounds):
        if number:
            checked = checked.searched_again(scenario, budget)
        if not checked.file.plan.dropped:
            break
        with progress(f"measuring, round {number + 1}", not as_json) as report:
            checked = checked.measured(where, report)
        # Written at once: what was measured stays, whatever comes next.
        write_text(sensitivity, checked.table.model_dump_json(indent=2) + "\n")
        if checked.keeps(budget):
            break
    if checked.file != file:
        checked.file.write(plan)
    _show(checked, budget, (sensitivity, plan), as_json)
    if not checked.keeps(budget):
        raise typer.Exit(1)


@dataclass(frozen=True, kw_only=True)
class Round:
    """A drop set: its treatments, predicted and measured growth of perplexity, and latency."""

    treatments: dict[int, str]
    predicted: float
    growth: float
    latency_s: float | None


@dataclass(frozen=True, kw_only=True)
class Remeasured:
    """A table and a plan after some rounds."""

    table: "Sensitivity"
    file: PlanFile
    rounds: tuple[Round, ...]

    def keeps(self, budget: float) -> bool:
        """Whether the plan keeps to a budget, its transfer's cost included; none dropped does."""
        transfer = self.table.transfer.get(self.file.plan.comm_dtype, 0.0)
        return not self.file.plan.dropped or self.rounds[-1].growth + transfer <= budget

    def measured(
        self, where: "Measurement", report: Callable[[int, int], None] | None
    ) -> "Remeasured":
        """The plan's drop set measured whole, and the table corrected by it.

        Raises:
            InputError: a treatment that the table does not have, or a loss that is not finite.
        """
        from isotune.simulator.schedule import ZERO_SHOT, steps_of
        from isotune.tuner.accuracy import corrected, with_check

        named, costs = self.file.treatments, corrected(self.table)
        treatments = {block: named.get(block, ZERO_SHOT) for block in self.file.plan.dropped}
        unknown = [name for name in treatments.values() if name not in costs]
        if unknown:
            raise InputError(
                f"plan: treatments: {unknown[0]!r:.60} is not in the sensitivity file (allowed: "
                f"{', '.join(costs)})"
            )
        predicted = sum(costs[name][block] for block, name in treatments.items())
        steps = {block: steps_of(name) for block, name in treatments.items()}
        growth = where.growth(steps, report)
        done = Round(
            treatments=treatments,
            predicted=predicted,
            growth=growth,
            latency_s=self.file.predicted.latency_s if self.file.predicted else None,
        )
        return Remeasured(
            table=with_check(self.table, treatments, growth),
            file=self.file,
            rounds=(*self.rounds, done),
        )

    def searched_again(self, scenario: Scenario, budget: float) -> "Remeasured":
        """The best plan of the corrected table."""
        import isotune
        from isotune.tuner.accuracy import effective, treat
        from isotune.tuner.exact import joint_optimum

        transfer = self.file.plan.comm_dtype
        best = joint_optimum(scenario, effective(self.table), budget, comm_dtypes=(transfer,))
        left = budget - self.table.transfer.get(transfer, 0.0)
        treated: Treated = treat(self.table, best.plan.dropped, left)
        plan: Plan = best.plan
        named = self.file.hardware, self.file.model.name
        prediction = isotune.predict(scenario, plan)
        file = PlanFile.of(prediction, *named, treatments=treated.treatments)
        return Remeasured(table=self.table, file=file, rounds=self.rounds)


def _show(checked: Remeasured, budget: float, files: tuple[Path, Path], as_json: bool) -> None:
    good = checked.keeps(budget)
    if as_json:
        rounds: list[dict[str, Any]] = [
            {
                "treatments": one.treatments,
                "predicted_growth": one.predicted,
                "measured_growth": one.growth,
                "latency_s": one.latency_s,
            }
            for one in checked.rounds
        ]
        print_json({"rounds": rounds, "budget": budget, "within_budget": good})
        return
    if not checked.rounds:
        show("The plan drops no sync: there is nothing to measure.")
        return
    table = new_table("round", "dropped", "predicted", "measured")
    for number, one in enumerate(checked.rounds, 1):
        cells = (f"{value * 100:+.2f} %" for value in (one.predicted, one.growth))
        table.add_row(str(number), str(len(one.treatments)), *cells)
    show(table)
    verdict = "within" if good else "NOT within"
    what = "The last set" if checked.file.plan.dropped else "No set is left to drop, which"
    show(f"{what} is {verdict} the budget of {budget * 100:g} %.")
    show(f"added what was measured to {files[0]}; the plan is {files[1]}")
