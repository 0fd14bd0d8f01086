"""What dropping an attention all-reduce costs in accuracy, and how recovery lowers it."""

from isotune.tuner.accuracy.classes import Thresholds
from isotune.tuner.accuracy.recovery import (
    Treated,
    by_class,
    corrected,
    effective,
    names_of,
    treat,
    with_check,
)
from isotune.tuner.accuracy.sensitivity import (
    ASSUMED_SHARE,
    Measured,
    Sensitivity,
    assumed_order,
    read_sensitivity,
)

__all__ = [
    "ASSUMED_SHARE",
    "Measured",
    "Sensitivity",
    "Thresholds",
    "Treated",
    "assumed_order",
    "by_class",
    "corrected",
    "effective",
    "names_of",
    "read_sensitivity",
    "treat",
    "with_check",
]
