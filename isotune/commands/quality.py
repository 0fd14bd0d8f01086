"""Options and output of the quality gate of `isotune validate`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isotune.commands.options import read
from isotune.commands.output import progress
from isotune.commands.parsers import fraction
from isotune.commands.textual import read_text_for
from isotune.simulator.errors import InputError

if TYPE_CHECKING:
    from isotune.validation.real_run import Limits, Quality, Score, Setup
    from isotune.validation.spd.model import Windows

GateOption = Annotated[
    bool,
    typer.Option("--quality", help="Judge a lossy plan by its numbers on --text, not by speed."),
]
GateTexts = Annotated[
    list[Path] | None,
    typer.Option("--text", help="Text file to judge on; may be given several times."),
]
Original = Annotated[
    Path | None,
    typer.Option(
        "--original",
        help="Folder to compare with, such as one before recovery.",
        show_default="the model's",
    ),
]
MaxRise = Annotated[
    str, typer.Option("--max-perplexity-rise", metavar="SHARE", help="Growth allowed, or none.")
]
MinAgreement = Annotated[
    str | None,
    typer.Option("--min-agreement", metavar="SHARE", help="Positions with the same next token."),
]
MaxChange = Annotated[
    float | None,
    typer.Option("--max-logprob-change", min=0.0, metavar="NATS", help="Of any token of the text."),
]
Tasks = Annotated[
    str | None,
    typer.Option(
        "--lm-eval", metavar="NAMES", help="Tasks of lm-evaluation-harness, by comma, as well."
    ),
]
TaskFolder = Annotated[
    Path | None, typer.Option("--lm-eval-folder", help="Folder with task files of your own.")
]


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What a plan is judged on: windows of text, limits, and tasks of the harness."""

    windows: "Windows"
    limits: "Limits"
    original: Path | None
    tasks: tuple[str, ...]
    task_folder: Path | None

    def judge(self, setup: "Setup", as_json: bool) -> "Judged":
        """Run the plan and the original on the text, and on the tasks."""
        from isotune.validation.real_run import compare_quality, forwards, run_tasks

        with progress("judging", not as_json) as report:
            original, planned = forwards(setup, self.original)
            quality = compare_quality(
                original, planned, self.windows, self.limits, on_progress=report
            )
        scores: tuple[Score, ...] = ()
        if self.tasks:
            scores = run_tasks(setup, self.original, self.tasks, folder=self.task_folder)
        return Judged(quality=quality, scores=scores)


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What a gate found."""

    quality: "Quality"
    scores: "tuple[Score, ...]" = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain data; shares as fractions, log-probabilities in nats."""
        found = self.quality
        return asdict(found) | {
            "perplexity_rise": found.perplexity_rise,
            "ok": found.ok,
            "exceeded": list(found.exceeded()),
            "lm_eval": [asdict(score) for score in self.scores],
        }

    def lines(self) -> list[str]:
        """For people: the verdict first."""
        found = self.quality
        verdict = "good" if found.ok else "NOT GOOD: " + "; ".join(found.exceeded())
        lines = [
            f"quality: {verdict}",
            f"  perplexity {found.perplexity:.4f} instead of {found.original_perplexity:.4f} "
            f"({found.perplexity_rise * 100:+.2f} %), on {found.tokens:,} tokens",
            f"  the next token agrees at {found.agreement * 100:.2f} % of positions; a "
            f"log-probability changes by at most {found.max_logprob_change:.3g} nats",
        ]
        lines += [
            f"  {score.task} {score.metric.removesuffix(',none')}: {score.planned:.4f} instead of "
            f"{score.original:.4f}"
            for score in self.scores
        ]
        return lines


def read_gate(
    setup: "Setup",
    *,
    texts: Sequence[Path] | None,
    original: Path | None,
    limits: tuple[str, str | None, float | None],
    context: int,
    windows: int,
    tokenizer: str | None,
    tasks: tuple[str | None, Path | None],
) -> Gate:
    """Read the text and refuse what cannot be judged, before anything runs.

    Raises:
        InputError: no text, no weights, a cut model, a bad limit, or no harness.
    """
    from isotune.validation.real_run import Limits, check_quality, require_harness

    if not texts:
        raise InputError("--quality needs --text FILE, on which the plan is judged")
    folder = check_quality(setup, original)
    rise, agreement, change = limits
    names = tuple(name.strip() for name in (tasks[0] or "").split(",") if name.strip())
    if names:
        require_harness()
    corpus, _ = read_text_for(folder, texts, tokenizer, context, setup.ranks, "float32")
    return Gate(
        windows=corpus.windows(context, count=windows),
        limits=Limits(
            max_perplexity_rise=None
            if rise == "none"
            else read(fraction, "--max-perplexity-rise", rise),
            min_agreement=read(fraction, "--min-agreement", agreement),
            max_logprob_change=change,
        ),
        original=original,
        tasks=names,
        task_folder=tasks[1],
    )
