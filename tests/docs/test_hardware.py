"""docs/hardware.md quotes the profiles' own errors."""

from pathlib import Path

import pytest

from isotune.simulator.machine import read_profile

PAGE = Path(__file__).parents[2] / "docs" / "hardware.md"
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.read_text().splitlines()
    if line.startswith("| ") and line.count("%") >= 3
]
OPS = ("gemm", "attention", "all_reduce", "all_reduce.one_shot_two_shot")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_the_table_of_errors_is_what_the_profiles_say(row):
    name, *cells = row
    errors = read_profile(name).calibration.errors
    shown = [f"{errors[op].mape * 100:.1f} %" if op in errors else "" for op in OPS]
    assert cells == shown


def test_every_measured_machine_is_in_the_table():
    assert len(ROWS) == 8
