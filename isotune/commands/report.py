"""`isotune report`: results as one page to hand around."""

from pathlib import Path
from typing import Annotated

import typer

from isotune.commands.options import Json
from isotune.commands.output import print_json, show
from isotune.simulator.io import check_writable, write_text


def report(
    results: Annotated[
        list[Path],
        typer.Argument(
            metavar="RESULT...",
            help="What search, predict, sweep, check, calibrate or validate printed with --json, "
            "plan.yaml, policy.yaml, a sweep's table, or sensitivity.json.",
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The page.")] = Path("report.html"),
    title: Annotated[
        str | None, typer.Option("--title", help="Its title.", show_default="what is reported")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make one self-contained HTML page of saved results: no network, opens from disk."""
    from isotune.present.page import make_report

    check_writable(output)
    page = make_report(results, title)
    write_text(output, page.html)
    if as_json:
        print_json(
            {
                "file": str(output),
                "bytes": len(page.html.encode()),
                "results": [
                    {"file": part.source, "kind": part.kind, "verdict": part.verdict}
                    for part in page.sections
                ],
                "figures": sum(len(part.figures) for part in page.sections),
            }
        )
        return
    for part in page.sections:
        show(part.verdict)
    show(f"wrote {output} ({len(page.html.encode()) / 1e6:.1f} MB)")
