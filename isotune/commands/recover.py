"""`isotune recover`: win back what dropped attention syncs cost a checkpoint."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isotune.commands.options import Json, read
from isotune.commands.output import print_json, progress, show
from isotune.commands.parsers import fraction
from isotune.commands.recover_asked import asked, steps_by_block
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
from isotune.simulator.errors import InputError
from isotune.simulator.files import read_plan
from isotune.simulator.schedule import STEPS
from isotune.validation.extra import require_validate_extra

if TYPE_CHECKING:
    from isotune.validation.spd.checkpoint import Record
    from isotune.validation.spd.model import Corpus, Network
    from isotune.validation.spd.model import Windows as TextWindows
    from isotune.validation.spd.recover import Recovery


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
    folder, ranks, dropped = asked(model, plan, drop, tp)
    planned = read_plan(plan).treatments if plan is not None and steps is None else {}
    everywhere = ",".join(STEPS) if steps is None else steps
    model_at = folder, ranks
    wanted = steps_by_block(dropped, everywhere, block_steps or [], sensitivity, model_at, planned)
    share = read(fraction, "--held-back", held_back) or 0.0
    if not 0.0 < share < 1.0:
        raise InputError(f"--held-back: {held_back!r} leaves no text (allowed: between 0 and 1)")
    require_validate_extra()
    from isotune.validation.spd.checkpoint import FOLDER, RECORD, read_record
    from isotune.validation.spd.model import digest_of, load_network
    from isotune.validation.spd.recover import (
        Kept,
        Settings,
        Training,
        check_target,
        write_recovered,
    )
    from isotune.validation.spd.recover import recover as run

    if read_record(folder):
        raise InputError(f"{folder / FOLDER / RECORD}: recovered already (use the original folder)")
    where = read_device(device)
    check_target(folder, output)
    material = _material(
        partial(read_text_for, folder, tokenizer=tokenizer, context=context, tp=ranks, dtype=dtype),
        (text, eval_text or []),
        share,
        (context, windows, seed),
    )
    settings = Settings(
        batch=batch, seed=seed, training=Training(rate=rate, epochs=epochs, seed=seed)
    )
    digest = digest_of(
        folder, material.digest, ranks, wanted, settings, context, windows, share, dtype, where
    )
    network = load_network(folder, ranks, dtype=material.dtype, device=where)
    kept = Kept(folder=output.with_name(f".{output.name}.partial"), digest=digest)
    with resumable(), progress("recovering", not as_json) as report:
        found = run(
            network,
            material.calibration,
            material.held_back,
            dropped,
            wanted,
            settings=settings,
            done=kept.load(network),
            on_block=kept.add,
            on_progress=report,
        )
    record = _record(network, found, material.unseen, batch, (material.digest, context, seed))
    write_recovered(folder, output, network, found.blocks, record)
    kept.remove()
    _show(record, output, as_json)


@dataclass(frozen=True, kw_only=True)
class _Material:
    """The text that fits repairs, that judges them, and that does neither; torch's type."""

    digest: str
    dtype: Any
    calibration: "TextWindows"
    held_back: "TextWindows"
    unseen: "TextWindows | None"


def _material(
    corpus_of: Callable[[list[Path]], tuple["Corpus", Any]],
    files: tuple[list[Path], list[Path]],
    share: float,
    sizes: tuple[int, int, int],
) -> _Material:
    """Windows of the text and of the evaluation text; `share` of the first is held back."""
    context, windows, seed = sizes
    from isotune.validation.spd.model import repair_windows

    corpus, dtype = corpus_of(files[0])
    fit, judge = repair_windows(corpus, context, count=windows, seed=seed, share=share)
    unseen = None
    if files[1]:
        other, _ = corpus_of(files[1])
        unseen = other.windows(context, count=windows, seed=seed, what="evaluation text")
    return _Material(
        digest=corpus.digest,
        dtype=dtype,
        calibration=fit,
        held_back=judge,
        unseen=unseen,
    )


def _record(
    network: "Network",
    found: "Recovery",
    unseen: "TextWindows | None",
    batch: int,
    source: tuple[str, int, int],
) -> "Record":
    from isotune.validation.spd.checkpoint import Perplexities, Record
    from isotune.validation.spd.recover import block_record

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
    from isotune.validation.spd.checkpoint import Perplexities
    from isotune.validation.spd.model import evaluate

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
