"""Results as they were saved: what `--json` printed, read back with its types checked."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from isotune.simulator.files import Policy
from isotune.simulator.schedule import Plan, Workload
from isotune.tuner.accuracy import Sensitivity

Seconds = Annotated[float, Field(gt=0)]
Interval = tuple[float, float]
Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.]{1,40}$")]
"""A name that comes from isotune itself, never from a user's file."""
MOST = 100_000


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
    op_seconds: dict[str, float]
    op_sections: dict[str, str]

    @property
    def saving_is_certain(self) -> bool:
        """Whether the saving's interval lies on one side of zero."""
        return self.saving_interval[0] > 0.0 or self.saving_interval[1] < 0.0

    @property
    def contention_s(self) -> float:
        """What the plan's compute steps lose to the syncs beside them."""
        return max(0.0, self.latency_s - self.exposed_comm_s - self.compute_s)


class Baseline(Times):
    """The serial pass; one that does not fit in memory is predicted, but cannot be run."""

    fits: bool = True


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
    baseline: Baseline
    timelines: dict[Word, Block] = Field(min_length=1)


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
    points: tuple[Point, ...] = Field(max_length=MOST)


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
    attributes: dict[Word, bool | int | float | tuple[int | Word, ...] | None]


class History(Saved):
    """All trials of a study."""

    distributions: dict[Word, Range] = {}
    trials: tuple[Trial, ...] = Field(default=(), max_length=MOST)


class Trials(Saved):
    """What a study did."""

    run: int
    pruned: int
    failed: int
    why: dict[str, int] = {}
    importances: dict[str, float] = {}
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


class FrontPoint(Saved):
    """A point of latency against perplexity; `rule` made it where no search did."""

    latency_s: Seconds
    perplexity_growth: float
    plan: Plan
    treatments: dict[int, str] = {}
    rule: str | None = None
    dominated: bool = False


class Studied(Prediction):
    """The best plan of a study, and its trials."""

    objectives: tuple[Word, ...] = Field(min_length=1)
    trials: Trials


class Search(Studied):
    """What `search --json` prints."""

    techniques: tuple[Technique, ...]
    iso_pays_from: int | None
    iso_surely_pays_from: int | None = None
    by_length: tuple[Curve, ...]
    sensitivity: Sensitivity | None = None
    accuracy_budget: float | None = None
    accuracy_cost: float | None = None
    exact: Exact | None
    robust: Robust | None = None
    front: tuple[FrontItem, ...] = ()
    accuracy_front: tuple[FrontPoint, ...] = Field(default=(), max_length=MOST)
    treatments: dict[int, str] = {}

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


class Deployed(Saved):
    """A plan on some GPUs with some batch."""

    tp: int = Field(gt=0)
    batch: int = Field(gt=0)
    latency_s: Seconds
    tokens_per_s_per_gpu: Seconds
    plan: Plan


class Deployments(Studied):
    """What `search --json` prints for several tensor-parallel sizes or batches."""

    latency_limit_s: Seconds | None = None
    front: tuple[Deployed, ...] = Field(min_length=1)


class SavedPolicy(Saved):
    """What `search --json` prints for a range of prompts."""

    command: str = ""
    policy: Policy
    by_length: tuple[Curve, ...] = Field(min_length=1)


class SavedSensitivity(Saved):
    """A sensitivity file."""

    table: Sensitivity


class Sweep(Saved):
    """A sweep's table, as rows; a latency that is not there is None."""

    command: str
    rows: tuple[dict[str, Any], ...]
