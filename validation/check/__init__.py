"""A profile against measurements: kernels, collectives, whole passes."""

from isotune.validation.check.profile_check import Check, Part, Scored, check_runs, check_table
from isotune.validation.check.score import Score

__all__ = [
    "Check",
    "Part",
    "Score",
    "Scored",
    "check_runs",
    "check_table",
]
