"""What `isotune search --prompt FIRST:LAST` prints: a policy, and what it saves by length."""

from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import ConfigDict, Field

from isotune.results._result import Part, Result
from isotune.results.search import Curve
from isotune.simulator.files import Policy, Rule
from isotune.simulator.predict import Scenario
from isotune.simulator.schedule import Plan

if TYPE_CHECKING:
    from isotune.tuner.policy import PolicyResult


class OneRule(Part):
    """One rule for every length: what it saves, and its largest loss on the lengths tried."""

    rule: Rule
    expected_saving: float
    worst_loss: float


class FoundPolicy(Result, Policy):
    """A policy as its file has it, its savings by prompt length, and how it was found.

    `solved` lengths were solved, on which it is at most `worst_loss` above the optimum; `asked`
    is the longest prompt asked for; `simplest` cuts every prompt in the middle. They are None for a
    policy read from its file, `simplest` also where it gains nothing.
    """

    model_config = ConfigDict(**Part.model_config)

    kind: Literal["policy"] = "policy"
    by_length: tuple[Curve, ...] = Field(min_length=1)
    treated_growth: float | None = None
    solved: int | None = None
    worst_loss: float | None = None
    asked: int | None = None
    simplest: OneRule | None = None
    interrupted: bool = False
    policy_file: str | None = None

    @classmethod
    def of(cls, policy: Policy, scenario: Scenario, **more: Any) -> Self:
        """A policy on the machine it was made for."""
        from isotune.tuner.savings_by_length import by_length

        def plan_at(there: Scenario) -> Plan:
            prompt = there.workload.prompt
            return policy.bucket(prompt).rule.plan(prompt)

        first, last = policy.buckets[0].first, policy.buckets[-1].last
        curve = Curve.of("this policy", by_length(scenario, plan_at, first, last))
        return cls(**dict(policy), by_length=(curve,), **more)

    @classmethod
    def found(
        cls, policy: Policy, scenario: Scenario, found: "PolicyResult", asked: int, **more: Any
    ) -> Self:
        """A policy that was just found; `asked` is the longest prompt that was asked for."""
        return cls.of(
            policy,
            scenario,
            solved=found.solved,
            worst_loss=found.worst_loss,
            asked=asked,
            simplest=None if found.simplest is None else OneRule.like(found.simplest),
            interrupted=found.interrupted,
            **more,
        )

    def rows(self) -> list[dict[str, Any]]:
        """One row per bucket."""
        return [
            {"first": bucket.first, "last": bucket.last, "loss": bucket.loss}
            | bucket.rule.model_dump()
            for bucket in self.buckets
        ]
