"""Tables of measurements: CSV in, typed rows out, and what the model predicts for a row."""

from isotune.validation.tables.kernel_table import (
    SIZES,
    Key,
    Rows,
    SizedRow,
    Table,
    read_table,
    unique,
)
from isotune.validation.tables.pass_table import Run, is_run_table, read_runs
from isotune.validation.tables.predicted import chosen_set, kernel_seconds, why_not
from isotune.validation.tables.served_table import (
    ServedRow,
    is_served_table,
    least_loaded,
    read_served,
)

__all__ = [
    "SIZES",
    "Key",
    "Rows",
    "Run",
    "ServedRow",
    "SizedRow",
    "Table",
    "chosen_set",
    "is_run_table",
    "is_served_table",
    "kernel_seconds",
    "least_loaded",
    "read_runs",
    "read_served",
    "read_table",
    "unique",
    "why_not",
]
