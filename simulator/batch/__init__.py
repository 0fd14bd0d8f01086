"""Many plans of one scenario, only timed."""

from isotune.simulator.automaton import (
    Array,
    DropSets,
    Index,
    Layout,
    Transitions,
    transitions,
)
from isotune.simulator.batch.cost_table import CostTable, Splits
from isotune.simulator.batch.many_plans import SPLITS_AT_ONCE, Batch
from isotune.simulator.batch.timer import Predictor, Timer

__all__ = [
    "SPLITS_AT_ONCE",
    "Array",
    "Batch",
    "CostTable",
    "DropSets",
    "Index",
    "Layout",
    "Predictor",
    "Splits",
    "Timer",
    "Transitions",
    "transitions",
]
