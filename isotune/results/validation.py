"""What `isotune validate` prints: a plan run for real, beside its prediction."""

from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field

from isotune.results._result import Interval, Part, Result, Seconds, Word
from isotune.results.machine import Machine
from isotune.results.measured_search import Pair
from isotune.results.timeline import Block
from isotune.simulator.schedule import Plan, Workload

if TYPE_CHECKING:
    from isotune.validation import real_run


class ValidationTimes(Part):
    """Seconds of the plan and of the serial run, in the same job; None for what did not run.

    `host_s` is how long the host took to enqueue a run; None where it runs the steps itself.
    """

    predicted_s: Seconds
    measured_s: Seconds | None
    measured_spread: float | None
    measured_all_s: tuple[Seconds, ...] = ()
    host_s: Seconds | None = None
    predicted_exposed_comm_s: float
    measured_exposed_comm_s: float | None
    serial_predicted_s: Seconds
    serial_measured_s: Seconds | None
    serial_measured_spread: float | None = None
    serial_measured_all_s: tuple[Seconds, ...] = ()
    serial_host_s: Seconds | None = None
    serial_predicted_exposed_comm_s: float = 0.0
    serial_measured_exposed_comm_s: float | None = None
    predicted_saving: float
    predicted_saving_interval: Interval
    measured_saving: float | None
    kinds: dict[Word, Pair]
    serial_kinds: dict[Word, Pair]

    @classmethod
    def of(cls, result: "real_run.Validation") -> Self:
        """The times of both runs."""
        plan, serial = result.plan, result.serial
        return cls(
            **_side("", plan),
            **_side("serial_", serial),
            predicted_saving=plan.prediction.saving,
            predicted_saving_interval=plan.prediction.saving_interval,
            measured_saving=result.measured_saving,
        )

    @property
    def error(self) -> float | None:
        """Predicted over measured latency, less one."""
        return None if self.measured_s is None else self.predicted_s / self.measured_s - 1


def _side(prefix: str, side: "real_run.Comparison") -> dict[str, Any]:
    ran = side.measured
    return {
        f"{prefix}predicted_s": side.prediction.latency_s,
        f"{prefix}measured_s": ran.median_s if ran else None,
        f"{prefix}measured_spread": ran.spread if ran else None,
        f"{prefix}host_s": side.host_s,
        f"{prefix}measured_all_s": tuple(ran.latencies) if ran else (),
        f"{prefix}predicted_exposed_comm_s": side.prediction.exposed_comm_s,
        f"{prefix}measured_exposed_comm_s": side.measured_exposed_s,
        f"{prefix}kinds": {
            kind: Pair(predicted_s=predicted, measured_s=measured)
            for kind, (predicted, measured) in side.kinds().items()
        },
    }


class Numbers(Part):
    """Logits of the plan beside the reference's: the largest difference over the largest logit."""

    max_rel_error: float
    tolerance: float
    ok: bool
    reference: str
    dtype: str
    positions: int = 0


class Limits(Part):
    """What a plan may cost in quality; None allows anything."""

    max_perplexity_rise: float | None = None
    min_agreement: float | None = None
    max_logprob_change: float | None = None


class TaskScore(Part):
    """A metric of an lm-evaluation-harness task, on the original model and on the plan."""

    task: str
    metric: str
    original: float
    planned: float


class Quality(Part):
    """A plan beside the original model on a text; `exceeded` names the limits it does not keep."""

    tokens: int
    original_perplexity: float
    perplexity: float
    agreement: float
    max_logprob_change: float
    limits: Limits
    perplexity_rise: float
    ok: bool
    exceeded: tuple[str, ...]
    lm_eval: tuple[TaskScore, ...] = ()

    @classmethod
    def of(cls, found: "real_run.Quality", scores: "tuple[real_run.Score, ...]" = ()) -> Self:
        """What the quality gate found."""
        return cls.like(found, exceeded=tuple(found.exceeded()), lm_eval=scores)


class RankMemory(Part):
    """Peak bytes of each rank."""

    peak_bytes: tuple[float, ...] = ()


class Validation(Result):
    """A plan run for real: are its numbers the model's, is its time the prediction's?

    With `emulated_tp` one device played rank 0 of so many. `weights_folder` is the folder of the
    weights, None for random ones. `failure` is the one line of a run that ended early.
    """

    kind: Literal["validation"] = "validation"
    model: str
    hardware: str
    device: str
    machine: Machine | None = None
    launch: str = "eager"
    emulated_tp: int | None = None
    ranks: int | None = None
    layers: int | None = None
    weights: str
    weights_folder: str | None = None
    workload: Workload
    plan: Plan
    notes: tuple[str, ...]
    complete_run: bool = Field(default=True, alias="complete")
    failure: str | None
    numbers: Numbers | None
    time: ValidationTimes
    memory: RankMemory = RankMemory()
    timelines: dict[str, Block]
    quality: Quality | None = None

    @classmethod
    def of(cls, result: "real_run.Validation", quality: Quality | None = None) -> Self:
        """A validation as it ran."""
        setup = result.setup
        scenario = setup.scenario
        return cls(
            model=scenario.model.name,
            hardware=scenario.hardware.name,
            device=setup.device,
            launch=setup.launch,
            machine=None if result.machine is None else Machine.like(result.machine),
            emulated_tp=scenario.workload.tp if setup.emulated else None,
            ranks=setup.ranks,
            layers=scenario.model.num_hidden_layers,
            weights="random" if setup.weights is None else "safetensors",
            weights_folder=None if setup.weights is None else str(setup.weights),
            workload=scenario.workload,
            plan=setup.plan,
            notes=result.notes,
            complete=result.failure is None,
            failure=result.failure,
            numbers=None if result.numbers is None else Numbers.like(result.numbers),
            time=ValidationTimes.of(result),
            memory=RankMemory(
                peak_bytes=tuple(result.peak_bytes[rank] for rank in sorted(result.peak_bytes))
            ),
            timelines=_timelines(result),
            quality=quality,
        )

    def rows(self) -> list[dict[str, Any]]:
        """One row per run: the serial one and the plan's."""
        time = self.time
        return [
            {"run": "serial", "predicted_s": time.serial_predicted_s}
            | {"measured_s": time.serial_measured_s},
            {"run": "plan", "predicted_s": time.predicted_s, "measured_s": time.measured_s},
        ]


def _timelines(result: "real_run.Validation") -> dict[str, Block]:
    """One block of the serial run and of the plan, predicted and measured."""
    found: dict[str, Block] = {}
    for name, side in (("serial", result.serial), ("plan", result.plan)):
        found[f"{name} predicted"] = Block.of_run(side.prediction.run)
        if side.measured is not None:
            found[f"{name} measured"] = Block.of(side.measured.program, side.measured.timeline)
    return found
