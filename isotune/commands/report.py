"""`isotune report`: results as one page to share."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from isotune.commands.options import OutputOptions, application, command, output_option, plain
from isotune.results import Answer
from isotune.simulator.io import check_writable, write_text


@dataclass(frozen=True, kw_only=True)
class Report(OutputOptions):
    """Make one self-contained HTML page of saved results: no network, opens from disk."""

    results: Annotated[
        list[Path],
        typer.Argument(
            metavar="RESULT...",
            help="What search, predict, sweep, check, calibrate, validate, sensitivity, recover, "
            "remeasure or import trace printed with --json, plan.yaml, policy.yaml, a sweep's "
            "table, or sensitivity.json.",
        ),
    ]
    output: Annotated[Path, output_option("HTML page to write.")] = Path("report.html")
    title: Annotated[
        str | None, plain("--title", "TEXT", "Title of the page.", show_default="what is reported")
    ] = None

    def run(self) -> None:
        """Write the page, and print the verdict of each result."""
        from isotune.present.page import make_report

        check_writable(self.output)
        page = make_report(self.results, self.title)
        write_text(self.output, page.html)
        size = len(page.html.encode())
        answer = Answer.of(
            "page",
            file=str(self.output),
            bytes=size,
            results=[
                {"file": section.source, "kind": section.kind, "verdict": section.verdict}
                for section in page.sections
            ],
            figures=sum(len(section.figures) for section in page.sections),
        )
        verdicts = (section.verdict for section in page.sections)
        self.emit(answer, *verdicts, f"wrote {self.output} ({size / 1e6:.1f} MB)")


app = application(command(Report))
