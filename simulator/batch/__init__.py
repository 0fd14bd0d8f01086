"""Many plans of one scenario, only timed."""

from isotune.simulator.automaton import (
    DROPPED,
    END,
    HEAD,
    SYNCED,
    Array,
    DropSets,
    Index,
    Layout,
    Transitions,
    part_of,
    transitions,
)
from isotune.simulator.batch.cost_table import CostTable, Splits
from isotune.simulator.batch.many_plans import SPLITS_AT_ONCE, Batch
from isotune.simulator.batch.timer import Timer

__all__ = [
    "DROPPED",
    "END",
    "HEAD",
    "SPLITS_AT_ONCE",
    "SYNCED",
    "Array",
    "Batch",
    "CostTable",
    "DropSets",
    "Index",
    "Layout",
    "Splits",
    "Timer",
    "Transitions",
    "part_of",
    "transitions",
]
