"""The kinds of results: a file's `kind` names its type."""

from typing import Final

from isotune.results._result import Result
from isotune.results.calibration import Calibration
from isotune.results.check import Check, Checks
from isotune.results.compare import Compared
from isotune.results.measured_search import MeasuredSearch
from isotune.results.policy import FoundPolicy
from isotune.results.prediction import Prediction
from isotune.results.search import Deployments, SearchResult, SharedSearch
from isotune.results.sensitivity import DropCheck, Recovery, SensitivityScan
from isotune.results.steps import Steps
from isotune.results.sweep import Sweep
from isotune.results.trace import Traced
from isotune.results.validation import Validation

KINDS: Final[dict[str, type[Result]]] = {
    str(found.model_fields["kind"].default): found
    for found in (
        Prediction,
        SearchResult,
        Deployments,
        FoundPolicy,
        Sweep,
        MeasuredSearch,
        SharedSearch,
        Check,
        Checks,
        Calibration,
        Validation,
        SensitivityScan,
        Recovery,
        DropCheck,
        Traced,
        Steps,
        Compared,
    )
}
"""Every result by its kind."""
