"""The sections of dropped all-reduces: what each costs, what recovery did, what sets cost."""

from collections.abc import Iterator

from isotune.present.phrases import count
from isotune.present.section import Section, Table, number, share, table, text
from isotune.results import DropCheck, Recovery, SensitivityScan
from isotune.simulator.schedule import ZERO_SHOT
from isotune.tuner.accuracy import Sensitivity
from isotune.validation.spd.checkpoint import StepRecord

BUDGET = 0.01
"""Growth of perplexity that stands for a budget where none was given (the search's default)."""
CLASSES = {"ISB": "in-sensitive", "SB": "sensitive", "ESB": "extremely sensitive"}


def drop_set(sensitivity: Sensitivity, budget: float | None = None) -> tuple[int, ...]:
    """The blocks whose syncs fit into a budget, least sensitive first; ascending."""
    growth = BUDGET if budget is None else budget
    return tuple(sorted(sensitivity.costs().affordable(growth)[-1]))


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


def _notes(scan: SensitivityScan) -> Iterator[str]:
    yield "That the costs of blocks add up is an assumption."
    if scan.measured is not None:
        ran = scan.measured
        yield (
            f"Measured on {ran.tokens:,} tokens at tp {ran.tp} ({ran.scan} scan, {ran.dtype}); "
            f"perplexity of the whole model {ran.perplexity:.4f}."
        )
    if scan.classes:
        counts = [f"{scan.classes.count(name)} {name} ({CLASSES[name]})" for name in CLASSES]
        taus = ", ".join(
            f"{name} {tau * 100:.3f} %"
            for name, tau in (("tau1", scan.tau1), ("tau2", scan.tau2))
            if tau is not None
        )
        yield f"Classes: {', '.join(counts)}{'; ' if taus else ''}{taus}."
    if scan.transfer:
        costs = [f"{name} {cost * 100:+.2f} %" for name, cost in scan.transfer.items()]
        yield f"A quantised transfer costs: {', '.join(costs)}."
    for check in scan.checks:
        yield (
            f"Measured together: {len(check.treatments)} blocks dropped, perplexity "
            f"{check.growth * 100:+.2f} %."
        )
    if scan.block_passes is not None:
        whole = f" of {scan.whole_evaluation_passes:,}" if scan.whole_evaluation_passes else ""
        yield f"Ran {scan.block_passes:,}{whole} block passes."


def _scan_table(scan: SensitivityScan) -> Table:
    """Each block's perplexities and cost; on the page the figure has the table."""
    ran = scan.measured
    perplexities = (
        number("alone", lambda block: ran and ran.single[block], 4),
        number("with all after", lambda block: ran and ran.cumulative[block], 4),
    )
    return table(
        "Blocks",
        range(len(scan.blocks)),
        number("block", lambda block: block),
        *(perplexities if ran else ()),
        share("growth", scan.blocks.__getitem__, 3),
        *(share(name, costs.__getitem__, 3) for name, costs in scan.treatments.items()),
        *([text("class", scan.classes.__getitem__)] if scan.classes else []),
        place="terminal",
    )


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
    steps = [(block, step) for block in result.blocks for step in block.steps or (None,)]
    return table(
        "Steps",
        steps,
        number("block", lambda block, _: block.block),
        text("step", lambda _, step: step.step if step else "dropped as it is"),
        number("loss before", lambda _, step: step.before if step else "", 5),
        number("after", lambda _, step: step.after if step else "", 5),
        number("noise", lambda _, step: step.noise if step else "", 5),
        text("applied", lambda _, step: (step and _applied(step)) or "", short=" "),
        text("note", lambda _, step: step.note if step else "", fold=True),
    )


def _applied(step: StepRecord) -> str:
    return "kept" if step.kept else "not applied"


def _perplexities_table(result: Recovery) -> Table:
    texts = {"held back": result.held_back, "evaluation": result.evaluation}
    return table(
        "Perplexities",
        [(name, measured) for name, measured in texts.items() if measured is not None],
        text("perplexity", lambda name, _: name),
        number("tokens", lambda _, measured: measured.tokens),
        number("every sync", lambda _, measured: measured.whole, 4),
        number(ZERO_SHOT, lambda _, measured: measured.zero_shot, 4),
        number("recovered", lambda _, measured: measured.recovered, 4),
        number("with syncs", lambda _, measured: measured.synced, 4),
    )


def drop_check_section(result: DropCheck) -> Section:
    """A drop set measured together, beside what the table had predicted."""
    verdict = "The plan drops no sync: there is nothing to measure."
    if result.rounds:
        within = "within" if result.within_budget else "NOT within"
        what = "The last set" if result.dropped else "No set is left to drop, which"
        verdict = f"{what} is {within} the budget of {result.budget * 100:g} %."
    rounds = table(
        "Growth of perplexity",
        enumerate(result.rounds, 1),
        number("round", lambda round_number, _: round_number),
        number("dropped", lambda _, measured: len(measured.treatments)),
        share("predicted", lambda _, measured: measured.predicted_growth, 2, signed=True),
        share("measured", lambda _, measured: measured.measured_growth, 2, signed=True),
    )
    return Section(
        kind="drop check",
        title="Dropped all-reduces measured together",
        verdict=verdict,
        command=result.command,
        tables=(rounds,),
    )
