"""The fast timeline: programs of identical blocks as small automata."""

from isotune.simulator.automaton.drop_sets import DropSets
from isotune.simulator.automaton.engine import INTERPRETED, Engine, cheapest, compiled
from isotune.simulator.automaton.idle import idle_seconds
from isotune.simulator.automaton.reachable_states import Transitions, transitions
from isotune.simulator.automaton.repeating_blocks import Structure, handles, structure
from isotune.simulator.automaton.walk import (
    DROPPED,
    END,
    HEAD,
    STATES,
    SYNCED,
    Array,
    Automaton,
    Index,
    Layout,
)

__all__ = [
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
    "handles",
    "idle_seconds",
    "structure",
    "transitions",
]
