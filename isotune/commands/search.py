"""`isotune search`: the main job."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

import isotune
from isotune.commands.deployments import Axes, Axis, deploy
from isotune.commands.kinds import Kind, kind_of, refuse_unsuited
from isotune.commands.measured import duration, search_measured
from isotune.commands.one_plan import PlanExtras, search_plan
from isotune.commands.options import (
    DEFAULT_MODEL,
    TECHNIQUES,
    CommDtypeOption,
    DtypeOption,
    Hardware,
    Json,
    ModelName,
    PhaseOption,
    Prompt,
    RuntimeOption,
    TraceFile,
    WeightDtypeOption,
    counts,
    fraction,
    names,
    read,
    tokens,
)
from isotune.commands.policy import search_policy
from isotune.commands.repair import Repair
from isotune.commands.shared import join_search, share_search
from isotune.simulator.errors import InputError
from isotune.simulator.io import check_writable, checked
from isotune.simulator.schedule import SEARCHABLE, SPD, Plan

if TYPE_CHECKING:
    from isotune.tuner.search import ObjectiveName, Options, SamplerName


def search(
    context: typer.Context,
    hw: Hardware = None,
    model: ModelName = None,
    tp: Annotated[
        str | None,
        typer.Option(
            "--tp",
            help="Tensor-parallel size; several by comma are searched.",
            show_default="the whole node",
        ),
    ] = None,
    batch: Annotated[
        str | None,
        typer.Option("--batch", help="Requests; several by comma are searched.", show_default="1"),
    ] = None,
    prompt: Prompt = None,
    phase: PhaseOption = None,
    dtype: DtypeOption = None,
    weight_dtype: WeightDtypeOption = None,
    runtime: RuntimeOption = None,
    comm_dtype: CommDtypeOption = None,
    strategies: Annotated[
        str | None,
        typer.Option(
            "--strategies",
            metavar="NAMES",
            help=f"Techniques to consider, by comma: {', '.join(TECHNIQUES)}.",
            show_default="all",
        ),
    ] = None,
    trials: Annotated[int, typer.Option("--trials", min=1, help="Optuna trials.")] = 200,
    seed: Annotated[
        int, typer.Option("--seed", min=0, max=2**32 - 1, help="Same seed, same plan.")
    ] = 0,
    sampler: Annotated[
        str, typer.Option("--sampler", help="auto, tpe, nsga2, gp, cmaes or random.")
    ] = "auto",
    max_chunks: Annotated[
        int, typer.Option("--max-chunks", min=2, max=64, help="Most chunks of a prompt.")
    ] = 4,
    objectives: Annotated[
        str | None,
        typer.Option(
            "--objectives",
            metavar="NAMES",
            help="By comma: latency, throughput (per GPU), accuracy_cost, transfer_loss; "
            "several give a Pareto set.",
            show_default="latency; throughput,latency where --tp or --batch are several",
        ),
    ] = None,
    latency_limit: Annotated[
        float | None,
        typer.Option("--latency-limit", min=0.0, metavar="MS", help="Slowest plan allowed."),
    ] = None,
    sensitivity: Annotated[
        Path | None,
        typer.Option(
            "--sensitivity", help="Cost of each dropped sync; without it none is dropped."
        ),
    ] = None,
    accuracy_budget: Annotated[
        str | None,
        typer.Option(
            "--accuracy-budget",
            metavar="SHARE",
            help="Largest growth of perplexity, such as 1%; needs --sensitivity.",
            show_default="1%",
        ),
    ] = None,
    treatments: Annotated[
        str | None,
        typer.Option(
            "--treatments",
            metavar="NAMES",
            help="What may be done to a dropped block, by comma, such as zero-shot,bias.",
            show_default="all that --sensitivity has",
        ),
    ] = None,
    front: Annotated[
        bool,
        typer.Option("--front", help="Also latency against perplexity; needs --sensitivity."),
    ] = False,
    prompts: Annotated[
        Path | None,
        typer.Option("--prompts", help="CSV of prompt lengths (and counts); finds a policy."),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            "--storage", help="Share the search: postgresql://, sqlite:/// or journal:///."
        ),
    ] = None,
    study: Annotated[
        str, typer.Option("--study", help="Name of the shared search; the same name resumes it.")
    ] = "isotune",
    join: Annotated[
        str | None,
        typer.Option("--join", metavar="STUDY", help="Work on a shared search; needs --storage."),
    ] = None,
    robust: Annotated[
        str | None,
        typer.Option(
            "--robust",
            metavar="expected|worst",
            help="Choose the plan that is best over the profile's errors.",
        ),
    ] = None,
    measured: Annotated[
        bool,
        typer.Option("--measured", help="Run plans on this machine and search by real time."),
    ] = False,
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget", metavar="TIME", help="Time to measure, of --measured.", show_default="600s"
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option("--device", help="Of --measured: cpu, cuda.", show_default="cuda if there"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="Plan file, or policy file for a range of prompts.",
            show_default="plan.yaml or policy.yaml",
        ),
    ] = None,
    trace: TraceFile = None,
    as_json: Json = False,
) -> None:
    """Find the best plan for a machine, and say what each technique would bring."""
    many = prompts is not None or ":" in (prompt or "")
    tps, batches = read(counts, "--tp", tp) or (None,), read(counts, "--batch", batch) or (None,)
    several = len(tps) > 1 or len(batches) > 1
    kind = kind_of(
        joined=join is not None,
        policy=many,
        deployments=several,
        measured=measured,
        shared=storage is not None,
    )
    refuse_unsuited(context, kind)
    output = output or Path("policy.yaml" if many else "plan.yaml")
    check_writable(output)
    if join is not None:
        join_search(join, storage, output, as_json)
        return
    if hw is None:
        raise InputError("give --hw (a machine), or --join (a study) and --storage")
    if many and several:
        raise InputError("several --tp or --batch go with one --prompt, not with a range of them")
    if trace is not None:
        check_writable(trace)
    scenario = isotune.scenario(
        DEFAULT_MODEL if model is None else model,
        hw,
        tp=tps[0],
        batch=batches[0],
        prompt=None if many else read(tokens, "--prompt", prompt),
        phase=phase,
        dtype=dtype,
        weight_dtype=weight_dtype or dtype,
        runtime=runtime,
    )
    if front and sensitivity is None:
        raise InputError("--front needs --sensitivity, which says what a dropped sync costs")
    ranks = tps if tp else (scenario.workload.tp,)
    repair = Repair.read(sensitivity, scenario.model, cast(Axis, ranks), treatments)
    options = replace(
        _options(comm_dtype, strategies, trials, seed, repair, accuracy_budget),
        sampler=cast("SamplerName", sampler),
        max_chunks=max_chunks,
        objectives=_objectives(objectives, several),
        latency_limit=None if latency_limit is None else latency_limit / 1e3,
    )
    options.check()
    named = (hw, DEFAULT_MODEL if model is None else model)
    match kind:
        case Kind.DEPLOYMENTS:
            axes = ranks, batches if batch else (scenario.workload.batch,)
            deploy(scenario, cast(Axes, axes), options, named, repair, output, as_json)
        case Kind.POLICY:
            search_policy(scenario, options, (prompt, prompts), named, repair, output, as_json)
        case Kind.MEASURED:
            search_measured(
                scenario,
                options,
                named,
                repair,
                budget_s=duration(budget or "600s"),
                device=device,
                shared=None if storage is None else (storage, study),
                output=output,
                as_json=as_json,
            )
        case Kind.SHARED:
            place = str(storage), study
            share_search(scenario, options, named, repair, place, output, as_json)
        case _:
            extras = PlanExtras(robust=robust, front=front, trace=trace)
            search_plan(scenario, options, named, repair, extras, output=output, as_json=as_json)


def _objectives(text: str | None, several: bool) -> "tuple[ObjectiveName, ...]":
    names = text or ("throughput,latency" if several else "latency")
    return cast("tuple[ObjectiveName, ...]", tuple(name.strip() for name in names.split(",")))


def _options(
    comm_dtype: str | None,
    strategies: str | None,
    trials: int,
    seed: int,
    repair: Repair | None,
    accuracy_budget: str | None,
) -> "Options":
    from isotune.tuner.search import Options

    if accuracy_budget is not None and repair is None:
        raise InputError(
            "--accuracy-budget needs --sensitivity, which says what a dropped sync costs"
        )
    transfers = tuple(
        checked(Plan, {"comm_dtype": name.strip()}, "--comm-dtype").comm_dtype
        for name in (comm_dtype or "bf16").split(",")
    )
    budget = read(fraction, "--accuracy-budget", accuracy_budget)
    wanted = read(names, "--strategies", strategies) or TECHNIQUES
    return Options(
        strategies=tuple(name for name in SEARCHABLE if name in wanted),
        spd=SPD in wanted,
        comm_dtype=transfers[0],
        comm_dtypes=transfers,
        trials=trials,
        seed=seed,
        sensitivity=repair.searched if repair else None,
        accuracy_budget=0.01 if budget is None else budget,
    )
