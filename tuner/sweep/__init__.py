"""The design space as a table on disk."""

from isotune.tuner.sweep.design_space import (
    Grid,
    SweepResult,
    in_memory,
    read_grid,
    sweep,
    swept_plan,
)
from isotune.tuner.sweep.table_file import plain_cells, read_rows

__all__ = [
    "Grid",
    "SweepResult",
    "in_memory",
    "plain_cells",
    "read_grid",
    "read_rows",
    "sweep",
    "swept_plan",
]
