"""Which blocks `isotune recover` is asked to repair, and by which steps."""

from collections.abc import Mapping
from pathlib import Path

from isotune.commands.options import read
from isotune.commands.parsers import blocks
from isotune.simulator.errors import InputError
from isotune.simulator.files import locate, read_plan
from isotune.simulator.schedule import STEPS, steps_of

_OF_CLASS = {"ISB": (), "SB": ("distil",), "ESB": ("heads", "distil")}
"""The paper's rule: in-sensitive blocks as they are, sensitive ones distilled, extremely
sensitive ones distilled after head grouping."""
Steps = dict[int, tuple[str, ...]]


def asked(
    model: str | None, plan: Path | None, drop: str | None, tp: int | None
) -> tuple[Path, int, tuple[int, ...]]:
    """The model's folder, the ranks and the dropped blocks.

    Raises:
        InputError: options that exclude each other or are missing, no folder, or no such block.
    """
    if plan is not None:
        if drop is not None or tp is not None:
            raise InputError("--plan has the tp and the drop set (not with --drop or --tp)")
        file = read_plan(plan)
        name = model or locate(file.model.name, plan.parent)
        if file.workload.tp < 2:
            raise InputError(f"{plan}: workload: tp {file.workload.tp} has no syncs to drop")
        return _with_blocks(Path(name), file.workload.tp, file.plan.dropped)
    if model is None or drop is None or tp is None:
        raise InputError("give --plan, or --model with --drop and --tp")
    return _with_blocks(Path(model), tp, read(blocks, "--drop", drop) or ())


def _with_blocks(
    folder: Path, tp: int, dropped: tuple[int, ...]
) -> tuple[Path, int, tuple[int, ...]]:
    from isotune.simulator.architecture import read_model

    if not folder.is_dir():
        raise InputError(f"--model: {folder}: not a folder (allowed: one with its weights)")
    count = read_model(folder).num_hidden_layers
    if not dropped:
        raise InputError("no attention sync is dropped: there is nothing to recover")
    if dropped[-1] >= count:
        raise InputError(f"drop: {folder.name} has blocks 0 to {count - 1}, not {dropped[-1]}")
    return folder, tp, dropped


def steps_by_block(
    dropped: tuple[int, ...],
    steps: str,
    block_steps: list[str],
    sensitivity: Path | None,
    model: tuple[Path, int],
    planned: Mapping[int, str],
) -> Steps:
    """The steps of each dropped block.

    `model` is its folder and tp, `planned` has a plan's treatments.

    Raises:
        InputError: unknown steps or blocks, or classes measured on another model or tp.
    """
    found = dict.fromkeys(dropped, _named_steps("--steps", steps))
    for block in dropped:
        if block in planned:
            found[block] = read(steps_of, "plan: treatments", planned[block]) or ()
    if sensitivity is not None:
        from isotune.simulator.architecture import read_model
        from isotune.tuner.accuracy import read_sensitivity

        folder, tp = model
        table = read_sensitivity(sensitivity, read_model(folder), (tp,))
        if not table.classes:
            raise InputError(f"{sensitivity}: classes: missing (isotune sensitivity writes them)")
        found = {block: _OF_CLASS[table.classes[block]] for block in dropped}
    for entry in block_steps:
        numbers, equals, names = entry.partition("=")
        if not equals:
            raise InputError(f"--block-steps: {entry!r:.60} is not blocks=steps: 0,3=heads,distil")
        for block in read(blocks, "--block-steps", numbers) or ():
            if block not in found:
                raise InputError(f"--block-steps: block {block} is not dropped")
            found[block] = _named_steps("--block-steps", names)
    return found


def _named_steps(option: str, text: str) -> tuple[str, ...]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if names == ["none"]:
        return ()
    unknown = [name for name in names if name not in STEPS]
    if unknown or not names:
        what = f"unknown step {unknown[0]!r:.40}" if unknown else "no step given"
        raise InputError(f"{option}: {what} (allowed: {', '.join(STEPS)}, or none)")
    return tuple(step for step in STEPS if step in names)
