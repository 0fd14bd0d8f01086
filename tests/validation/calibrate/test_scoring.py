"""Errors of predictions: one definition for profiles and for checks."""

import numpy as np
import pytest

from isotune.validation.calibrate import score
from isotune.validation.calibrate.holdout import op_error

RATIOS = np.array([1.1, 0.9, 1.0, 1.3])


def test_the_score_of_known_ratios() -> None:
    found = score(RATIOS)
    assert (found.rows, found.mape) == (4, pytest.approx(0.125))
    assert found.median_ape == pytest.approx(0.1)
    assert found.p90_ape == pytest.approx(0.24)


def test_bias_is_the_median_in_a_check_and_in_a_profile() -> None:
    found = score(RATIOS)
    kept = op_error(RATIOS, fitted=10, held_back=4)
    assert found.bias == pytest.approx(0.05), "the mean would be 0.075"
    assert (kept.mape, kept.median, kept.p90, kept.bias) == pytest.approx(
        (found.mape, found.median_ape, found.p90_ape, found.bias), abs=1e-4
    )
