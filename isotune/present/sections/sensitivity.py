"""The sections of dropped all-reduces: what each costs, what recovery did, what sets cost."""

from collections.abc import Iterator

from isotune.present.phrases import count
from isotune.present.section import Cell, Column, Section, Table
from isotune.results import DropCheck, Recovery, SensitivityScan
from isotune.simulator.schedule import ZERO_SHOT
from isotune.tuner.accuracy import Sensitivity

BUDGET = 0.01
"""Growth of perplexity that stands for a budget where none was given (the search's default)."""
CLASSES = {"ISB": "in-sensitive", "SB": "sensitive", "ESB": "extremely sensitive"}


def drop_set(table: Sensitivity, budget: float | None = None) -> tuple[int, ...]:
    """The blocks whose syncs fit into a budget, least sensitive first; ascending."""
    wanted = BUDGET if budget is None else budget
    return tuple(sorted(table.costs().affordable(wanted)[-1]))


def sensitivity_section(result: SensitivityScan) -> Section:
    """A sensitivity table: what can be dropped, and each block's cost."""
    costs = result.costs()
    cheap, worst = drop_set(result), costs.order[-1]
    return Section(
        kind="sensitivity",
        title=f"Sensitivity of {result.model}",
        verdict=(
            f"{len(cheap)} of {len(result.blocks)} attention all-reduces can be dropped for a "
            f"predicted growth of perplexity of {costs.of_drops(cheap) * 100:.2f} % (budget 1 %); "
            f"the most sensitive is block {worst} ({result.blocks[worst] * 100:+.2f} %)."
        ),
        command=result.command,
        tables=(_scan_table(result),),
        notes=tuple(_notes(result)),
    )


def _notes(table: SensitivityScan) -> Iterator[str]:
    yield "That the costs of blocks add up is an assumption."
    if table.measured is not None:
        ran = table.measured
        yield (
            f"Measured on {ran.tokens:,} tokens at tp {ran.tp} ({ran.scan} scan, {ran.dtype}); "
            f"perplexity of the whole model {ran.perplexity:.4f}."
        )
    if table.classes:
        counts = [f"{table.classes.count(name)} {name} ({CLASSES[name]})" for name in CLASSES]
        taus = ", ".join(
            f"{name} {tau * 100:.3f} %"
            for name, tau in (("tau1", table.tau1), ("tau2", table.tau2))
            if tau is not None
        )
        yield f"Classes: {', '.join(counts)}{'; ' if taus else ''}{taus}."
    if table.transfer:
        costs = [f"{name} {cost * 100:+.2f} %" for name, cost in table.transfer.items()]
        yield f"A quantised transfer costs: {', '.join(costs)}."
    for check in table.checks:
        yield (
            f"Measured together: {len(check.treatments)} blocks dropped, perplexity "
            f"{check.growth * 100:+.2f} %."
        )
    if table.block_passes is not None:
        whole = f" of {table.whole_evaluation_passes:,}" if table.whole_evaluation_passes else ""
        yield f"Ran {table.block_passes:,}{whole} block passes."


def _scan_table(table: SensitivityScan) -> Table:
    """Each block's perplexities and cost; on the page the figure has the table."""
    ran = table.measured
    columns = (
        Column(name="block", digits=0),
        *(Column(name=name, digits=4) for name in ("alone", "with all after") if ran),
        Column(name="growth", unit="%", digits=3),
        *(Column(name=name, unit="%", digits=3) for name in table.treatments),
        *([Column(name="class")] if table.classes else []),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            block,
            *((ran.single[block], ran.cumulative[block]) if ran else ()),
            cost * 100,
            *(costs[block] * 100 for costs in table.treatments.values()),
            *([table.classes[block]] if table.classes else []),
        )
        for block, cost in enumerate(table.blocks)
    ]
    return Table(title="Blocks", columns=columns, rows=tuple(rows), place="terminal")


def recovery_section(result: Recovery) -> Section:
    """The steps of each block, and the perplexities."""
    judged = result.evaluation or result.held_back
    return Section(
        kind="recovery",
        title=f"Recovery of {result.model} at tp {result.tp}",
        verdict=(
            f"{count(len(result.dropped), 'all-reduce')} dropped: perplexity "
            f"{judged.recovered:.4f} after recovery, {judged.zero_shot:.4f} without, "
            f"{judged.whole:.4f} with every all-reduce."
        ),
        command=result.command,
        tables=(_steps_table(result), _perplexities_table(result)),
        notes=tuple(_recovery_notes(result)),
    )


def _recovery_notes(result: Recovery) -> Iterator[str]:
    steps = [step for block in result.blocks for step in block.steps]
    if steps and not any(step.kept for step in steps):
        yield "No step lowered the loss by more than noise: none is applied."
    distilled = [block.block for block in result.blocks if block.distilled]
    if distilled:
        yield (
            f"Blocks {', '.join(map(str, distilled))} were distilled: their new weights are "
            "also what transformers runs, with every sync."
        )


def _steps_table(result: Recovery) -> Table:
    columns = (
        Column(name="block", digits=0),
        Column(name="step"),
        *(Column(name=name, digits=5) for name in ("loss before", "after", "noise")),
        Column(name="applied", short=" "),
        Column(name="note", fold=True),
    )
    rows: list[tuple[Cell, ...]] = []
    for block in result.blocks:
        rows += [
            (
                block.block,
                step.step,
                step.before,
                step.after,
                step.noise,
                "kept" if step.kept else "not applied",
                step.note,
            )
            for step in block.steps
        ] or [(block.block, "dropped as it is", "", "", "", "", "")]
    return Table(title="Steps", columns=columns, rows=tuple(rows))


def _perplexities_table(result: Recovery) -> Table:
    names = ("every sync", ZERO_SHOT, "recovered", "with syncs")
    columns = (
        Column(name="perplexity"),
        Column(name="tokens", digits=0),
        *(Column(name=name, digits=4) for name in names),
    )
    texts = {"held back": result.held_back, "evaluation": result.evaluation}
    rows: list[tuple[Cell, ...]] = [
        (name, text.tokens, text.whole, text.zero_shot, text.recovered, text.synced)
        for name, text in texts.items()
        if text is not None
    ]
    return Table(title="Perplexities", columns=columns, rows=tuple(rows))


def drop_check_section(result: DropCheck) -> Section:
    """A drop set measured together, beside what the table had predicted."""
    verdict = "The plan drops no sync: there is nothing to measure."
    if result.rounds:
        within = "within" if result.within_budget else "NOT within"
        what = "The last set" if result.dropped else "No set is left to drop, which"
        verdict = f"{what} is {within} the budget of {result.budget * 100:g} %."
    columns = (
        Column(name="round", digits=0),
        Column(name="dropped", digits=0),
        Column(name="predicted", unit="%", digits=2, signed=True),
        Column(name="measured", unit="%", digits=2, signed=True),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            number,
            len(one.treatments),
            one.predicted_growth * 100,
            one.measured_growth * 100,
        )
        for number, one in enumerate(result.rounds, 1)
    ]
    table = Table(title="Growth of perplexity", columns=columns, rows=tuple(rows))
    return Section(
        kind="drop check",
        title="Dropped all-reduces measured together",
        verdict=verdict,
        command=result.command,
        tables=(table,),
    )
