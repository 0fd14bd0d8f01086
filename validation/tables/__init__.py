"""Tables of measurements: CSV in, typed rows out, and what the model predicts for a row."""

from isotune.validation.tables.kernel_table import SIZES, Rows, SizedRow, Table, read_table, unique
from isotune.validation.tables.pass_table import Run, is_run_table, read_runs
from isotune.validation.tables.predicted import kernel_seconds, why_not

__all__ = [
    "SIZES",
    "Rows",
    "Run",
    "SizedRow",
    "Table",
    "is_run_table",
    "kernel_seconds",
    "read_runs",
    "read_table",
    "unique",
    "why_not",
]
