"""Options of the searches, in groups; each kind of search inherits those that it takes."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, cast

import isotune
from isotune.commands.options import (
    DEFAULT_MODEL,
    DTYPE_ALIASES,
    TECHNIQUES,
    CaseOptions,
    Choices,
    DetailedOutput,
    SeveralContextGroups,
    SeveralDataGroups,
    SeveralExpertRanks,
    TokenRange,
    choice,
    choices,
    counts,
    fraction,
    names,
    option,
    output_option,
    plain,
    real,
    token_range,
    whole,
)
from isotune.commands.search.job import Job
from isotune.simulator.errors import InputError
from isotune.simulator.io import check_writable
from isotune.simulator.number_types import COMM_DTYPES
from isotune.simulator.predict import Scenario
from isotune.simulator.schedule import SEARCHABLE, SPD, STRATEGIES
from isotune.tuner.choices import OBJECTIVES, SAMPLERS

if TYPE_CHECKING:
    from isotune.tuner.accuracy import Recovery
    from isotune.tuner.search import Options


ONE_CASE = "allowed with one prompt, one --tp and one --batch"


@dataclass(frozen=True, kw_only=True)
class WrittenOptions(DetailedOutput):
    """Where the plan or the policy is written, and how the result is printed."""

    output: Annotated[
        Path | None,
        output_option(
            "Plan file, or policy file for a range of prompts.",
            show_default="plan.yaml or policy.yaml",
        ),
    ] = None
    FILE: ClassVar = "plan.yaml"

    def checked_file(self) -> Path:
        """The file to write.

        Raises:
            InputError: it cannot be written there.
        """
        path = self.output or Path(self.FILE)
        check_writable(path)
        return path


@dataclass(frozen=True, kw_only=True)
class SearchCase(CaseOptions):
    """The scenario of a search."""

    PANEL: ClassVar = "Scenario"

    tp: Annotated[
        tuple[int, ...] | None,
        option(
            "--tp",
            counts,
            "N[,N]",
            "Tensor-parallel size; several are searched.",
            show_default="the whole node",
        ),
    ] = None
    ep: SeveralExpertRanks = None
    cp: SeveralContextGroups = None
    dp: SeveralDataGroups = None
    batch: Annotated[
        tuple[int, ...] | None,
        option(
            "--batch",
            counts,
            "N[,N]",
            "Requests of a batch; several sizes are searched.",
            show_default="1",
        ),
    ] = None
    prompt: Annotated[
        TokenRange | None,
        option(
            "--prompt",
            token_range,
            "TOKENS",
            "Prompt length; 4k = 4096. A range such as 1k:128k finds a policy.",
            show_default="4096",
        ),
    ] = None

    @property
    def names(self) -> tuple[str, str]:
        """By which hardware and model were asked for."""
        return self.machine, self.model or DEFAULT_MODEL

    @property
    def machine(self) -> str:
        """By which the hardware was asked for.

        Raises:
            InputError: not at all.
        """
        if self.hw is None:
            raise InputError("give --hw (a machine), or --join (a study) and --storage")
        return self.hw

    def scenario(self) -> Scenario:
        """The scenario, of the first tp and batch where several are asked for.

        Where several layouts are, it has tensor parallelism alone.
        """
        one_length = self.prompt is not None and not self.prompt.several
        return isotune.scenario(
            self.names[1],
            self.machine,
            tp=self.tp[0] if self.tp else None,
            ep=None if self.several or not self.ep else self.ep[0],
            cp=None if self.several or not self.cp else self.cp[0],
            dp=None if self.several or not self.dp else self.dp[0],
            batch=self.batch[0] if self.batch else None,
            prompt=self.prompt.first if self.prompt and one_length else None,
            engine=self.engine,
            **self.pass_fields,
        )

    def ranks(self, scenario: Scenario) -> tuple[int, ...]:
        """The tensor-parallel sizes that are searched."""
        return self.tp or (scenario.workload.tp,)

    @property
    def several(self) -> bool:
        """Whether several batches or layouts are asked for."""
        return any(len(axis or ()) > 1 for axis in (self.tp, self.ep, self.cp, self.dp, self.batch))


@dataclass(frozen=True, kw_only=True)
class LossyOptions:
    """What a plan may change of the model's outputs, and what that costs."""

    PANEL: ClassVar = "Techniques that change the outputs"

    comm_dtype: Annotated[
        tuple[str, ...] | None,
        choices(
            "--comm-dtype",
            Choices(COMM_DTYPES, "number type", DTYPE_ALIASES),
            "Number type that an all-reduce sends, or several to choose from",
            show_default="bf16",
        ),
    ] = None
    sensitivity: Annotated[
        Path | None,
        plain(
            "--sensitivity",
            "FILE",
            "Cost of dropping each block's all-reduce; without it none is dropped.",
        ),
    ] = None
    accuracy_budget: Annotated[
        float | None,
        option(
            "--accuracy-budget",
            fraction,
            "SHARE",
            "Largest growth of perplexity, such as 1%; needs --sensitivity.",
            show_default="1%",
        ),
    ] = None
    treatments: Annotated[
        tuple[str, ...] | None,
        option(
            "--treatments",
            names,
            "NAMES",
            "Recovery steps allowed for a dropped block, such as zero-shot,bias.",
            show_default="all that --sensitivity has",
        ),
    ] = None

    def recovery(self, scenario: Scenario, ranks: Collection[int]) -> "Recovery | None":
        """The sensitivity file at these tensor-parallel sizes; None if none was given.

        Raises:
            InputError: options that need the file, a malformed one, or one for another model.
        """
        if self.sensitivity is not None:
            from isotune.tuner.accuracy import Recovery, read_sensitivity

            table = read_sensitivity(self.sensitivity, scenario.model, ranks)
            return Recovery(table=table, names=self.treatments)
        if self.treatments is not None:
            raise InputError("--treatments needs --sensitivity, which says what each costs")
        if self.accuracy_budget is not None:
            raise InputError(
                "--accuracy-budget needs --sensitivity, which says what a dropped all-reduce costs"
            )
        return None

    def limits(self, recovery: "Recovery | None") -> dict[str, Any]:
        """The fields of the search's options that these say."""
        transfers = self.comm_dtype or ("bf16",)
        return {
            "comm_dtype": transfers[0],
            "comm_dtypes": transfers,
            "recovery": recovery,
            "accuracy_budget": 0.01 if self.accuracy_budget is None else self.accuracy_budget,
        }


class Techniques(Choices):
    """Techniques that a search may choose; one that it never does says why."""

    def one(self, text: str) -> str:
        """One of them."""
        if text in STRATEGIES and text not in self.allowed:
            raise InputError(
                f"{text}: a search never chooses it ({STRATEGIES[text].never_chosen}; "
                f"isotune predict --strategy {text} predicts it)"
            )
        return super().one(text)


@dataclass(frozen=True, kw_only=True)
class TuningOptions:
    """What Optuna searches, and by what it judges."""

    PANEL: ClassVar = "Search"

    strategies: Annotated[
        tuple[str, ...] | None,
        choices(
            "--strategies",
            Techniques(TECHNIQUES, "technique"),
            "Techniques to consider",
            show_default="all",
        ),
    ] = None
    objectives: Annotated[
        tuple[str, ...] | None,
        choices(
            "--objectives",
            Choices(OBJECTIVES, "objective"),
            "What to optimise (several give a Pareto set; throughput is per GPU)",
            show_default="latency; throughput,latency if --tp or --batch are several",
        ),
    ] = None
    latency_limit: Annotated[
        float | None, option("--latency-limit", real(0.0), "MS", "Slowest plan allowed.")
    ] = None
    trials: Annotated[int, option("--trials", whole(1), "N", "Trials of Optuna.")] = 200
    seed: Annotated[int, option("--seed", whole(0, 2**32 - 1), "N", "Same seed, same plan.")] = 0
    sampler: Annotated[str, choice("--sampler", SAMPLERS, "Sampler of Optuna")] = "auto"
    max_chunks: Annotated[
        int, option("--max-chunks", whole(2, 64), "N", "Most chunks of a prompt.")
    ] = 4
    DEFAULT_OBJECTIVES: ClassVar[tuple[str, ...]] = ("latency",)

    def options(self, limits: dict[str, Any]) -> "Options":
        """The search's options; `limits` are what `LossyOptions.limits` says.

        Raises:
            InputError: an unknown sampler, or objectives that cannot be known.
        """
        from isotune.tuner.search import Options

        techniques = self.strategies or TECHNIQUES
        options = Options(
            strategies=tuple(name for name in SEARCHABLE if name in techniques),
            spd=SPD in techniques,
            trials=self.trials,
            seed=self.seed,
            sampler=cast(Any, self.sampler),
            max_chunks=self.max_chunks,
            objectives=cast(Any, self.objectives or self.DEFAULT_OBJECTIVES),
            latency_limit=None if self.latency_limit is None else self.latency_limit / 1e3,
            **limits,
        )
        options.check()
        return options


@dataclass(frozen=True, kw_only=True)
class StorageOptions:
    """Where a search is shared."""

    PANEL: ClassVar = "Shared search"
    INSTEAD: ClassVar = {"storage": ONE_CASE}

    storage: Annotated[
        str | None,
        plain("--storage", "URL", "Share the search: postgresql://, sqlite:/// or journal:///."),
    ] = None


@dataclass(frozen=True, kw_only=True)
class SharingOptions(StorageOptions):
    """A search that others can join."""

    PANEL: ClassVar = "Shared search"

    study: Annotated[
        str, plain("--study", "NAME", "Name of the study; the same name resumes it.")
    ] = "isotune"


@dataclass(frozen=True, kw_only=True)
class TrialsOptions(SearchCase, LossyOptions, TuningOptions, WrittenOptions):
    """What every search takes in which Optuna tries plans."""

    def job(self) -> Job:
        """The search with its files read.

        Raises:
            InputError: a file, a name or a combination that is refused.
        """
        scenario = self.scenario()
        recovery = self.recovery(scenario, self.ranks(scenario))
        options = self.options(self.limits(recovery))
        return Job(scenario=scenario, options=options, names=self.names)
