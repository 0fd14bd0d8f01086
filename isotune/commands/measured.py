"""`isotune search --measured`: candidates and Optuna's trials on real devices."""

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from isotune.commands.output import print_result, progress, show
from isotune.commands.repair import Repair, repair_dict, show_repair
from isotune.commands.shared import put_up
from isotune.simulator.errors import InputError
from isotune.simulator.files import PlanFile
from isotune.simulator.predict import SERIAL, Scenario, check_memory, predict
from isotune.validation.extra import require_validate_extra

if TYPE_CHECKING:
    from isotune.tuner.accuracy import Treated
    from isotune.tuner.search import Options

_SCALE = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_TIMEOUT_S = 120.0


def duration(text: str) -> float:
    """`600s`, `10min` or `1h` in seconds.

    Raises:
        InputError: not a time above zero.
    """
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(s|m|min|h|)\s*", text)
    seconds = float(match[1]) * _SCALE[match[2]] if match else 0.0
    if seconds <= 0:
        raise InputError(f"--budget: {text!r:.40} is not a time such as 600s, 10min or 1h")
    return seconds


def search_measured(
    scenario: Scenario,
    options: "Options",
    names: tuple[str, str],
    repair: Repair | None,
    *,
    budget_s: float,
    device: str | None,
    shared: tuple[str, str] | None,
    output: Path,
    as_json: bool,
) -> None:
    """Search with real runs; `names` are those of hardware and model, `shared` URL and study."""
    require_validate_extra()
    from isotune.measured_result import measured_dict, measured_search
    from isotune.measured_search import SearchDriver, Shared, candidates_of
    from isotune.tuner.search import search as run_search
    from isotune.validation.ranks import place, under_torchrun
    from isotune.validation.real_run import Setup, default_device, drive

    if device not in (None, "cpu", "cuda"):
        raise InputError(f"--device: {device!r} is not a device (allowed: cpu, cuda)")
    if options.objectives != ("latency",):
        raise InputError("--measured: measures latency alone (allowed: --objectives latency)")
    check_memory(scenario, SERIAL)  # it is run as well
    best = run_search(scenario, options).best
    setup = Setup.of(
        PlanFile.of(best, *names),
        Path.cwd(),
        device=device or default_device(),  # type: ignore[arg-type]
        check_dtype="none",
    )
    candidates = candidates_of(setup.scenario, options, best.plan)
    if shared is not None and (not under_torchrun() or place().rank == 0):
        put_up(scenario, options, names, repair, *shared, starts=list(candidates), measured=True)
    driver = SearchDriver(
        scenario=setup.scenario,
        options=options,
        candidates=candidates,
        budget_s=budget_s,
        shared=None if shared is None else Shared(url=shared[0], study=shared[1]),
    )
    begun: float | None = None
    with progress("measuring", not as_json) as report:

        def tell() -> None:
            nonlocal begun
            begun = begun or time.monotonic()
            if report:
                report(int(min(time.monotonic() - begun, budget_s)), int(budget_s))

        run = drive(setup, driver, timeout_s=_TIMEOUT_S, on_message=tell)
    if run is None:
        return
    found = measured_search(setup.scenario, run, candidates)
    if found is None:
        typer.echo(f"isotune: {run.failure or 'nothing was measured'}", err=True)
        raise typer.Exit(130 if run.failure == "interrupted" else 1)
    plan = found.best.plan
    treated = repair.treated(plan, options) if repair else None
    treatments = treated.treatments if treated else {}
    PlanFile.of(predict(scenario, plan), *names, treatments=treatments).write(output)
    data = measured_dict(found) | repair_dict(treated) | {"plan_file": str(output)}
    if as_json:
        print_result("measured", data)
    else:
        _show(found, treated, output)
    if found.failure is not None:
        typer.echo(f"isotune: {found.failure}", err=True)
        raise typer.Exit(130 if found.failure == "interrupted" else 1)


def _show(found: Any, treated: "Treated | None", output: Path) -> None:
    from isotune.measured_view import measured_view

    show(measured_view(found))
    show_repair(treated)
    show(f"wrote {output}; check its numbers with: isotune validate {output}")
