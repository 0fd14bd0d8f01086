"""`isotune predict`: one plan."""

from pathlib import Path
from typing import Annotated, Any

import typer

import isotune
from isotune.commands.options import (
    DEFAULT_MODEL,
    Batch,
    CommDtypeOption,
    DtypeOption,
    Json,
    ModelName,
    PhaseOption,
    Prompt,
    RuntimeOption,
    Tp,
    TraceFile,
    WeightDtypeOption,
    read,
)
from isotune.commands.output import print_result, show, write_timelines
from isotune.commands.parsers import blocks, sizes, tokens
from isotune.results import prediction_dict
from isotune.simulator.errors import InputError
from isotune.simulator.files import read_plan, read_policy, scenario_of
from isotune.simulator.io import check_writable, checked
from isotune.simulator.predict import Scenario
from isotune.simulator.schedule import STRATEGIES, Plan


def predict(
    plan: Annotated[
        Path | None, typer.Option("--plan", help="Plan file; other options change its scenario.")
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option("--policy", help="Policy file: its plan for this --prompt."),
    ] = None,
    hw: Annotated[
        str | None, typer.Option("--hw", help="Bundled profile name, or path of a profile.")
    ] = None,
    model: ModelName = None,
    tp: Tp = None,
    batch: Batch = None,
    prompt: Prompt = None,
    phase: PhaseOption = None,
    dtype: DtypeOption = None,
    weight_dtype: WeightDtypeOption = None,
    runtime: RuntimeOption = None,
    strategy: Annotated[
        str | None,
        typer.Option("--strategy", help=f"{', '.join(STRATEGIES)}.", show_default="serial"),
    ] = None,
    chunks: Annotated[
        str | None,
        typer.Option("--chunks", metavar="SIZES", help="Such as 2432,1664."),
    ] = None,
    comm_dtype: CommDtypeOption = None,
    comm_sms: Annotated[
        int | None, typer.Option("--comm-sms", help="SMs the collective may hold.")
    ] = None,
    drop: Annotated[
        str | None,
        typer.Option("--drop", metavar="BLOCKS", help="Drop set, such as 0-3,7."),
    ] = None,
    trace: TraceFile = None,
    as_json: Json = False,
) -> None:
    """Predict one plan: latency, exposed communication, and where the time goes."""
    asked: dict[str, Any] = {
        "tp": tp,
        "batch": batch,
        "prompt": read(tokens, "--prompt", prompt),
        "phase": phase,
        "dtype": dtype,
        "weight_dtype": weight_dtype or (dtype if plan is None else None),
        "runtime": runtime,
    }
    changes = {
        "strategy": strategy,
        "chunks": read(sizes, "--chunks", chunks),
        "comm_dtype": comm_dtype,
        "comm_sms": comm_sms,
        "dropped": read(blocks, "--drop", drop),
    }
    if policy is not None:
        scenario, wanted = _looked_up(policy, plan, asked, changes, hw, model)
    elif plan is not None:
        file = read_plan(plan)
        scenario = scenario_of(file, plan.parent, hardware=hw, model=model, workload=_given(asked))
        # Another strategy cuts in another unit: what the file says of the cut does not carry over.
        cut = {"chunks": (), "comm_sms": None} if strategy is not None else {}
        wanted = checked(Plan, file.plan.model_dump() | cut | _given(changes), "plan")
    elif hw is None:
        raise InputError("give --hw (a machine) or --plan (a plan file)")
    else:
        scenario = isotune.scenario(DEFAULT_MODEL if model is None else model, hw, **asked)
        wanted = checked(Plan, _given(changes), "plan")
    if trace is not None:
        check_writable(trace)
    prediction = isotune.predict(scenario, wanted)
    if trace is not None:
        write_timelines(trace, prediction, "plan")
    if as_json:
        print_result("prediction", prediction_dict(prediction))
        return
    from isotune.render import prediction_view

    show(prediction_view(prediction))


def _looked_up(
    path: Path,
    plan: Path | None,
    asked: dict[str, Any],
    changes: dict[str, Any],
    hw: str | None,
    model: str | None,
) -> tuple[Scenario, Plan]:
    """The scenario and plan that a policy has for a prompt length."""
    if plan is not None or _given(changes):
        raise InputError("--policy chooses the plan; leave out --plan and the plan's options")
    if asked["prompt"] is None:
        raise InputError("--policy needs --prompt, the length to look up")
    policy = read_policy(path)
    scenario = scenario_of(policy, path.parent, hardware=hw, model=model, workload=_given(asked))
    return scenario, policy.bucket(asked["prompt"]).rule.plan(asked["prompt"])


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
