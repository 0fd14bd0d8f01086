"""Checks, calibrations and validations as they were saved; see `isotune.report.saved`."""

from pydantic import Field

from isotune.report.saved import MOST, Block, Interval, Saved, Seconds, Word
from isotune.simulator.schedule import Plan, Workload


class Score(Saved):
    """Errors of a set of rows, as fractions of the measurement."""

    rows: int
    mape: float
    median_ape: float
    p90_ape: float
    bias: float
    coverage: float = 0.0
    saving_mae_points: float | None = None
    saving_coverage: float | None = None


class Group(Score):
    """Errors of the rows that have something in common."""

    part: str
    by: str
    group: str


class Saving(Saved):
    """A saving against serial, predicted and measured."""

    predicted: float
    measured: float
    interval: Interval


class Row(Saved):
    """One measurement and its prediction."""

    part: str
    row: str
    line: int
    predicted_s: Seconds
    measured_s: Seconds
    within: bool
    saving: Saving | None = None


class Check(Saved):
    """What `check --json` prints."""

    command: str = ""
    hw: str
    table: str
    ops: dict[str, Score]
    end_to_end: Score | None
    groups: tuple[Group, ...]
    rows: tuple[Row, ...] = Field(max_length=MOST)
    unscored: dict[str, int]

    @property
    def scores(self) -> dict[str, Score]:
        """Errors by part."""
        whole = {} if self.end_to_end is None else {"end_to_end": self.end_to_end}
        return self.ops | whole


class Checks(Saved):
    """What `check --json` prints for a folder."""

    command: str = ""
    checks: tuple[Check, ...] = Field(min_length=1)
    refused: dict[str, str]


class Fit(Saved):
    """Errors of a fitted section on rows held back."""

    rows: int
    held_back: int
    mape: float
    median: float
    p90: float
    bias: float


class Parameter(Saved):
    """A fitted number."""

    path: str
    base: float
    value: float
    determined: bool
    information: float
    at_limit: bool


class FittedSection(Saved):
    """A section of a profile that was fitted."""

    section: str
    op: str
    error: Fit
    base_error: Fit
    parameters: tuple[Parameter, ...]


class Calibration(Saved):
    """What `calibrate --json` prints."""

    command: str = ""
    name: str
    sections: tuple[FittedSection, ...] = Field(min_length=1)
    unused_rows: dict[str, int]


class Pair(Saved):
    """Predicted and measured seconds of a kind of step."""

    predicted_s: float
    measured_s: float | None


class ValidationTimes(Saved):
    """Times of a validation."""

    predicted_s: Seconds
    measured_s: Seconds | None
    measured_spread: float | None
    serial_predicted_s: Seconds
    serial_measured_s: Seconds | None
    predicted_exposed_comm_s: float
    measured_exposed_comm_s: float | None
    predicted_saving: float
    predicted_saving_interval: Interval
    measured_saving: float | None
    kinds: dict[Word, Pair]
    serial_kinds: dict[Word, Pair]


class Numbers(Saved):
    """Whether a run's numbers are the model's."""

    max_rel_error: float
    tolerance: float
    ok: bool
    reference: str
    dtype: str


class Validation(Saved):
    """What `validate --json` prints."""

    command: str = ""
    model: str
    hardware: str
    device: str
    weights: str
    workload: Workload
    plan: Plan
    notes: tuple[str, ...]
    failure: str | None
    numbers: Numbers | None
    time: ValidationTimes
    timelines: dict[str, Block]


class Tried(Saved):
    """A plan that a measured search ran."""

    plan: Plan
    proposed: bool
    predicted_s: Seconds
    measured_s: Seconds
    measured_all_s: tuple[Seconds, ...] = Field(min_length=1)


class MeasuredSearch(Saved):
    """What `search --measured --json` prints."""

    command: str = ""
    model: str = ""
    hardware: str = ""
    workload: Workload | None = None
    plan: Plan
    measured_s: Seconds
    predicted_s: Seconds
    serial_measured_s: Seconds | None
    measured_saving: float | None
    predicted_saving: float
    compared_in_turns: bool
    rank_correlation: float | None
    kinds: dict[Word, Pair]
    tried: tuple[Tried, ...] = Field(min_length=1, max_length=MOST)
    failure: str | None
