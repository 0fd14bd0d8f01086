"""What to run and in which order: workload, plan, program, timeline."""

from isotune.simulator.io import CommDtype, WeightDtype
from isotune.simulator.schedule.breakdown import (
    Measurement,
    exposed_comm_s,
    kind_of,
    kind_seconds,
    measurement,
    timeline_of,
)
from isotune.simulator.schedule.plan import (
    STRATEGIES,
    Plan,
    Strategy,
    check_plan,
    chunked_total,
)
from isotune.simulator.schedule.program import SYNCS, Chunk, Op, Program, Role, Step, Stream, expand
from isotune.simulator.schedule.recovery_steps import STEPS, ZERO_SHOT, RecoveryStep, steps_of
from isotune.simulator.schedule.timeline import StepCosts, Timeline, simulate
from isotune.simulator.schedule.workload import LaunchMode, Phase, Workload

__all__ = [
    "STEPS",
    "STRATEGIES",
    "SYNCS",
    "ZERO_SHOT",
    "Chunk",
    "CommDtype",
    "LaunchMode",
    "Measurement",
    "Op",
    "Phase",
    "Plan",
    "Program",
    "RecoveryStep",
    "Role",
    "Step",
    "StepCosts",
    "Strategy",
    "Stream",
    "Timeline",
    "WeightDtype",
    "Workload",
    "check_plan",
    "chunked_total",
    "expand",
    "exposed_comm_s",
    "kind_of",
    "kind_seconds",
    "measurement",
    "simulate",
    "steps_of",
    "timeline_of",
]
