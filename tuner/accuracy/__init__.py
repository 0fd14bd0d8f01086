"""What dropping an attention all-reduce costs in accuracy, and how recovery lowers it."""

from isotune.tuner.accuracy.budget import DropCosts
from isotune.tuner.accuracy.classes import Thresholds
from isotune.tuner.accuracy.recovery import (
    RecoveredDrops,
    Recovery,
    by_class,
    corrected,
    names_of,
    with_check,
)
from isotune.tuner.accuracy.sensitivity import (
    Measured,
    Sensitivity,
    assumed_drops,
    read_sensitivity,
)

__all__ = [
    "DropCosts",
    "Measured",
    "RecoveredDrops",
    "Recovery",
    "Sensitivity",
    "Thresholds",
    "assumed_drops",
    "by_class",
    "corrected",
    "names_of",
    "read_sensitivity",
    "with_check",
]
