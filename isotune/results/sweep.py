"""What `isotune sweep` prints and `isotune.sweep` returns: a table of predictions."""

from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field

from isotune.results._result import Result

if TYPE_CHECKING:
    from isotune.tuner.sweep import Grid, SweepResult

SweepRow = dict[str, Any]
"""A row of the table by column."""


class Sweep(Result):
    """A row per combination, in the file `file` or in `columns`; seconds, bytes, fractions.

    `skipped` counts the combinations that were left out, by reason. See
    `isotune.tuner.sweep` for the columns; what is not there is None.
    """

    kind: Literal["sweep"] = "sweep"
    file: str | None = None
    row_count: int = Field(default=0, alias="rows", ge=0, le=10**12)
    resumed_parts: int = 0
    skipped: dict[str, int] = Field(default_factory=dict)
    interrupted: bool = False
    columns: dict[str, list[Any]] | None = None

    @classmethod
    def of(cls, grid: "Grid") -> Self:
        """Every combination of a grid, predicted in this process and in memory.

        Raises:
            InputError: unknown hardware or model, or nothing possible in the grid.
        """
        from isotune.tuner.sweep import in_memory, plain_cells

        found, skipped = in_memory(grid)
        columns = {name: plain_cells(cells) for name, cells in found.items()}
        count = len(next(iter(columns.values())))
        return cls(rows=count, columns=columns, skipped=skipped)

    @classmethod
    def written(cls, path: Path, done: "SweepResult") -> Self:
        """A sweep whose table was written to a file."""
        return cls(
            file=str(path),
            rows=done.rows,
            resumed_parts=done.resumed,
            skipped=done.skipped,
            interrupted=done.interrupted,
        )

    @classmethod
    def in_rows(cls, rows: Iterable[SweepRow], **more: Any) -> Self:
        """A sweep whose rows were read from its table."""
        found = list(rows)
        names = list(found[0]) if found else []
        columns = {name: [row[name] for row in found] for name in names}
        return cls(rows=len(found), columns=columns, **more)

    def __len__(self) -> int:
        return self.row_count

    @cached_property
    def table(self) -> tuple[SweepRow, ...]:
        """The rows, read from the file where they are not here.

        Raises:
            InputError: the file cannot be read.
        """
        return tuple(self._rows())

    def _rows(self) -> Iterator[SweepRow]:
        if self.columns is None:
            from isotune.tuner.sweep import read_rows

            yield from read_rows(Path(str(self.file)))
            return
        names = list(self.columns)
        for row in zip(*self.columns.values(), strict=True):
            yield dict(zip(names, row, strict=True))

    def rows(self) -> list[SweepRow]:
        """One row per combination."""
        return list(self.table)

    def __repr__(self) -> str:
        return f"<Sweep of {len(self)} rows>"
