"""The quality gate of `isotune validate`: its options, and what it finds."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from isotune.commands.options import (
    WindowOptions,
    fraction,
    fraction_or_none,
    names,
    option,
    plain,
    progress,
    real,
)
from isotune.simulator.errors import InputError

if TYPE_CHECKING:
    from isotune.results import Quality
    from isotune.validation.real_run import Limits, Score, Setup
    from isotune.validation.spd.model import Windows


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What a plan is judged on: windows of text, limits, and tasks of the harness."""

    windows: "Windows"
    limits: "Limits"
    original: Path | None
    tasks: tuple[str, ...]
    task_folder: Path | None

    def judge(self, setup: "Setup", as_json: bool) -> "Quality":
        """Run the plan and the original on the text, and on the tasks."""
        from isotune.results import Quality
        from isotune.validation.real_run import compare_quality, forwards, run_tasks

        with progress("judging", not as_json) as report:
            original, planned = forwards(setup, self.original)
            found = compare_quality(
                original, planned, self.windows, self.limits, on_progress=report
            )
        scores: tuple[Score, ...] = ()
        if self.tasks:
            scores = run_tasks(setup, self.original, self.tasks, folder=self.task_folder)
        return Quality.of(found, scores)


@dataclass(frozen=True, kw_only=True)
class QualityOptions(WindowOptions):
    """What a lossy plan is judged on, and how far its outputs may be off."""

    PANEL: ClassVar = "Quality of a lossy plan"

    quality: Annotated[
        bool,
        typer.Option(
            "--quality", help="Judge a lossy plan by its outputs on --text, not only by its speed."
        ),
    ] = False
    text: Annotated[
        list[Path] | None, plain("--text", "FILE", "Text to judge on; may be given several times.")
    ] = None
    original: Annotated[
        Path | None,
        plain(
            "--original",
            "FOLDER",
            "Model to compare with, such as the one before recovery.",
            show_default="the model's folder",
        ),
    ] = None
    max_perplexity_rise: Annotated[
        float | None,
        option(
            "--max-perplexity-rise",
            fraction_or_none,
            "SHARE",
            "Largest growth of perplexity, or none.",
            show_default="1%",
        ),
    ] = 0.01
    min_agreement: Annotated[
        float | None,
        option(
            "--min-agreement",
            fraction,
            "SHARE",
            "Smallest share of positions with the same next token.",
        ),
    ] = None
    max_logprob_change: Annotated[
        float | None,
        option(
            "--max-logprob-change",
            real(0.0),
            "NATS",
            "Largest change of the log-probability of any token of the text.",
        ),
    ] = None
    lm_eval: Annotated[
        tuple[str, ...] | None,
        option(
            "--lm-eval",
            names,
            "NAMES",
            "Tasks of lm-evaluation-harness to run too, comma-separated.",
        ),
    ] = None
    lm_eval_folder: Annotated[
        Path | None,
        plain(
            *("--lm-eval-folder", "FOLDER"),
            "Folder with task files of your own. The harness runs the code that they name.",
        ),
    ] = None

    def check_quality_options(self) -> None:
        """Refuse options of the gate without the gate.

        Raises:
            InputError: which option.
        """
        given = {"--text": self.text, "--original": self.original, "--lm-eval": self.lm_eval}
        for flag, value in given.items():
            if value and not self.quality:
                raise InputError(f"{flag} needs --quality")

    def gate(self, setup: "Setup") -> Gate:
        """Read the text and refuse what cannot be judged, before anything runs.

        Raises:
            InputError: no text, no weights, a truncated model, or no harness.
        """
        from isotune.validation.real_run import Limits, check_quality, require_harness

        if not self.text:
            raise InputError("--quality needs --text FILE, on which the plan is judged")
        folder = check_quality(setup, self.original)
        if self.lm_eval:
            require_harness()
        corpus, _ = self.corpus(folder, self.text, setup.ranks, "float32")
        return Gate(
            windows=corpus.windows(self.context, count=self.windows),
            limits=Limits(
                max_perplexity_rise=self.max_perplexity_rise,
                min_agreement=self.min_agreement,
                max_logprob_change=self.max_logprob_change,
            ),
            original=self.original,
            tasks=self.lm_eval or (),
            task_folder=self.lm_eval_folder,
        )
