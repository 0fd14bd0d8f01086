"""Files a user touches: YAML, JSON and CSV in, typed values or one-line errors out."""

from isotune.simulator.io.csv_rows import (
    AboveZero,
    Count,
    CsvRow,
    NotNegative,
    Number,
    TimedRow,
    csv_header,
    explain_row,
    read_rows,
)
from isotune.simulator.io.hints import check_known, did_you_mean
from isotune.simulator.io.number_names import (
    ActivationDtype,
    CommDtype,
    Dtype,
    WeightDtype,
)
from isotune.simulator.io.schema import Schema
from isotune.simulator.io.text_files import (
    check_writable,
    checked,
    read_json,
    read_text,
    read_yaml,
    validate,
    write_text,
)
from isotune.simulator.io.units import (
    BYTES,
    BYTES_PER_SECOND,
    FLOPS,
    SECONDS,
    Bytes,
    BytesPerSecond,
    Flops,
    Seconds,
    format_quantity,
    parse_quantity,
)

__all__ = [
    "BYTES",
    "BYTES_PER_SECOND",
    "FLOPS",
    "SECONDS",
    "AboveZero",
    "ActivationDtype",
    "Bytes",
    "BytesPerSecond",
    "CommDtype",
    "Count",
    "CsvRow",
    "Dtype",
    "Flops",
    "NotNegative",
    "Number",
    "Schema",
    "Seconds",
    "TimedRow",
    "WeightDtype",
    "check_known",
    "check_writable",
    "checked",
    "csv_header",
    "did_you_mean",
    "explain_row",
    "format_quantity",
    "parse_quantity",
    "read_json",
    "read_rows",
    "read_text",
    "read_yaml",
    "validate",
    "write_text",
]
