"""`isotune search` over many prompt lengths: a policy instead of a plan."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from isotune.commands.options import read, tokens
from isotune.commands.output import print_result, progress, show
from isotune.commands.repair import Repair, repair_dict, show_repair
from isotune.results import policy_dict
from isotune.simulator.errors import InputError
from isotune.simulator.files import ModelReference, Policy
from isotune.simulator.predict import Scenario
from isotune.simulator.schedule import Plan

if TYPE_CHECKING:
    from isotune.tuner.policy import Lengths
    from isotune.tuner.search import Options


def search_policy(
    scenario: Scenario,
    options: "Options",
    lengths: tuple[str | None, Path | None],
    names: tuple[str, str],
    repair: Repair | None,
    output: Path,
    as_json: bool,
) -> None:
    """Find, write and show the policy for `lengths`, a range `1k:128k` or a CSV.

    `names` are those the hardware and the model were asked by.
    """
    from isotune.tuner.policy import find_policy

    wanted = _lengths(*lengths)
    dropped = _dropped(options)
    lossy = Plan(comm_dtype=options.comm_dtype, dropped=dropped)
    treated = repair.treated(lossy, options) if repair else None
    with progress("solving prompt lengths", not as_json) as report:
        found = find_policy(
            scenario, wanted, comm_dtype=options.comm_dtype, dropped=dropped, progress=report
        )
    hardware, model = names
    workload = scenario.workload.model_copy(update={"prompt": found.longest})
    policy = Policy(
        hardware=hardware,
        model=ModelReference.of(scenario.model, model),
        workload=workload,
        serial_below=found.serial_below,
        expected_saving=found.expected_saving,
        treatments=dict(treated.treatments) if treated else {},
        buckets=found.buckets,
    )
    policy.write(output)
    if as_json:
        extra = {"policy_file": str(output), "interrupted": found.interrupted}
        print_result("policy", policy_dict(policy, scenario) | repair_dict(treated) | extra)
    else:
        from isotune.render_policy import policy_view

        show(policy_view(policy, found, wanted.tokens[-1]))
        show_repair(treated)
        show(f"wrote {output}; look a length up with: isotune predict --policy {output} --prompt N")
    if found.interrupted:
        raise typer.Exit(130)


def _dropped(options: "Options") -> tuple[int, ...]:
    """The blocks that every length drops: the cheapest ones, within what the transfer leaves.

    Raises:
        InputError: the transfer alone costs more than the budget.
    """
    table = options.sensitivity
    if table is None:
        return ()
    left = options.accuracy_budget - table.transfer.get(options.comm_dtype, 0.0)
    if left < 0:
        raise InputError(
            f"{options.comm_dtype} transfer costs more than the accuracy budget of "
            f"{options.accuracy_budget * 100:g} %"
        )
    if not options.spd:
        return ()
    return tuple(sorted(table.order()[: table.affordable(left)]))


def _lengths(prompt: str | None, prompts: Path | None) -> "Lengths":
    from isotune.tuner.policy import Lengths, read_lengths

    if prompts is not None:
        if prompt is not None:
            raise InputError("give --prompt or --prompts, not both")
        return read_lengths(prompts)
    first, _, last = (prompt or "").partition(":")
    between = read(tokens, "--prompt", first), read(tokens, "--prompt", last)
    return Lengths.between(between[0] or 0, between[1] or 0)
