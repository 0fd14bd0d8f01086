"""The fast timeline: programs of identical blocks as small automata."""

from isotune.simulator.automaton.drop_sets import DropSets
from isotune.simulator.automaton.engine import INTERPRETED, Engine, cheapest, compiled
from isotune.simulator.automaton.idle import idle_seconds
from isotune.simulator.automaton.reachable_states import Transitions, transitions
from isotune.simulator.automaton.repeating_blocks import Structure, structure
from isotune.simulator.automaton.walk import (
    BLOCK,
    DROPPED,
    END,
    HEAD,
    STATES,
    SYNCED,
    Array,
    Automaton,
    Index,
    Layout,
    part_of,
)

__all__ = [
    "BLOCK",
    "DROPPED",
    "END",
    "HEAD",
    "INTERPRETED",
    "STATES",
    "SYNCED",
    "Array",
    "Automaton",
    "DropSets",
    "Engine",
    "Index",
    "Layout",
    "Structure",
    "Transitions",
    "cheapest",
    "compiled",
    "idle_seconds",
    "part_of",
    "structure",
    "transitions",
]
