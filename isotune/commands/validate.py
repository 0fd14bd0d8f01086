"""`isotune validate`: a plan run for real."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from isotune import results
from isotune.commands.options import (
    DeviceOption,
    OutputOptions,
    TimeoutOption,
    application,
    choice,
    command,
    end,
    hardware_option,
    model_option,
    option,
    plain,
    progress,
    whole,
)
from isotune.commands.quality import QualityOptions
from isotune.simulator.errors import InputError
from isotune.simulator.files import read_plan
from isotune.simulator.io import check_writable
from isotune.validation.choices import CHECK_DTYPES, LAUNCHES
from isotune.validation.extra import require_validate_extra

if TYPE_CHECKING:
    from isotune.results import Quality
    from isotune.validation.real_run import Setup, Validation


@dataclass(frozen=True, kw_only=True)
class _RunOptions:
    PANEL: ClassVar = "How it is run"

    layers: Annotated[
        int | None, option("--layers", whole(1), "N", "Run only the first N blocks.")
    ] = None
    device: DeviceOption = None
    nproc: Annotated[
        int | None,
        option("--nproc", whole(1), "N", "Ranks to start.", show_default="the plan's tp"),
    ] = None
    repeat: Annotated[int, option("--repeat", whole(1), "N", "Measured runs.")] = 10
    warmup: Annotated[int, option("--warmup", whole(1), "N", "Runs before the measured ones.")] = 2
    emulate_tp: Annotated[
        int | None,
        option(
            "--emulate-tp",
            whole(1),
            "N",
            "One device plays one of N ranks; all-reduces are copies paced to --hw's times.",
        ),
    ] = None
    check_dtype: Annotated[
        str, choice("--check-dtype", CHECK_DTYPES, "Number type in which outputs are compared")
    ] = "float32"
    launch: Annotated[
        str,
        choice(
            "--launch", LAUNCHES, "A GPU's kernels launched one by one, or replayed from a graph"
        ),
    ] = "eager"
    timeout: TimeoutOption = 120.0


@dataclass(frozen=True, kw_only=True)
class Validate(_RunOptions, QualityOptions, OutputOptions):
    """Run a plan for real: does it compute what the model computes, in the time predicted?"""

    plan: Annotated[Path, typer.Argument(help="Plan file, as search writes it.")]
    model: Annotated[
        str | None,
        model_option(
            "Hugging Face folder (its weights are read), config.json or bundled name "
            "(random weights)",
            show_default="the plan's",
        ),
    ] = None
    hw: Annotated[
        str | None, hardware_option("Profile to predict with", show_default="the plan's")
    ] = None
    trace: Annotated[
        Path | None, plain("--trace", "FILE", "Chrome/Perfetto trace, measured beside predicted.")
    ] = None

    def run(self) -> None:
        """Run the plan on its ranks, print measured beside predicted, and judge its outputs."""
        if self.trace is not None:
            check_writable(self.trace)
        self.check_quality_options()
        setup = self._setup()
        gate = self.gate(setup) if self.quality else None
        from isotune.validation.real_run import validate

        with progress("measuring", not self.as_json) as report:
            result = validate(setup, timeout_s=self.timeout, ranks=self.nproc, on_message=report)
        if result is None:
            return
        judged = gate.judge(setup, self.as_json) if gate and result.failure is None else None
        self.emit(results.Validation.of(result, judged))  # first: a full disk loses the trace only
        if self.trace is not None:
            _write_trace(self.trace, result)
        _end(result, judged)

    def _setup(self) -> "Setup":
        """What the ranks run.

        Raises:
            InputError: no extra, or a plan, model or device that cannot be run.
        """
        require_validate_extra()
        file = read_plan(self.plan)
        from isotune.validation.real_run import Setup, default_device

        setup = Setup.of(
            file,
            self.plan.parent,
            device=self.device or default_device(),  # type: ignore[arg-type]
            model=self.model,
            hardware=self.hw,
            layers=self.layers,
            check_dtype=self.check_dtype,  # type: ignore[arg-type]
            repeat=self.repeat,
            warmup=self.warmup,
            emulate_tp=self.emulate_tp,
            launch=self.launch,  # type: ignore[arg-type]
        )
        if self.emulate_tp is not None and self.nproc not in (None, 1):
            raise InputError("--emulate-tp: one process plays one rank (allowed: --nproc 1)")
        return setup


def _write_trace(path: Path, result: "Validation") -> None:
    from isotune.present import scenario_text, write_trace

    if result.plan.measured is None:
        return
    prediction, ran = result.plan.prediction, result.plan.measured
    rows = {
        "predicted": (prediction.program, prediction.timeline),
        "emulated" if result.setup.emulated else "measured": (ran.program, ran.timeline),
    }
    write_trace(path, rows, {"scenario": scenario_text(prediction.scenario)})


def _end(result: "Validation", quality: "Quality | None") -> None:
    """Exit code 1 where the run failed, or its outputs are not the model's or not good enough."""
    end(result.failure)
    if result.numbers is not None and not result.numbers.ok:
        end("the numbers are not the model's")
    if quality is not None and not quality.ok:
        end(f"the plan is not good enough: {'; '.join(quality.exceeded)}")


app = application(command(Validate))
