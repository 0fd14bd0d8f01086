"""What serving engines do with a pass: which all-reduce, which launch, which limits."""

from isotune.simulator.engines.algorithms import ALGORITHMS, FUSED, LIBRARY, Lines, lines_of
from isotune.simulator.engines.engine import Case, Engine, Gate, LaunchMode, Site, gate_text
from isotune.simulator.engines.registry import DEFAULT, ENGINES, EngineName, engine_named

__all__ = [
    "ALGORITHMS",
    "DEFAULT",
    "ENGINES",
    "FUSED",
    "LIBRARY",
    "Case",
    "Engine",
    "EngineName",
    "Gate",
    "LaunchMode",
    "Lines",
    "Site",
    "engine_named",
    "gate_text",
    "lines_of",
]
