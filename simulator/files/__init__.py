"""plan.yaml and policy.yaml."""

from isotune.simulator.files.plan_file import (
    ModelReference,
    PlanFile,
    locate,
    read_plan,
    scenario_of,
)
from isotune.simulator.files.policy_file import TILE, Bucket, Policy, Rule, granularity, read_policy

__all__ = [
    "TILE",
    "Bucket",
    "ModelReference",
    "PlanFile",
    "Policy",
    "Rule",
    "granularity",
    "locate",
    "read_plan",
    "read_policy",
    "scenario_of",
]
