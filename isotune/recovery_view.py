"""A recovery as a person reads it."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from isotune.simulator.schedule import ZERO_SHOT
from isotune.validation.spd.checkpoint import BlockRecord, Perplexities, Record


def recovery_view(record: Record) -> RenderableType:
    """The steps of each block, and the perplexities."""
    parts: list[RenderableType] = [_steps(record)]
    steps = [step for block in record.blocks for step in block.steps]
    if steps and not any(step.kept for step in steps):
        parts.append(Text("No step lowered the loss by more than noise: none is applied."))
    texts = {"held back": record.held_back, "evaluation": record.evaluation}
    parts.append(_perplexities({name: text for name, text in texts.items() if text is not None}))
    distilled = [block.block for block in record.blocks if block.distilled]
    if distilled:
        parts.append(
            Text(
                f"Blocks {', '.join(map(str, distilled))} were distilled: their new weights are "
                "also what transformers runs, with every sync."
            )
        )
    return Group(*parts)


def _steps(record: Record) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("block", "step", "loss before", "after", "noise", "", "note"):
        table.add_column(name, justify="right" if name in ("block", "loss before") else "left")
    for block in record.blocks:
        for row in _rows(block):
            table.add_row(*row)
    return table


def _rows(block: BlockRecord) -> list[tuple[str, ...]]:
    if not block.steps:
        return [(str(block.block), "dropped as it is", "", "", "", "", "")]
    return [
        (
            str(block.block),
            step.step,
            f"{step.before:.5f}",
            f"{step.after:.5f}",
            f"{step.noise:.5f}",
            "kept" if step.kept else "not applied",
            step.note,
        )
        for step in block.steps
    ]


def _perplexities(texts: dict[str, Perplexities]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in (
        "perplexity",
        "tokens",
        "every sync",
        ZERO_SHOT,
        "recovered",
        "with syncs",
    ):
        table.add_column(name, justify="left" if name == "perplexity" else "right")
    for name, text in texts.items():
        values = (text.whole, text.zero_shot, text.recovered, text.synced)
        table.add_row(name, f"{text.tokens:,}", *(f"{value:.4f}" for value in values))
    return table
