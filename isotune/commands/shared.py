"""`isotune search --storage` and `--join`: one search by many processes and machines."""

from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

import isotune
from isotune.commands.output import print_result, progress, show
from isotune.commands.repair import Repair, repair_dict, show_repair
from isotune.simulator.errors import InputError
from isotune.simulator.files import PlanFile
from isotune.simulator.io import checked
from isotune.simulator.predict import Scenario
from isotune.simulator.schedule import Plan, Workload

if TYPE_CHECKING:
    from isotune.tuner.accuracy import Treated
    from isotune.tuner.search import Options, Trials

_KEPT = (
    "strategies",
    "spd",
    "comm_dtype",
    "comm_dtypes",
    "trials",
    "seed",
    "sampler",
    "max_chunks",
    "objectives",
    "accuracy_budget",
    "latency_limit",
)


def share_search(
    scenario: Scenario,
    options: "Options",
    names: tuple[str, str],
    repair: Repair | None,
    place: tuple[str, str],
    output: Path,
    as_json: bool,
) -> None:
    """Put a search up in a storage and work on it.

    `names` are those of hardware and model, `place` the storage's URL and the study's name.
    """
    from isotune.tuner.search import exact_of, space_of, starts

    space = space_of(scenario, options)
    first = list(starts(space, exact_of(space, options)))
    storage = put_up(scenario, options, names, repair, *place, starts=first)
    trials = _work(storage, place[1], scenario, options, as_json)
    _finish(trials, place[1], _Asked(scenario, options, names, repair), output, as_json)


def put_up(
    scenario: Scenario,
    options: "Options",
    names: tuple[str, str],
    repair: Repair | None,
    url: str,
    study: str,
    *,
    starts: list[Plan],
    measured: bool = False,
) -> Any:
    """Put a study up in the storage at `url`, or find it there; returns the storage.

    Raises:
        InputError: a study of that name searches something else.
    """
    from isotune.tuner.search import create, open_storage

    storage = open_storage(url)
    hardware, model = names
    definition = {
        "hardware": hardware,
        "model": model,
        "workload": scenario.workload.model_dump(mode="json"),
        "options": {name: _plain(getattr(options, name)) for name in _KEPT},
        "sensitivity": repair.table.model_dump(mode="json") if repair else None,
        "treatments": _plain(repair.names) if repair else None,
    } | ({"measured": True} if measured else {})
    create(_shared(storage, study, scenario, options), starts, definition)
    return storage


def join_search(study: str, url: str | None, output: Path, as_json: bool) -> None:
    """Work on a search that someone else put up.

    Raises:
        InputError: no --storage, or no such study in it.
    """
    from isotune.tuner.accuracy import Sensitivity
    from isotune.tuner.search import Options, definition_of, open_storage

    if url is None:
        raise InputError("--join needs --storage, where the study is")
    storage = open_storage(url)
    data = definition_of(storage, study)
    if data.get("measured"):
        raise InputError(
            f"study {study!r} holds measured times; go on with the command that put it up: "
            "isotune search --measured --storage URL --study NAME"
        )
    workload = checked(Workload, data["workload"], f"study {study}").model_dump()
    scenario = isotune.scenario(data["model"], data["hardware"], **workload)
    known = {item.name for item in fields(Options)}
    chosen: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in data["options"].items()
        if name in known
    }
    table = data["sensitivity"]
    repair = None
    if table:
        treatments = data.get("treatments")
        measured = checked(Sensitivity, table, f"study {study}")
        repair = Repair.of(measured, None if treatments is None else tuple(treatments))
    options = replace(Options(**chosen), sensitivity=repair.searched if repair else None)
    trials = _work(storage, study, scenario, options, as_json)
    asked = _Asked(scenario, options, (data["hardware"], data["model"]), repair)
    _finish(trials, study, asked, output, as_json)


def _shared(storage: Any, study: str, scenario: Scenario, options: "Options") -> Any:
    from isotune.tuner.search import Shared, judge_of, space_of

    return Shared(
        storage=storage,
        name=study,
        space=space_of(scenario, options),
        judge=judge_of(scenario, options),
        trials=options.trials,
        seed=options.seed,
        sampler=options.sampler,
    )


def _work(
    storage: Any, study: str, scenario: Scenario, options: "Options", as_json: bool
) -> "Trials":
    from isotune.tuner.search import Evaluator, work

    shared = _shared(storage, study, scenario, options)
    with progress(f"study {study}", not as_json) as report:
        return work(shared, Evaluator(scenario, options.objective), report)


class _Asked(NamedTuple):
    """What a study searches, the names of hardware and model, and how it repairs."""

    scenario: Scenario
    options: "Options"
    names: tuple[str, str]
    repair: Repair | None


def _finish(trials: "Trials", study: str, asked: _Asked, output: Path, as_json: bool) -> None:
    """Write the best plan that all workers found so far, and say what was done."""
    treated = None
    if trials.best is not None:
        plan = trials.best.plan
        treated = asked.repair.treated(plan, asked.options) if asked.repair else None
        PlanFile.of(
            isotune.predict(asked.scenario, plan),
            *asked.names,
            treatments=treated.treatments if treated else {},
        ).write(output)
    _show(trials, study, treated, output, as_json)
    if trials.interrupted:
        raise typer.Exit(130)


def _show(
    trials: "Trials", study: str, treated: "Treated | None", output: Path, as_json: bool
) -> None:
    best = trials.best
    if as_json:
        print_result(
            "shared_search",
            {
                "study": study,
                "run": trials.run,
                "mine": trials.mine,
                "pruned": trials.pruned,
                "failed": trials.failed,
                "why": trials.why,
                "interrupted": trials.interrupted,
                "latency_s": best.seconds if best else None,
                "plan": best.plan.model_dump(mode="json") if best else None,
                "plan_file": str(output) if best else None,
            }
            | repair_dict(treated),
        )
        return
    from isotune.present.phrases import milliseconds, plan_text
    from isotune.render_search import why_lines

    if best is not None:
        show(f"best so far: {plan_text(best.plan)}: {milliseconds(best.seconds)}")
        show_repair(treated)
    show(
        f"study {study}: {trials.run} trials done, {trials.mine} of them here; "
        f"{trials.pruned} did not fit, {trials.failed} failed"
    )
    for line in why_lines(trials):
        show(line)
    if best is not None:
        show(f"wrote {output}; reproduce with: isotune predict --plan {output}")
    if trials.interrupted:
        show(f"interrupted; go on with: isotune search --join {study} --storage URL")


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
