"""`isotune validate`: a plan run for real."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isotune.commands.options import Json
from isotune.commands.output import print_result, progress, show
from isotune.commands.quality import (
    GateOption,
    GateTexts,
    Judged,
    MaxChange,
    MaxRise,
    MinAgreement,
    Original,
    TaskFolder,
    Tasks,
    read_gate,
)
from isotune.commands.textual import Context, TokenizerOption, Windows
from isotune.simulator.errors import InputError
from isotune.simulator.files import read_plan
from isotune.simulator.io import check_writable
from isotune.validation.extra import require_validate_extra

if TYPE_CHECKING:
    from isotune.validation.real_run import Validation

_DEVICES = ("cpu", "cuda")
_CHECKS = ("float32", "bf16", "fp16", "none")


def validate(
    plan: Annotated[Path, typer.Argument(help="Plan file, as search writes it.")],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="Hugging Face folder (its weights are read), config.json or bundled name "
            "(random weights).",
            show_default="the plan's",
        ),
    ] = None,
    hw: Annotated[
        str | None,
        typer.Option("--hw", help="Profile to predict with.", show_default="the plan's"),
    ] = None,
    layers: Annotated[
        int | None, typer.Option("--layers", min=1, help="Run only the first blocks.")
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", help="cpu or cuda.", show_default="cuda if there")
    ] = None,
    nproc: Annotated[
        int | None, typer.Option("--nproc", min=1, help="Ranks to start.", show_default="plan's tp")
    ] = None,
    repeat: Annotated[int, typer.Option("--repeat", min=1, help="Measured runs.")] = 10,
    warmup: Annotated[int, typer.Option("--warmup", min=0, help="Runs before them.")] = 2,
    emulate_tp: Annotated[
        int | None,
        typer.Option(
            "--emulate-tp",
            metavar="N",
            help="One device plays one of N ranks; all-reduces are copies paced to --hw's times.",
        ),
    ] = None,
    check_dtype: Annotated[
        str,
        typer.Option(
            "--check-dtype", help="Type in which numbers are compared: float32, bf16, fp16, none."
        ),
    ] = "float32",
    timeout: Annotated[
        float,
        typer.Option("--timeout", min=1.0, help="Seconds without progress after which it ends."),
    ] = 120.0,
    trace: Annotated[
        Path | None,
        typer.Option("--trace", help="Chrome/Perfetto trace, measured beside predicted."),
    ] = None,
    quality: GateOption = False,
    text: GateTexts = None,
    original: Original = None,
    max_perplexity_rise: MaxRise = "1%",
    min_agreement: MinAgreement = None,
    max_logprob_change: MaxChange = None,
    context: Context = 512,
    windows: Windows = 64,
    tokenizer: TokenizerOption = None,
    lm_eval: Tasks = None,
    lm_eval_folder: TaskFolder = None,
    as_json: Json = False,
) -> None:
    """Run a plan for real: are the numbers the model's, is the time the prediction's?"""
    if device not in (None, *_DEVICES):
        raise InputError(f"--device: {device!r} is not a device (allowed: cpu, cuda)")
    if check_dtype not in _CHECKS:
        raise InputError(f"--check-dtype: {check_dtype!r} (allowed: {', '.join(_CHECKS)})")
    if trace is not None:
        check_writable(trace)
    for option, given in (("--text", text), ("--original", original), ("--lm-eval", lm_eval)):
        if given and not quality:
            raise InputError(f"{option} needs --quality")
    file = read_plan(plan)
    require_validate_extra()
    from isotune.validation.real_run import Setup, default_device
    from isotune.validation.real_run import validate as run

    setup = Setup.of(
        file,
        plan.parent,
        device=device or default_device(),  # type: ignore[arg-type]
        model=model,
        hardware=hw,
        layers=layers,
        check_dtype=check_dtype,  # type: ignore[arg-type]
        repeat=repeat,
        warmup=warmup,
        emulate_tp=emulate_tp,
    )
    if emulate_tp is not None and nproc not in (None, 1):
        raise InputError("--emulate-tp: one process plays one rank (allowed: --nproc 1)")
    gate = None
    if quality:
        gate = read_gate(
            setup,
            texts=text,
            original=original,
            limits=(max_perplexity_rise, min_agreement, max_logprob_change),
            context=context,
            windows=windows,
            tokenizer=tokenizer,
            tasks=(lm_eval, lm_eval_folder),
        )
    with progress("measuring", not as_json) as report:
        result = run(setup, timeout_s=timeout, ranks=nproc, on_message=report)
    if result is not None:
        judged = gate.judge(setup, as_json) if gate and result.failure is None else None
        _show(result, judged, trace, as_json)


def _show(result: "Validation", judged: Judged | None, trace: Path | None, as_json: bool) -> None:
    from isotune.drawing import timelines
    from isotune.present.phrases import scenario_text
    from isotune.present.trace import write_trace
    from isotune.validation.real_run import validation_dict
    from isotune.validation_view import validation_view

    if trace is not None and result.plan.measured is not None:
        prediction, ran = result.plan.prediction, result.plan.measured
        rows = {
            "predicted": (prediction.program, prediction.timeline),
            f"{'emulated' if result.setup.emulated else 'measured'}": (ran.program, ran.timeline),
        }
        write_trace(trace, rows, {"scenario": scenario_text(prediction.scenario)})
    if as_json:
        found = {"quality": judged.as_dict() if judged else None}
        print_result(
            "validation", validation_dict(result) | {"timelines": timelines(result)} | found
        )
    else:
        show(validation_view(result))
        show("\n".join(_quality_lines(result, judged)))
    if result.failure is not None:
        typer.echo(f"isotune: {result.failure}", err=True)
        raise typer.Exit(130 if result.failure == "interrupted" else 1)
    if result.numbers is not None and not result.numbers.ok:
        typer.echo("isotune: the numbers are not the model's", err=True)
        raise typer.Exit(1)
    if judged is not None and not judged.quality.ok:
        reasons = "; ".join(judged.quality.exceeded())
        typer.echo(f"isotune: the plan is not good enough: {reasons}", err=True)
        raise typer.Exit(1)


def _quality_lines(result: "Validation", judged: Judged | None) -> list[str]:
    if judged is not None:
        return judged.lines()
    if not result.setup.plan.lossy:
        return ["quality: the plan changes no numbers"]
    return ["quality: not judged; this plan is lossy (--quality --text FILE judges it)"]
