"""Results as they were saved: what `--json` printed, read back with its types checked."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from simulator.plan import Plan
from simulator.policy import Policy
from simulator.program import Op
from simulator.workload import Workload
from tuner.accuracy import Sensitivity

Seconds = Annotated[float, Field(gt=0)]
Interval = tuple[float, float]
Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.]{1,40}$")]
"""A name that comes from isotune itself, never from a user's file."""
_MOST = 100_000


class Saved(BaseModel):
    """A frozen part of a result; what a later version adds is ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Times(Saved):
    """What a plan takes; the names are those of `Prediction`."""

    plan: Plan = Plan()
    latency_s: Seconds
    latency_interval_s: Interval
    serial_latency_s: Seconds
    saving: float
    saving_interval: Interval
    compute_s: float
    comm_s: float
    exposed_comm_s: float
    bound_s: Seconds
    op_seconds: dict[Op, float]

    @property
    def saving_is_certain(self) -> bool:
        """Whether the saving's interval lies on one side of zero."""
        return self.saving_interval[0] > 0.0 or self.saving_interval[1] < 0.0

    @property
    def contention_s(self) -> float:
        """What the plan's compute steps lose to the syncs beside them."""
        return max(0.0, self.latency_s - self.exposed_comm_s - self.compute_s)


class Step(Saved):
    """One bar of a timeline; seconds from the block's first start."""

    name: Word
    stream: Literal["compute", "communication"]
    block: int
    chunk: int
    tile: int | None
    start_s: float
    end_s: float
    alone_s: float | None


class Block(Saved):
    """One block of a timeline, and its neighbours' steps beside it."""

    block: int
    duration_s: Seconds
    steps: tuple[Step, ...] = Field(min_length=1, max_length=5_000)


class Prediction(Times):
    """What `predict --json` prints."""

    command: str = ""
    model: str
    hardware: str
    workload: Workload
    cautions: tuple[str, ...] = ()
    baseline: Times
    timelines: dict[Word, Block]


class Technique(Times):
    """One technique by itself."""

    name: str
    lossy: bool
    assumed: bool


class Point(Saved):
    """A prompt length on a curve."""

    prompt: int = Field(gt=0)
    chunks: tuple[int, ...]
    latency_s: Seconds
    serial_latency_s: Seconds
    saving: float
    saving_interval: Interval


class Curve(Saved):
    """Savings by prompt length."""

    name: str
    points: tuple[Point, ...] = Field(max_length=_MOST)


class Trial(Saved):
    """One trial of a study."""

    state: Literal["COMPLETE", "PRUNED", "FAIL"]
    params: dict[Word, int | float | Word]
    values: tuple[float, ...]
    feasible: bool
    accuracy_cost: float | None = None


class Range(Saved):
    """The range of a parameter, as Optuna writes it."""

    name: Literal["CategoricalDistribution", "IntDistribution", "FloatDistribution"]
    attributes: dict[Word, bool | int | float | tuple[Word, ...] | None]


class History(Saved):
    """All trials of a study."""

    distributions: dict[Word, Range] = {}
    trials: tuple[Trial, ...] = Field(default=(), max_length=_MOST)


class Trials(Saved):
    """What a study did."""

    run: int
    pruned: int
    failed: int
    why: dict[str, int] = {}
    best_s: Seconds | None = None
    seed: int
    interrupted: bool = False
    stopped_at_bound: bool = False
    history: History = History()


class Exact(Saved):
    """The exact optimum, and how far Optuna's best lies above it."""

    latency_s: Seconds
    compared: int
    bound_s: Seconds
    plan: Plan
    gap: float | None


class Winner(Saved):
    """A plan that is best in a share of the draws."""

    plan: Plan
    share: float


class Robust(Saved):
    """A robust choice."""

    mode: str
    saving_interval: Interval
    best_in: float
    near_best_in: float
    winners: tuple[Winner, ...]


class FrontItem(Saved):
    """A plan that no other beats in every objective, and its values in their order."""

    plan: Plan
    values: tuple[float, ...]


class Search(Prediction):
    """What `search --json` prints."""

    techniques: tuple[Technique, ...]
    iso_pays_from: int | None
    by_length: tuple[Curve, ...]
    sensitivity: Sensitivity | None = None
    accuracy_budget: float | None = None
    accuracy_cost: float | None = None
    objectives: tuple[Word, ...] = Field(min_length=1)
    trials: Trials
    exact: Exact | None
    robust: Robust | None = None
    front: tuple[FrontItem, ...] = ()

    @field_validator("front", mode="before")
    @classmethod
    def _values_by_name(cls, front: Any) -> Any:
        """The file names each value; here they are in the order of the objectives."""
        if not isinstance(front, list):
            return front
        return [
            {"plan": item.get("plan"), "values": [v for k, v in item.items() if k != "plan"]}
            if isinstance(item, dict)
            else item
            for item in front
        ]


class SavedPolicy(Saved):
    """What `search --json` prints for a range of prompts."""

    command: str = ""
    policy: Policy
    by_length: tuple[Curve, ...] = Field(min_length=1)


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
    rows: tuple[Row, ...] = Field(max_length=_MOST)
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


class SavedSensitivity(Saved):
    """A sensitivity file."""

    table: Sensitivity


class Sweep(Saved):
    """A sweep's table, as rows; a latency that is not there is None."""

    command: str
    rows: tuple[dict[str, Any], ...]
