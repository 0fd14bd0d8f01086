"""`isotune sensitivity`: what each dropped attention sync costs a checkpoint."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isotune.commands.options import Json, read, treatment_names
from isotune.commands.output import print_json, progress, show
from isotune.commands.parsers import fraction
from isotune.commands.textual import (
    Batch,
    Context,
    DeviceOption,
    Dtype,
    Seed,
    Stride,
    Texts,
    TokenizerOption,
    Windows,
    read_device,
    read_text_for,
    resumable,
)
from isotune.simulator.errors import InputError
from isotune.simulator.io import check_writable, write_text
from isotune.validation.extra import require_validate_extra

if TYPE_CHECKING:
    from isotune.tuner.accuracy import Sensitivity, Thresholds
    from isotune.validation.spd.model import Corpus, Network, Scan
    from isotune.validation.spd.recover import Measurement

_DEFAULT_QUANTILES = (0.6, 0.9)
"""The paper drops about 60 % of the blocks as they are, and about 91 % after recovery."""


def sensitivity(
    model: Annotated[Path, typer.Option("--model", help="Hugging Face folder.")],
    text: Texts,
    tp: Annotated[int, typer.Option("--tp", min=2, help="Tensor-parallel size.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write.")] = Path(
        "sensitivity.json"
    ),
    scan: Annotated[
        str, typer.Option("--scan", help="Whose numbers are the blocks': single or cumulative.")
    ] = "single",
    tau: Annotated[
        str | None, typer.Option("--tau", help="tau1,tau2, such as 0.1%,1%.", show_default=False)
    ] = None,
    quantiles: Annotated[
        str | None,
        typer.Option(
            "--quantiles", help="Shares of blocks up to ISB and SB.", show_default="60%,90%"
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option("--budget", help="Growth of perplexity the ISBs may cost together."),
    ] = None,
    treatments: Annotated[
        str | None,
        typer.Option(
            "--treatments",
            metavar="NAMES",
            help="Also each block's cost after repairs, by comma, such as bias,bias+distil.",
        ),
    ] = None,
    context: Context = 512,
    stride: Stride = None,
    windows: Windows = 64,
    tokenizer: TokenizerOption = None,
    seed: Seed = 0,
    batch: Batch = 4,
    dtype: Dtype = "float32",
    device: DeviceOption = None,
    as_json: Json = False,
) -> None:
    """Drop every attention sync of a checkpoint, one by one and together: what does it cost?"""
    from isotune.tuner.accuracy import Measured, Sensitivity

    if scan not in ("single", "cumulative"):
        raise InputError(f"--scan: {scan!r:.40} (allowed: single, cumulative)")
    asked = _asked(tau, quantiles, budget)
    wanted = read(treatment_names, "--treatments", treatments) or ()
    check_writable(output)
    require_validate_extra()
    from isotune.validation.spd.model import Partial, digest_of, load_network
    from isotune.validation.spd.model import scan as run

    where = read_device(device)
    corpus, torch_dtype = read_text_for(model, text, tokenizer, context, tp, dtype)
    chosen = corpus.windows(context, stride=stride, count=windows, seed=seed)
    key = digest_of(model, corpus.digest, tp, context, stride, windows, seed, batch, dtype, where)
    partial = Partial(path=output.with_name(f".{output.name}.partial"), digest=key)
    partial.load()
    network = load_network(model, tp, dtype=torch_dtype, device=where)
    with resumable(), progress("scanning", not as_json) as report:
        found = run(network, chosen, batch=batch, partial=partial, on_progress=report)
    costs = found.growth(scan)
    gains: dict[str, tuple[float, ...]] = {}
    if wanted:
        repairs = _repairs(network, corpus, (context, windows, seed, batch))
        gains = _gains(repairs, wanted, f"{key}:repairs", output, as_json)
    thresholds = _thresholds(asked, costs)
    table = Sensitivity(
        model=network.shape.name,
        blocks=costs,
        treatments={
            name: tuple(cost + gain for cost, gain in zip(costs, row, strict=True))
            for name, row in gains.items()
        },
        classes=thresholds.classes(costs),
        tau1=thresholds.tau1,
        tau2=thresholds.tau2,
        measured=Measured(
            tp=tp,
            scan=scan,  # type: ignore[arg-type]
            perplexity=found.perplexity,
            single=found.single,
            cumulative=found.cumulative,
            text=corpus.digest,
            tokens=chosen.tokens,
            context=context,
            stride=stride or context,
            windows=len(chosen),
            seed=seed,
            dtype=dtype,
        ),
    )
    write_text(output, table.model_dump_json(indent=2) + "\n")
    partial.remove()
    _show(table, found, output, as_json)


def _repairs(
    network: "Network", corpus: "Corpus", sizes: tuple[int, int, int, int]
) -> "Measurement":
    """What repairs are fitted on, and the held-back fifth of the text that judges them."""
    from isotune.validation.spd.model import repair_windows
    from isotune.validation.spd.recover import Measurement, Settings

    context, windows, seed, batch = sizes
    calibration, held_back = repair_windows(corpus, context, count=windows, seed=seed)
    return Measurement(
        network=network,
        calibration=calibration,
        held_back=held_back,
        settings=Settings(batch=batch, seed=seed),
    )


def _gains(
    repairs: "Measurement", wanted: tuple[str, ...], key: str, output: Path, as_json: bool
) -> dict[str, tuple[float, ...]]:
    """What each treatment gains; an interrupted run goes on where it was."""
    from isotune.validation.spd.recover import single_gains

    kept = output.with_name(f".{output.name}.gains")
    done: dict[str, float] = {}
    with suppress(OSError, ValueError, KeyError, TypeError):
        there = json.loads(kept.read_text())
        done = dict(there["gains"]) if there["key"] == key else {}

    def keep(gains: Mapping[str, float]) -> None:
        write_text(kept, json.dumps({"key": key, "gains": dict(gains)}))

    with resumable(), progress("repairing", not as_json) as report:
        found = single_gains(repairs, wanted, done=done, on_gain=keep, on_progress=report)
    kept.unlink(missing_ok=True)
    return found


_Asked = tuple[str, tuple[float, ...]]


def _asked(tau: str | None, quantiles: str | None, budget: str | None) -> _Asked:
    """Which way of choosing thresholds was asked for, and its numbers."""
    given = {"tau": tau, "quantiles": quantiles, "budget": budget}
    named = [name for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise InputError(f"--{named[0]} and --{named[1]} exclude each other")
    if not named:
        return "quantiles", _DEFAULT_QUANTILES
    name = named[0]
    text = given[name] or ""
    if name == "budget":
        return name, (read(fraction, "--budget", text) or 0.0,)
    parts = text.split(",")
    if len(parts) != 2:
        raise InputError(f"--{name}: {text!r:.40} is not two shares such as 0.1%,1%")
    return name, tuple(read(fraction, f"--{name}", part.strip()) or 0.0 for part in parts)


def _thresholds(asked: _Asked, costs: tuple[float, ...]) -> "Thresholds":
    from isotune.tuner.accuracy import Thresholds

    name, numbers = asked
    if name == "budget":
        return Thresholds.by_budget(costs, numbers[0])
    if name == "quantiles":
        return Thresholds.by_quantiles(costs, numbers[0], numbers[1])
    return Thresholds(tau1=numbers[0], tau2=numbers[1])


def _show(table: "Sensitivity", found: "Scan", output: Path, as_json: bool) -> None:
    passes = {"block_passes": found.passes, "whole_evaluation_passes": found.whole_passes}
    if as_json:
        print_json({"file": str(output), **passes, **table.model_dump(mode="json")})
        return
    show(_table(table))
    counts = ", ".join(f"{table.classes.count(kind)} {kind}" for kind in ("ISB", "SB", "ESB"))
    show(
        f"{counts} (tau1 {_percent(table.tau1)}, tau2 {_percent(table.tau2)}); perplexity "
        f"{found.perplexity:.4f} with every sync, on {found.tokens:,} tokens"
    )
    show(f"ran {found.passes:,} of {found.whole_passes:,} block passes")
    show(f"wrote {output}")


def _table(table: "Sensitivity") -> Any:
    from rich.table import Table

    assert table.measured is not None
    view = Table(box=None, pad_edge=False)
    for name in ("block", "alone", "with all after", "growth", *table.treatments, "class"):
        view.add_column(name, justify="right")
    rows = zip(
        table.measured.single, table.measured.cumulative, table.blocks, table.classes, strict=True
    )
    for block, (single, cumulative, cost, kind) in enumerate(rows):
        shares = map(_percent, (cost, *(costs[block] for costs in table.treatments.values())))
        view.add_row(str(block), f"{single:.4f}", f"{cumulative:.4f}", *shares, kind)
    return view


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.3f}%"
