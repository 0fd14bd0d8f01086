"""What is exported: a plan or a policy, read from its file, as cases by prompt length."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from isotune.simulator.architecture import Model, load_model
from isotune.simulator.engines import Case, engine_named
from isotune.simulator.errors import InputError
from isotune.simulator.files import PlanFile, Policy, locate
from isotune.simulator.io import read_yaml, validate
from isotune.simulator.machine import HardwareProfile, read_profile
from isotune.simulator.predict import site_of
from isotune.simulator.schedule import Plan, Workload

SERIAL = Plan().strategy


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What a target gets, and in words what its format could not take over.

    `runs` says whether the target runs all that the plan gains by.
    """

    text: str
    data: object
    runs: bool = True
    lost: tuple[str, ...] = ()
    hint: str = ""


@dataclass(frozen=True)
class Source:
    """A plan or policy file, its folder, and the model and machine where they are known."""

    file: PlanFile | Policy
    folder: Path = Path()
    shape: Model | None = None
    machine: HardwareProfile | None = None

    @property
    def workload(self) -> Workload:
        """What the plan or policy was made for."""
        return self.file.workload

    @cached_property
    def model(self) -> Model:
        """The model's architecture.

        Raises:
            InputError: it cannot be read.
        """
        return self.shape or load_model(locate(self.file.model.name, self.folder))

    @cached_property
    def case(self) -> Case:
        """What decides whether an engine runs it.

        Raises:
            InputError: the machine's profile cannot be read.
        """
        ranks = self.workload.parallelism
        machine = self.machine or read_profile(locate(self.file.hardware, self.folder))
        return Case(
            site=site_of(machine),
            family=self.model.architecture,
            dispatches=ranks.dispatches and self.model.num_experts > 1,
        )

    def refuse(self, name: str) -> None:
        """Refuse what an engine does not run.

        Raises:
            InputError: a plan with a strategy that it does not run, why, and what to do instead.
        """
        engine = engine_named(name)
        for _, _, plan in self.cases():
            if plan.strategy == SERIAL:
                continue
            why = plan.how.caveat or engine.refusal(plan.strategy, self.case)
            if why:
                raise InputError(
                    f"export: {engine.title} {engine.version} does not run {plan.strategy}: {why}"
                )

    @property
    def lengths(self) -> tuple[int, int]:
        """Shortest and longest prompt in tokens."""
        if isinstance(self.file, PlanFile):
            return self.workload.prompt, self.workload.prompt
        return self.file.buckets[0].first, self.file.buckets[-1].last

    def plan(self, prompt: int) -> Plan:
        """The plan for a prompt length.

        Raises:
            InputError: a plan or policy that was not made for this length.
        """
        if isinstance(self.file, PlanFile):
            if prompt != self.workload.prompt:
                raise InputError(
                    f"export: the plan is for {self.workload.prompt} tokens, not {prompt} "
                    "(a policy has plans for other lengths)"
                )
            return self.file.plan
        return self.file.bucket(prompt).rule.plan(prompt)

    def cases(self) -> Iterator[tuple[int, int, Plan]]:
        """First length, last length, and the plan at the last, of every bucket."""
        if isinstance(self.file, PlanFile):
            yield (*self.lengths, self.file.plan)
            return
        for bucket in self.file.buckets:
            yield bucket.first, bucket.last, bucket.rule.plan(bucket.last)


def read_source(path: Path) -> Source:
    """The plan or policy in a file; which of the two is told by its fields.

    Raises:
        InputError: unreadable or malformed file.
    """
    data = read_yaml(path)
    if "buckets" in data:
        return Source(validate(Policy, data, path), path.parent)
    if "plan" not in data:
        raise InputError(f"{path}: neither a plan (field plan) nor a policy (field buckets)")
    file = validate(PlanFile, data, path)
    if file.workload.sequences:
        raise InputError(
            f"{path}: workload: engines form batches themselves; none takes a plan for "
            f"{file.workload.text}"
        )
    return Source(file, path.parent)


def lost_everywhere(source: Source) -> list[str]:
    """What no serving engine's format has: drop sets and quantised transfers of this kind."""
    plans = [plan for _, _, plan in source.cases()]
    dropped = {block for plan in plans for block in plan.dropped}
    found = []
    if dropped:
        found.append(
            f"the drop set ({len(dropped)} blocks): the engine runs every all-reduce, so SPD's "
            "saving is not had and the numbers stay the model's"
        )
    types = sorted({plan.comm_dtype for plan in plans if plan.quantised})
    if types:
        found.append(f"{', '.join(types)} transfer: the engine's all-reduce sends its own type")
    return found


def no_lengths(target: str, lengths: tuple[int, ...]) -> None:
    """Refuse lengths for a target that has no entries by length."""
    if lengths:
        raise InputError(f"--lengths: {target} has no entries by length (allowed: tokenweave)")
