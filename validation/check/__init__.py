"""A profile against measurements: kernels, collectives, whole passes."""

from isotune.validation.check.profile_check import Check, Part, Scored, check_runs, check_table
from isotune.validation.check.served_models import check_served

__all__ = [
    "Check",
    "Part",
    "Scored",
    "check_runs",
    "check_served",
    "check_table",
]
