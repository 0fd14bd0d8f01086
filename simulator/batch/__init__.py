"""Many plans of one scenario, only timed."""

from isotune.simulator.automaton import (
    Array,
    DropSets,
    Index,
    Layout,
    Transitions,
    transitions,
)
from isotune.simulator.batch.cost_table import Cuts, Prices
from isotune.simulator.batch.many_plans import CUTS_AT_ONCE, Batch
from isotune.simulator.batch.timer import Predictor, Timer

__all__ = [
    "CUTS_AT_ONCE",
    "Array",
    "Batch",
    "Cuts",
    "DropSets",
    "Index",
    "Layout",
    "Predictor",
    "Prices",
    "Timer",
    "Transitions",
    "transitions",
]
