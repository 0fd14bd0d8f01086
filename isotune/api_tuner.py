"""The Python API with Optuna and numba: search and sweep. Imported when first used."""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

from isotune.api import Prediction
from isotune.shown import Shown
from isotune.simulator.predict import Scenario
from isotune.tuner import search as searched
from isotune.tuner import sweep as swept
from isotune.tuner.sweep import none_for_nan

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SearchResult(searched.SearchResult, Shown):
    """The best plan beside baseline, exact reference and each technique; times in seconds."""

    best: Prediction
    baseline: Prediction

    @classmethod
    def of(cls, found: searched.SearchResult) -> Self:
        """The same result, able to show itself."""
        parts = {field.name: getattr(found, field.name) for field in fields(found)}
        shown = {name: Prediction.of(parts[name]) for name in ("best", "baseline")}
        return cls(**(parts | shown))

    def to_dict(self) -> dict[str, Any]:
        """The best plan's prediction and what it was measured against, as plain data."""
        from isotune.results import search_dict

        return search_dict(self)

    def _rows(self) -> list[dict[str, Any]]:
        """One row for serial, each technique alone, and the best plan."""
        named = [
            ("serial", self.baseline),
            *((item.name, item.prediction) for item in self.techniques),
            ("best", self.best),
        ]
        return [
            {
                "plan": name,
                "latency_s": item.latency_s,
                "saving": item.saving,
                "saving_low": item.saving_interval[0],
                "saving_high": item.saving_interval[1],
                "exposed_comm_s": item.exposed_comm_s,
                "strategy": item.plan.strategy,
                "chunks": item.plan.chunks,
                "lossy": item.plan.lossy,
            }
            for name, item in named
        ]

    def __rich__(self) -> "RenderableType":
        from isotune.render_search import search_view

        return search_view(self)

    def __repr__(self) -> str:
        return f"<SearchResult best={self.best!r}>"


def search(
    scenario: Scenario,
    options: searched.Options | None = None,
    progress: searched.Progress | None = None,
) -> SearchResult:
    """Find the plan of lowest latency within the limits.

    Args:
        scenario: model, hardware and workload; see `isotune.scenario`.
        options: how to search; the defaults are those of the command line.
        progress: called with trials done and trials in all.

    Raises:
        InputError: objectives that cannot be known, or no plan within the limits.
        DoesNotFitError: no plan fits in memory.
    """
    return SearchResult.of(searched.search(scenario, options, progress))


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Sweep(Shown):
    """The rows of a sweep by column (see `sweep.table_file.COLUMNS`); seconds, bytes, fractions."""

    columns: dict[str, list[Any]]
    skipped: dict[str, int]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def to_dict(self) -> dict[str, Any]:
        """Each column as a list, and the combinations left out with why."""
        return {"columns": self.columns, "skipped": self.skipped}

    def _rows(self) -> list[dict[str, Any]]:
        names = list(self.columns)
        return [
            dict(zip(names, row, strict=True)) for row in zip(*self.columns.values(), strict=True)
        ]

    def __rich__(self) -> "RenderableType":
        from isotune.render_sweep import sweep_view

        return sweep_view(self._rows(), self.skipped)

    def __repr__(self) -> str:
        return f"<Sweep of {len(self)} rows>"


def sweep(grid: swept.Grid) -> Sweep:
    """Predict every combination of a grid, in this process and in memory.

    For millions of rows, on all cores and resumable, use `isotune sweep`.

    Args:
        grid: the axes; every combination is a row.

    Raises:
        InputError: unknown hardware or model, or nothing possible in the grid.
    """
    columns, skipped = swept.in_memory(grid)
    plain = {
        name: [none_for_nan(value) for value in column.tolist()] for name, column in columns.items()
    }
    return Sweep(columns=plain, skipped=skipped)
