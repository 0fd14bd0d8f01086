"""`isotune sweep`: the design space as a table."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isotune.commands.options import DEFAULT_MODEL, Json, read
from isotune.commands.output import print_result, progress, show
from isotune.commands.parsers import sizes
from isotune.simulator.errors import InputError
from isotune.simulator.io import check_writable, checked
from isotune.simulator.schedule import TECHNIQUES

if TYPE_CHECKING:
    from isotune.tuner.sweep import SweepResult

_MOST_SUMMARISED = 200_000


def sweep(
    grid: Annotated[
        Path | None, typer.Argument(help="YAML file with the axes; options replace its axes.")
    ] = None,
    hw: Annotated[str | None, typer.Option("--hw", help="Profiles, by comma.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Models, by comma.")] = None,
    tp: Annotated[str | None, typer.Option("--tp", help="Sizes, by comma.")] = None,
    batch: Annotated[str | None, typer.Option("--batch", help="Requests, by comma.")] = None,
    prompt: Annotated[
        str | None, typer.Option("--prompt", help="Prompt lengths: 1k,2k,4k or 1k:128k:1k.")
    ] = None,
    phase: Annotated[str | None, typer.Option("--phase", help="prefill, decode.")] = None,
    weight_dtype: Annotated[str | None, typer.Option("--weight-dtype", help="By comma.")] = None,
    comm_dtype: Annotated[str | None, typer.Option("--comm-dtype", help="By comma.")] = None,
    strategies: Annotated[
        str | None,
        typer.Option("--strategies", help=f"Techniques, by comma: {', '.join(TECHNIQUES)}."),
    ] = None,
    jobs: Annotated[int | None, typer.Option("--jobs", min=1, help="Processes.")] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Table, .parquet or .csv.")] = Path(
        "sweep.parquet"
    ),
    as_json: Json = False,
) -> None:
    """Predict every combination of hardware, model, tp, batch, length and strategy."""
    from isotune.tuner.sweep import Grid, read_grid
    from isotune.tuner.sweep import sweep as run_sweep

    names = {
        "hardware": hw,
        "model": model,
        "phase": phase,
        "weight_dtype": weight_dtype,
        "comm_dtype": comm_dtype,
        "strategy": strategies,
    }
    axes: dict[str, Any] = {name: _names(text) for name, text in names.items() if text}
    numbers = {"tp": tp, "batch": batch, "prompt": prompt}
    axes |= {name: read(_lengths, f"--{name}", text) for name, text in numbers.items() if text}
    if grid is None and hw is None:
        raise InputError("give a grid file or --hw (machines)")
    base = {"model": (DEFAULT_MODEL,)} if grid is None else read_grid(grid).model_dump()
    wanted = checked(Grid, base | axes, grid or "sweep")
    check_writable(output)
    with progress("sweeping", not as_json) as report:
        result = run_sweep(wanted, output, jobs=jobs, progress=report)
    if as_json:
        print_result(
            "sweep",
            {
                "file": str(output),
                "rows": result.rows,
                "resumed_parts": result.resumed,
                "skipped": result.skipped,
                "interrupted": result.interrupted,
            },
        )
    elif not result.interrupted:
        _summary(output, result)
        show(f"wrote {result.rows:,} rows to {output} ({result.resumed} parts were there)")
    if result.interrupted:
        show("interrupted; the same command goes on from here")
        raise typer.Exit(130)


def _summary(table: Path, result: "SweepResult") -> None:
    from isotune.render_sweep import skipped_view, sweep_view
    from isotune.tuner.sweep import read_rows

    # A table of millions is for other programs, and takes longer to read than to write.
    if result.rows <= _MOST_SUMMARISED:
        show(sweep_view(read_rows(table), result.skipped))
    else:
        show(skipped_view(result.skipped))


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _lengths(text: str) -> tuple[int, ...]:
    """`1k,2k` or `1k:8k:1k` (first, last and step) as numbers."""
    if ":" not in text:
        return sizes(text)
    ends = sizes(text.replace(":", ","))
    if len(ends) != 3 or ends[2] < 1 or ends[0] > ends[1]:
        raise InputError(f"{text!r} is not first:last:step such as 1k:8k:1k")
    return tuple(range(ends[0], ends[1] + 1, ends[2]))
