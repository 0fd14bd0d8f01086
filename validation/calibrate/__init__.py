"""Measurements to profile: robust fits per section, held-back errors, sources."""

from isotune.validation.calibrate.calibration import Calibrated, calibrate, standard_error
from isotune.validation.calibrate.contention_fit import read_contention, with_contention
from isotune.validation.calibrate.estimate import figure_at
from isotune.validation.calibrate.fits import SectionReport
from isotune.validation.calibrate.holdout import split
from isotune.validation.calibrate.provenance import CLASS_OF, STANDS_FOR_CLASS
from isotune.validation.calibrate.scoring import Score, score

__all__ = [
    "CLASS_OF",
    "STANDS_FOR_CLASS",
    "Calibrated",
    "Score",
    "SectionReport",
    "calibrate",
    "figure_at",
    "read_contention",
    "score",
    "split",
    "standard_error",
    "with_contention",
]
