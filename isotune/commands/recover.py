"""`isotune recover`: win back what dropped attention syncs cost a checkpoint."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isotune.commands.options import Json, blocks, fraction, read
from isotune.commands.output import print_json, progress, show
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
    resumable,
)
from simulator.errors import InputError
from simulator.planfile import locate, read_plan
from simulator.treatment import STEPS as _STEPS
from simulator.treatment import steps_of
from validation.extra import require_validate_extra

if TYPE_CHECKING:
    from validation.spd.network import Network
    from validation.spd.record import Record
    from validation.spd.recover import Recovery
    from validation.spd.text import Windows as TextWindows

_OF_CLASS = {"ISB": (), "SB": ("distil",), "ESB": ("heads", "distil")}
"""The paper's rule: in-sensitive blocks as they are, sensitive ones distilled, extremely
sensitive ones distilled after head grouping."""
_Steps = dict[int, tuple[str, ...]]


def recover(
    text: Texts,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write.")],
    model: Annotated[
        str | None,
        typer.Option("--model", help="Hugging Face folder.", show_default="the plan's"),
    ] = None,
    plan: Annotated[
        Path | None, typer.Option("--plan", help="Plan file: its tp and its dropped syncs.")
    ] = None,
    drop: Annotated[
        str | None, typer.Option("--drop", help="Blocks whose sync is dropped: 0-3,7.")
    ] = None,
    tp: Annotated[
        int | None, typer.Option("--tp", min=2, help="With --drop: tensor-parallel size.")
    ] = None,
    steps: Annotated[
        str | None,
        typer.Option(
            "--steps",
            help="Some of bias,heads,neurons,distil; none drops as it is.",
            show_default="the plan's treatments, else all",
        ),
    ] = None,
    block_steps: Annotated[
        list[str] | None,
        typer.Option(
            "--block-steps", help="Other steps for some blocks: 0,3=heads,distil; repeatable."
        ),
    ] = None,
    sensitivity: Annotated[
        Path | None,
        typer.Option(
            "--sensitivity", help="Steps by class: ISB none, SB distil, ESB heads and distil."
        ),
    ] = None,
    eval_text: Annotated[
        list[Path] | None,
        typer.Option("--eval-text", help="Text that chooses nothing, to judge the result on."),
    ] = None,
    held_back: Annotated[
        str, typer.Option("--held-back", help="Share of the text that judges each step.")
    ] = "20%",
    context: Context = 512,
    windows: Windows = 64,
    tokenizer: TokenizerOption = None,
    seed: Seed = 0,
    batch: Batch = 4,
    dtype: Dtype = "float32",
    device: DeviceOption = None,
    rate: Annotated[
        float, typer.Option("--rate", min=0.0, help="Learning rate of distillation.")
    ] = 1e-3,
    epochs: Annotated[
        int, typer.Option("--epochs", min=1, help="Passes of distillation at most.")
    ] = 10,
    as_json: Json = False,
) -> None:
    """Repair the blocks whose syncs are dropped; a folder that transformers and validate run."""
    folder, ranks, dropped = _asked(model, plan, drop, tp)
    planned = read_plan(plan).treatments if plan is not None and steps is None else {}
    everywhere = ",".join(_STEPS) if steps is None else steps
    wanted = _steps_of(dropped, everywhere, block_steps or [], sensitivity, folder, planned)
    share = read(fraction, "--held-back", held_back) or 0.0
    if not 0.0 < share < 1.0:
        raise InputError(f"--held-back: {held_back!r} leaves no text (allowed: between 0 and 1)")
    require_validate_extra()
    from validation.spd.distil import Training
    from validation.spd.folder import check_target, write_recovered
    from validation.spd.network import load_network
    from validation.spd.record import FOLDER, RECORD, read_record
    from validation.spd.recover import Settings
    from validation.spd.recover import recover as run
    from validation.spd.resume import Kept
    from validation.spd.scan import digest_of

    if read_record(folder):
        raise InputError(f"{folder / FOLDER / RECORD}: recovered already (use the original folder)")
    where = read_device(device)
    corpus, torch_dtype = read_text_for(folder, text, tokenizer, context, ranks, dtype)
    fit, judge = corpus.split(share)
    count = max(1, round(windows * share / (1 - share)))
    calibration = fit.windows(context, count=windows, seed=seed, what="calibration text")
    held = judge.windows(context, count=count, seed=seed, what="held-back text")
    unseen = None
    if eval_text:
        other, _ = read_text_for(folder, eval_text, tokenizer, context, ranks, dtype)
        unseen = other.windows(context, count=windows, seed=seed, what="evaluation text")
    check_target(folder, output)
    settings = Settings(
        batch=batch, seed=seed, training=Training(rate=rate, epochs=epochs, seed=seed)
    )
    digest = digest_of(
        folder, corpus.digest, ranks, wanted, settings, context, windows, share, dtype, where
    )
    network = load_network(folder, ranks, dtype=torch_dtype, device=where)
    kept = Kept(folder=output.with_name(f".{output.name}.partial"), digest=digest)
    with resumable(), progress("recovering", not as_json) as report:
        found = run(
            network,
            calibration,
            held,
            dropped,
            wanted,
            settings=settings,
            done=kept.load(network),
            on_block=kept.add,
            on_progress=report,
        )
    record = _record(network, found, unseen, batch, (corpus.digest, context, seed))
    write_recovered(folder, output, network, found.blocks, record)
    kept.remove()
    _show(record, output, as_json)


def _asked(
    model: str | None, plan: Path | None, drop: str | None, tp: int | None
) -> tuple[Path, int, tuple[int, ...]]:
    """The model's folder, the ranks and the dropped blocks."""
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
    from simulator.model import read_model

    if not folder.is_dir():
        raise InputError(f"--model: {folder}: not a folder (allowed: one with its weights)")
    count = read_model(folder).num_hidden_layers
    if not dropped:
        raise InputError("no attention sync is dropped: there is nothing to recover")
    if dropped[-1] >= count:
        raise InputError(f"drop: {folder.name} has blocks 0 to {count - 1}, not {dropped[-1]}")
    return folder, tp, dropped


def _steps_of(
    dropped: tuple[int, ...],
    steps: str,
    block_steps: list[str],
    sensitivity: Path | None,
    folder: Path,
    planned: Mapping[int, str],
) -> _Steps:
    """The steps of each dropped block; `planned` has a plan's treatments."""
    found = dict.fromkeys(dropped, _named_steps("--steps", steps))
    for block in dropped:
        if block in planned:
            found[block] = read(steps_of, "plan: treatments", planned[block]) or ()
    if sensitivity is not None:
        from simulator.model import read_model
        from tuner.accuracy import read_sensitivity

        table = read_sensitivity(sensitivity, read_model(folder))
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
    unknown = [name for name in names if name not in _STEPS]
    if unknown or not names:
        what = f"unknown step {unknown[0]!r:.40}" if unknown else "no step given"
        raise InputError(f"{option}: {what} (allowed: {', '.join(_STEPS)}, or none)")
    return tuple(step for step in _STEPS if step in names)


def _record(
    network: "Network",
    found: "Recovery",
    unseen: "TextWindows | None",
    batch: int,
    source: tuple[str, int, int],
) -> "Record":
    from validation.spd.record import Perplexities, Record
    from validation.spd.repair import block_record

    dropped = found.dropped
    digest, context, seed = source
    return Record(
        model=network.shape.name,
        tp=network.tp,
        dropped=dropped,
        blocks=tuple(map(block_record, found.blocks)),
        held_back=Perplexities(
            tokens=found.whole.tokens,
            whole=found.whole.perplexity,
            zero_shot=found.zero_shot.perplexity,
            recovered=found.recovered.perplexity,
            synced=found.synced.perplexity,
        ),
        evaluation=None if unseen is None else _perplexities(network, found, unseen, batch),
        text=digest,
        context=context,
        seed=seed,
    )


def _perplexities(network: "Network", found: "Recovery", windows: "TextWindows", batch: int) -> Any:
    from validation.spd.network import evaluate
    from validation.spd.record import Perplexities

    runs = {
        "whole": (network, ()),
        "zero_shot": (network, found.dropped),
        "recovered": (found.network, found.dropped),
        "synced": (found.network, ()),
    }
    return Perplexities(
        tokens=windows.tokens,
        **{
            name: evaluate(which, windows, dropped=dropped, batch=batch).perplexity
            for name, (which, dropped) in runs.items()
        },
    )


def _show(record: "Record", output: Path, as_json: bool) -> None:
    if as_json:
        print_json({"folder": str(output), **record.model_dump(mode="json")})
        return
    from isotune.recovery_view import recovery_view

    show(recovery_view(record))
    show(f"wrote {output}")
