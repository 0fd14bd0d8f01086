"""What to run and in which order: workload, plan, program, timeline."""

from isotune.simulator.io import CommDtype, WeightDtype
from isotune.simulator.schedule.breakdown import (
    Measurement,
    StepTimes,
    exposed_comm_s,
    kind_of,
    kind_seconds,
    measurement,
    timeline_of,
)
from isotune.simulator.schedule.plan import Plan, check_plan
from isotune.simulator.schedule.program import (
    COMM,
    COMPUTE,
    Lane,
    Program,
    Queue,
    Role,
    Step,
    expand,
    expand_sizes,
)
from isotune.simulator.schedule.recovery_steps import STEPS, ZERO_SHOT, RecoveryStep, steps_of
from isotune.simulator.schedule.split import (
    TILE,
    Chunk,
    PassSizes,
    granularity,
    sm_budgets,
)
from isotune.simulator.schedule.strategies import (
    SEARCHABLE,
    SPD,
    STRATEGIES,
    TECHNIQUES,
    Strategy,
    StrategyName,
    TechniqueName,
    strategy_named,
    technique_label,
    technique_named,
)
from isotune.simulator.schedule.timeline import StepCosts, Timeline, simulate
from isotune.simulator.schedule.workload import LaunchMode, Phase, Workload

__all__ = [
    "COMM",
    "COMPUTE",
    "SEARCHABLE",
    "SPD",
    "STEPS",
    "STRATEGIES",
    "TECHNIQUES",
    "TILE",
    "ZERO_SHOT",
    "Chunk",
    "CommDtype",
    "Lane",
    "LaunchMode",
    "Measurement",
    "PassSizes",
    "Phase",
    "Plan",
    "Program",
    "Queue",
    "RecoveryStep",
    "Role",
    "Step",
    "StepCosts",
    "StepTimes",
    "Strategy",
    "StrategyName",
    "TechniqueName",
    "Timeline",
    "WeightDtype",
    "Workload",
    "check_plan",
    "expand",
    "expand_sizes",
    "exposed_comm_s",
    "granularity",
    "kind_of",
    "kind_seconds",
    "measurement",
    "simulate",
    "sm_budgets",
    "steps_of",
    "strategy_named",
    "technique_label",
    "technique_named",
    "timeline_of",
]
