"""What `isotune search --token-budget` or `--mix` prints: the best plan of each engine step."""

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field

from isotune.results._result import Interval, Part, Result
from isotune.simulator.schedule import Plan, Workload

if TYPE_CHECKING:
    from isotune.tuner.steps import Step, StepsResult

_Time = Annotated[float, Field(ge=1e-12, le=1e9)]


class EngineStep(Part):
    """One pass, serial and under its best plan."""

    workload: Workload
    serial_s: _Time
    latency_s: _Time
    saving: float
    saving_interval: Interval
    exposed_comm_s: Annotated[float, Field(ge=0, le=1e9)]
    plan: Plan

    @classmethod
    def of(cls, step: "Step") -> Self:
        """A step as it was searched."""
        return cls(
            workload=step.workload,
            serial_s=step.serial.latency_s,
            latency_s=step.best.latency_s,
            saving=step.best.saving,
            saving_interval=step.best.saving_interval,
            exposed_comm_s=step.best.exposed_comm_s,
            plan=step.best.plan,
        )


class TokenBudget(Part):
    """What a token budget brings: time to the first token, and the slowest step."""

    tokens: int
    steps: int = Field(ge=1)
    serial_first_token_s: _Time
    first_token_s: _Time
    serial_slowest_s: _Time
    slowest_s: _Time


class Steps(Result):
    """The steps of a prompt under a token budget, or one mixed batch (`budgets` is then empty).

    The first of `budgets` is the one asked for; of the others some steps were searched, and the
    rest lies on the line between them. `decodes` ride along.
    """

    kind: Literal["steps"] = "steps"
    model: str
    hardware: str
    prompt: int | None
    decodes: int
    steps: tuple[EngineStep, ...] = Field(min_length=1, max_length=1_000)
    budgets: tuple[TokenBudget, ...] = ()
    cautions: tuple[str, ...] = ()

    @classmethod
    def of(cls, found: "StepsResult", *, prompt: int | None = None, decodes: int = 0) -> Self:
        """The steps as they were searched."""
        last = found.steps[-1].best
        budgets = (found.asked, *found.others) if prompt is not None else ()
        return cls(
            model=last.scenario.model.name,
            hardware=last.scenario.hardware.name,
            prompt=prompt,
            decodes=decodes,
            steps=tuple(map(EngineStep.of, found.steps)),
            budgets=tuple(map(TokenBudget.like, budgets)),
            cautions=last.cautions,
        )

    @property
    def serial_s(self) -> float:
        """All steps, serial."""
        return sum(step.serial_s for step in self.steps)

    @property
    def latency_s(self) -> float:
        """All steps, each under its best plan."""
        return sum(step.latency_s for step in self.steps)

    def rows(self) -> list[dict[str, Any]]:
        """One row per step."""
        return [step.model_dump() for step in self.steps]
