"""plan.yaml and policy.yaml."""

from isotune.simulator.files.plan_file import (
    ModelReference,
    PlanFile,
    locate,
    read_plan,
    scenario_of,
)
from isotune.simulator.files.policy_file import Bucket, Policy, Rule, read_policy

__all__ = [
    "Bucket",
    "ModelReference",
    "PlanFile",
    "Policy",
    "Rule",
    "locate",
    "read_plan",
    "read_policy",
    "scenario_of",
]
