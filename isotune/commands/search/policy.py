"""`isotune search` over many prompt lengths: a policy instead of a plan."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from isotune.commands.options import fraction, option, plain, progress
from isotune.commands.search.job import Job
from isotune.commands.search.options import LossyOptions, SearchCase, WrittenOptions
from isotune.simulator.errors import InputError
from isotune.simulator.files import ModelReference, Policy
from isotune.simulator.schedule import Plan

if TYPE_CHECKING:
    from isotune.tuner.policy import PolicyResult
    from isotune.tuner.prompt_lengths import Lengths
    from isotune.tuner.search import Options


@dataclass(frozen=True, kw_only=True)
class PolicySearch(SearchCase, LossyOptions, WrittenOptions):
    """A search over many prompt lengths."""

    NAME: ClassVar = "a policy (--prompts, or --prompt FIRST:LAST)"
    PANEL: ClassVar = "Scenario"
    FILE: ClassVar = "policy.yaml"

    prompts: Annotated[
        Path | None,
        plain("--prompts", "FILE", "CSV of prompt lengths (and counts); finds a policy."),
    ] = None

    policy_loss: Annotated[
        float | None,
        option(
            "--policy-loss",
            fraction,
            "SHARE",
            "How far above the best plan of its length a policy's plan may lie; more means fewer "
            "plans.",
            show_default="3%",
        ),
    ] = None

    @classmethod
    def wanted(cls, options: Mapping[str, Any]) -> bool:
        """Whether a range of lengths or a file of them is given."""
        prompt = options["prompt"]
        return options["prompts"] is not None or (prompt is not None and prompt.several)

    def run(self) -> None:
        """Find, write and print the policy."""
        from isotune.results import FoundPolicy
        from isotune.tuner.policy import LOSS, find_policy

        file = self.checked_file()
        job, lengths = self.job(), self.lengths()
        dropped = _dropped(job.options)
        lossy = Plan(comm_dtype=job.options.comm_dtype, dropped=dropped)
        drops = job.recovered(lossy)
        with progress("solving prompt lengths", not self.as_json) as report:
            found = find_policy(
                job.scenario,
                lengths,
                comm_dtype=lossy.comm_dtype,
                dropped=dropped,
                loss=LOSS if self.policy_loss is None else self.policy_loss,
                progress=report,
            )
        policy = _policy(job, found, dict(drops.treatments) if drops else {})
        policy.write(file)

        result = FoundPolicy.found(
            policy,
            job.scenario,
            found,
            lengths.tokens[-1],
            treated_growth=drops.cost if drops else None,
            policy_file=str(file),
        )
        what = f"look a length up with: isotune predict --policy {file} --prompt N"
        self.emit(result, f"wrote {file}; {what}")
        if found.interrupted:
            raise typer.Exit(130)

    def job(self) -> Job:
        """The search with its files read.

        Raises:
            InputError: several layouts or batches, or what is refused in any search.
        """
        from isotune.tuner.search import Options

        if self.several:
            raise InputError(
                "several layouts or batches go with one --prompt, not with a range of them"
            )
        scenario = self.scenario()
        recovery = self.recovery(scenario, self.ranks(scenario))
        options = Options(**self.limits(recovery))
        return Job(scenario=scenario, options=options, names=self.names)

    def lengths(self) -> "Lengths":
        """The prompt lengths to solve.

        Raises:
            InputError: both ways of saying them, an unreadable file, or an empty range.
        """
        from isotune.tuner.prompt_lengths import Lengths, read_lengths

        if self.prompts is None:
            assert self.prompt is not None
            return Lengths.between(self.prompt.first, self.prompt.last)
        if self.prompt is not None:
            raise InputError("give --prompt or --prompts, not both")
        return read_lengths(self.prompts)


def _policy(job: Job, found: "PolicyResult", treatments: dict[int, str]) -> Policy:
    """The policy as it is written."""
    hardware, model = job.names
    return Policy(
        hardware=hardware,
        model=ModelReference.of(job.scenario.model, model),
        workload=job.scenario.workload.model_copy(update={"prompt": found.longest}),
        serial_below=found.serial_below,
        expected_saving=found.expected_saving,
        treatments=treatments,
        buckets=found.buckets,
    )


def _dropped(options: "Options") -> tuple[int, ...]:
    """The blocks that every length drops: the cheapest ones, within what the transfer leaves.

    Raises:
        InputError: the transfer alone costs more than the budget.
    """
    costs = options.drop_costs
    if costs is None:
        return ()
    left = costs.left(options.accuracy_budget, options.comm_dtype)
    if left < 0:
        raise InputError(
            f"{options.comm_dtype} transfer costs more than the accuracy budget of "
            f"{options.accuracy_budget * 100:g} %"
        )
    return tuple(sorted(costs.affordable(left)[-1]))
