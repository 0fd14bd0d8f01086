"""`isotune predict`: one plan."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import isotune
from isotune.commands.options import (
    DEFAULT_MODEL,
    DTYPE_ALIASES,
    CaseOptions,
    ContextGroups,
    DataGroups,
    DetailedOutput,
    DropOption,
    ExpertRanks,
    Mix,
    TraceFile,
    application,
    choice,
    command,
    option,
    plain,
    sizes,
    tokens,
    whole,
    write_timelines,
)
from isotune.simulator.errors import InputError
from isotune.simulator.files import read_plan, read_policy, scenario_of
from isotune.simulator.io import check_writable, checked
from isotune.simulator.number_types import COMM_DTYPES
from isotune.simulator.predict import Scenario
from isotune.simulator.schedule import STRATEGIES, Plan


@dataclass(frozen=True, kw_only=True)
class _Case(CaseOptions):
    PANEL: ClassVar = "Scenario"

    tp: Annotated[
        int | None,
        option("--tp", whole(1), "N", "Tensor-parallel size.", show_default="the whole node"),
    ] = None
    ep: ExpertRanks = None
    cp: ContextGroups = None
    dp: DataGroups = None
    batch: Annotated[
        int | None, option("--batch", whole(1), "N", "Requests of a batch.", show_default="1")
    ] = None
    prompt: Annotated[
        int | None,
        option("--prompt", tokens, "TOKENS", "Prompt length; 4k = 4096.", show_default="4096"),
    ] = None
    mix: Mix = None


@dataclass(frozen=True, kw_only=True)
class _PlanOptions:
    PANEL: ClassVar = "Plan"

    plan: Annotated[
        Path | None,
        plain("--plan", "FILE", "Plan file; the other options change its scenario and its plan."),
    ] = None
    policy: Annotated[
        Path | None, plain("--policy", "FILE", "Policy file; its plan for this --prompt is taken.")
    ] = None
    strategy: Annotated[
        str | None, choice("--strategy", STRATEGIES, "Overlap strategy", show_default="serial")
    ] = None
    chunks: Annotated[
        tuple[int, ...] | None,
        option("--chunks", sizes, "SIZES", "Chunk sizes of the strategy, such as 2432,1664."),
    ] = None
    comm_dtype: Annotated[
        str | None,
        choice(
            "--comm-dtype",
            COMM_DTYPES,
            "Number type that an all-reduce sends",
            aliases=DTYPE_ALIASES,
            show_default="bf16",
        ),
    ] = None
    comm_sms: Annotated[
        int | None, option("--comm-sms", whole(1), "N", "SMs that an all-reduce may hold.")
    ] = None
    drop: DropOption = None

    def changes(self) -> dict[str, Any]:
        """The fields of a plan that are given."""
        return _given(
            strategy=self.strategy,
            chunks=self.chunks,
            comm_dtype=self.comm_dtype,
            comm_sms=self.comm_sms,
            dropped=self.drop,
        )


@dataclass(frozen=True, kw_only=True)
class Predict(_PlanOptions, _Case, DetailedOutput):
    """Predict one plan: latency, exposed communication, and where the time goes."""

    trace: TraceFile = None
    picture: Annotated[
        Path | None,
        plain(
            "--picture", "FILE", "Write one block in time as a picture (SVG).", show_default=False
        ),
    ] = None

    def run(self) -> None:
        """Predict and print the plan."""
        scenario, plan = self._case()
        for file in (self.trace, self.picture):
            if file is not None:
                check_writable(file)
        prediction = isotune.predict(scenario, plan)
        if self.picture is not None:
            from isotune.present import write_picture

            write_picture(self.picture, prediction.complete().timelines)
        if self.trace is not None:
            write_timelines(self.trace, prediction, "plan")
        self.emit(prediction, *self.more)

    def _case(self) -> tuple[Scenario, Plan]:
        """The scenario and the plan that are asked for.

        Raises:
            InputError: neither a machine nor a file, or options that exclude each other.
        """
        if self.policy is not None:
            return self._looked_up(self.policy)
        if self.plan is not None:
            return self._changed(self.plan)
        if self.hw is None:
            raise InputError("give --hw (a machine) or --plan (a plan file)")
        model = DEFAULT_MODEL if self.model is None else self.model
        scenario = isotune.scenario(model, self.hw, **self._workload())
        return scenario, checked(Plan, self.changes(), "plan")

    def _changed(self, path: Path) -> tuple[Scenario, Plan]:
        """A file's scenario and plan, changed by the other options."""
        file = read_plan(path)
        scenario = scenario_of(
            file, path.parent, hardware=self.hw, model=self.model, workload=self._workload()
        )
        # Another strategy has another unit: the file's chunks and SMs do not carry over.
        reset = {"chunks": (), "comm_sms": None} if self.strategy is not None else {}
        return scenario, checked(Plan, file.plan.model_dump() | reset | self.changes(), "plan")

    def _looked_up(self, path: Path) -> tuple[Scenario, Plan]:
        """The scenario and plan that a policy has for a prompt length."""
        if self.plan is not None or self.changes():
            raise InputError("--policy chooses the plan; leave out --plan and the plan's options")
        if self.prompt is None:
            raise InputError("--policy needs --prompt, the length to look up")
        policy = read_policy(path)
        scenario = scenario_of(
            policy, path.parent, hardware=self.hw, model=self.model, workload=self._workload()
        )
        return scenario, policy.bucket(self.prompt).rule.plan(self.prompt)

    def _workload(self) -> dict[str, Any]:
        """The fields of a workload that are given."""
        return _given(
            tp=self.tp,
            ep=self.ep,
            cp=self.cp,
            dp=self.dp,
            batch=self.batch,
            prompt=self.prompt,
            engine=self.engine,
            sequences=None if self.mix is None else tuple(self.mix.split(",")),
            **self.pass_fields,
        )


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


app = application(command(Predict), renamed={"sequences": "mix"})
