"""Quantities are read with their unit, exactly, and nothing is guessed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isotune.simulator.errors import InputError
from isotune.simulator.io import (
    BYTES,
    BYTES_PER_SECOND,
    FLOPS,
    SECONDS,
    Bytes,
    Schema,
    format_quantity,
    parse_quantity,
    validate,
)
from isotune.simulator.io.units import Scales


class Box(Schema):
    size: Bytes


@pytest.mark.parametrize(
    ("text", "scales", "value"),
    [
        ("400 GB/s", BYTES_PER_SECOND, 400e9),
        ("8 us", SECONDS, 8e-6),
        ("312 TFLOP/s", FLOPS, 312e12),
        ("80 GiB", BYTES, 80 * 2**30),
        ("0.1 GB", BYTES, 1e8),
        ("1e3 MB", BYTES, 1e9),
        ("1_000 B", BYTES, 1e3),
        ("  2ms ", SECONDS, 2e-3),
        ("0 s", SECONDS, 0.0),
        ("-3 us", SECONDS, -3e-6),
    ],
)
def test_a_quantity_is_its_exact_si_value(text: str, scales: Scales, value: float) -> None:
    assert parse_quantity(text, scales) == value


@pytest.mark.parametrize(
    "text",
    [
        "400", "GB", "", "400 GB/s extra", "four GB", "1,5 GB", "0x10 GB", "nan GB", "inf GB",
        "４ GB", "1e999 PB", "1 GB" + " " * 50, 400, 400.0, True, None, ["1 GB"],
    ],
)  # fmt: skip
def test_what_is_not_a_number_with_a_unit_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"not a number with a unit|not finite"):
        parse_quantity(text, BYTES)


@pytest.mark.parametrize("text", ["400 GB/s", "400 Gb", "400 gb", "400 GFLOP/s", "1 kiB"])
def test_a_wrong_unit_is_refused_with_the_units_allowed(text: str) -> None:
    with pytest.raises(ValueError, match=r"unknown unit .*units: B, kB, MB, GB, TB"):
        parse_quantity(text, BYTES)


@given(st.just(0.0) | st.floats(1e-12, 1e18), st.sampled_from([BYTES, BYTES_PER_SECOND, SECONDS]))
def test_what_is_written_is_read_back_to_the_last_digit(value: float, scales: Scales) -> None:
    assert parse_quantity(format_quantity(value, scales), scales) == value


@pytest.mark.parametrize(
    ("value", "scales", "text"),
    [
        (400e9, BYTES_PER_SECOND, "400 GB/s"),
        (1.05e-7, SECONDS, "105 ns"),
        (1e-12, SECONDS, "0.001 ns"),
        (999.0, BYTES, "999 B"),
        (0.0, SECONDS, "0 s"),
    ],
)
def test_output_uses_the_largest_decimal_unit_that_fits(
    value: float, scales: Scales, text: str
) -> None:
    assert format_quantity(value, scales) == text


def test_a_bare_number_is_si_in_python_and_an_error_in_a_file() -> None:
    assert Box(size=5e9).size == 5e9
    with pytest.raises(Exception, match=r"box.yaml: size: 5e\+09|box.yaml: size: 5000000000.0"):
        validate(Box, {"size": 5e9}, "box.yaml")


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_python_cannot_pass_a_number_that_is_not_finite(value: float) -> None:
    with pytest.raises(InputError):
        Box(size=value)
