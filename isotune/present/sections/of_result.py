"""Which section a result has, by its kind."""

from importlib import import_module
from typing import TYPE_CHECKING

from isotune.present.section import Section

if TYPE_CHECKING:
    from isotune.results import Result

_MAKERS = {
    "prediction": "prediction.prediction_section",
    "search": "search.search_section",
    "deployments": "deployments.deployments_section",
    "shared_search": "search.shared_section",
    "policy": "policy.policy_section",
    "sweep": "sweep.sweep_section",
    "measured": "measured_search.measured_section",
    "check": "check.check_section",
    "checks": "check.checks_section",
    "calibration": "calibration.calibration_section",
    "validation": "validation.validation_section",
    "sensitivity": "sensitivity.sensitivity_section",
    "recovery": "sensitivity.recovery_section",
    "drop_check": "sensitivity.drop_check_section",
    "trace": "trace.trace_section",
    "steps": "steps.steps_section",
    "comparison": "compare.compare_section",
}


def section_of(result: "Result") -> Section:
    """What is said of a result, on a terminal and on the page; without its figures."""
    # A prediction is printed in a moment: it does not wait for what the other kinds import.
    module, name = _MAKERS[result.kind].split(".")
    found: Section = getattr(import_module(f"isotune.present.sections.{module}"), name)(result)
    return found
