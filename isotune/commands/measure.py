"""`isotune measure`: microbenchmarks of this machine."""

from pathlib import Path
from typing import Annotated

import typer

from isotune.commands.options import Json, read
from isotune.commands.output import print_json, progress, show
from isotune.commands.parsers import tokens
from isotune.simulator.architecture import check_tp, load_model
from isotune.simulator.errors import InputError
from isotune.simulator.io import check_writable, write_text
from isotune.validation.choices import OPS, Op
from isotune.validation.extra import require_validate_extra
from isotune.validation.measure import Range

_DTYPES = ("bf16", "fp16")


def measure(
    output: Annotated[Path, typer.Option("-o", "--output", help="The table (.csv).")],
    name: Annotated[str, typer.Option("--name", help="What to call this machine.")] = "this",
    model: Annotated[
        str, typer.Option("--model", help="Whose shapes: bundled name, folder or config.json.")
    ] = "llama-2-7b",
    nproc: Annotated[int, typer.Option("--nproc", min=1, help="Ranks to start.")] = 1,
    tp: Annotated[
        int | None, typer.Option("--tp", help="Whose shards.", show_default="--nproc")
    ] = None,
    most: Annotated[
        str,
        typer.Option("--tokens", metavar="TOKENS", help="Most rows, or fewest:most; 4k = 4096."),
    ] = "4k",
    ops: Annotated[str, typer.Option("--ops", help="Which, separated by commas.")] = ",".join(OPS),
    dtype: Annotated[str, typer.Option("--dtype", help="bf16 or fp16.")] = "bf16",
    device: Annotated[
        str | None, typer.Option("--device", help="cpu or cuda.", show_default="cuda if there")
    ] = None,
    budget: Annotated[float, typer.Option("--seconds", help="Time of each measurement.")] = 0.2,
    timeout: Annotated[
        float, typer.Option("--timeout", min=1.0, help="Seconds without progress allowed.")
    ] = 120.0,
    as_json: Json = False,
) -> None:
    """Measure GEMMs, attention, norms, all-reduces and their contention into a table."""
    wanted_ops = _ops(ops)
    if dtype not in _DTYPES:
        raise InputError(f"--dtype: {dtype!r} (allowed: {', '.join(_DTYPES)})")
    if device not in (None, "cpu", "cuda"):
        raise InputError(f"--device: {device!r} is not a device (allowed: cpu, cuda)")
    shape = load_model(model)
    check_tp(shape, tp or nproc)
    check_writable(output)
    require_validate_extra()
    from isotune.validation.measure import contention_csv, measurements_csv, source_text
    from isotune.validation.measure import measure as run
    from isotune.validation.real_run import default_device

    least, _, last = most.rpartition(":")
    fewest, rows_at_most = (read(tokens, "--tokens", text) or 1 for text in (least or "1", last))
    if not 1 <= fewest <= rows_at_most:
        raise InputError(f"--tokens: {most!r} (allowed: 1 or more, as 4k or 64:4k)")
    wanted = Range(
        model=shape,
        tp=tp or nproc,
        tokens=rows_at_most,
        least=fewest,
        ranks=nproc,
        ops=wanted_ops,
        cuda=(device or default_device()) == "cuda",
    )
    with progress("measuring", wanted=not as_json) as report:
        done = run(wanted, dtype=dtype, budget_s=budget, timeout_s=timeout, on_row=report)
    if done is None:
        return
    rows, failure = done
    about = {
        "hw": name,
        "dtype": dtype,
        "algorithm": "nccl" if wanted.cuda else "gloo",
        "source": source_text(wanted),
    }
    if not rows:  # a table of an earlier run stays as it is
        _end(failure)
    contended = sum(row.case.op == "contention" for row in rows)
    beside = output.with_name(f"{output.stem}-contention.csv")
    tables = (
        (output, measurements_csv, len(rows) - contended),
        (beside, contention_csv, contended),
    )
    written = {}
    for path, csv_of, count in tables:
        if count:
            write_text(path, csv_of(rows, **about))
            written[str(path)] = count
    if as_json:
        print_json({"rows": written, "failure": failure})
    else:
        show("\n".join(f"wrote {path}: {count} rows" for path, count in written.items()))
    _end(failure)


def _end(failure: str | None) -> None:
    if failure is not None:
        typer.echo(f"isotune: {failure}", err=True)
        raise typer.Exit(130 if failure == "interrupted" else 1)


def _ops(text: str) -> tuple[Op, ...]:
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    unknown = [name for name in names if name not in OPS]
    if unknown or not names:
        raise InputError(f"--ops: {', '.join(unknown) or text!r} (allowed: {', '.join(OPS)})")
    return tuple(op for op in OPS if op in names)
