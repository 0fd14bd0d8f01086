"""Each kind of result as a section: one place for what is said of it."""

from collections.abc import Callable
from typing import Any

from isotune.present.section import Section
from isotune.present.sections.calibration import calibration_section
from isotune.present.sections.check import check_section, checks_section
from isotune.present.sections.measured_search import measured_section
from isotune.present.sections.policy import policy_section
from isotune.present.sections.prediction import prediction_section
from isotune.present.sections.search import deployments_section, search_section, shared_section
from isotune.present.sections.sensitivity import (
    drop_check_section,
    recovery_section,
    sensitivity_section,
)
from isotune.present.sections.sweep import sweep_section
from isotune.present.sections.validation import validation_section
from isotune.results import Result

__all__ = ["section_of"]

_SECTIONS: dict[str, Callable[[Any], Section]] = {
    "prediction": prediction_section,
    "search": search_section,
    "deployments": deployments_section,
    "shared_search": shared_section,
    "policy": policy_section,
    "sweep": sweep_section,
    "measured": measured_section,
    "check": check_section,
    "checks": checks_section,
    "calibration": calibration_section,
    "validation": validation_section,
    "sensitivity": sensitivity_section,
    "recovery": recovery_section,
    "drop_check": drop_check_section,
}


def section_of(result: Result) -> Section:
    """What is said of a result, on a terminal and on the page; without its figures."""
    return _SECTIONS[result.kind](result)
