"""A plan's prediction: what `isotune predict` prints, and what every search result begins with."""

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, PrivateAttr, StringConstraints, model_validator

from isotune.results._result import MOST, Interval, NotNegative, Part, Result, Seconds, Word
from isotune.results.timeline import Block
from isotune.simulator import predict as simulated
from isotune.simulator.errors import InputError
from isotune.simulator.predict import Scenario, SimulatedRun
from isotune.simulator.schedule import Plan, Workload

if TYPE_CHECKING:
    from isotune.simulator.schedule import Program, Timeline


class AllReduce(Part):
    """All-reduces of one operation and size: what carries them, and what one takes.

    `norm`: the residual and the next norm are in the kernel, and `seconds` is what it takes beyond
    the norm's own. `measured`: the machine's own figures are behind it, not derived ones.
    """

    op: Word
    tokens: int = Field(ge=0)
    message_bytes: int = Field(ge=0)
    algorithm: Annotated[str, StringConstraints(max_length=80)]
    protocol: Annotated[str, StringConstraints(max_length=80)]
    norm: bool
    measured: bool
    seconds: NotNegative
    count: int = Field(ge=1)


class Times(Part):
    """What a plan takes.

    `compute_s` and `comm_s` are its steps with the GPU to themselves, C and M; `exposed_comm_s`
    the time in which no compute runs; `bound_s` = max(C, M). Intervals hold 80 %. `op_sections`
    names the section of the profile that an operation's figures are in; `all_reduces` says which
    algorithm carries each message.
    """

    plan: Plan = Plan()
    latency_s: Seconds
    latency_interval_s: Interval
    serial_latency_s: Seconds
    saving: float
    saving_interval: Interval
    compute_s: Seconds
    comm_s: NotNegative
    exposed_comm_s: NotNegative
    bound_s: Seconds
    op_seconds: dict[Word, NotNegative] = Field(min_length=1)
    op_sections: dict[Word, str]
    all_reduces: tuple[AllReduce, ...] = Field(default=(), max_length=MOST)

    @model_validator(mode="after")
    def _every_operation_has_a_section(self) -> Self:
        missing = [op for op in self.op_seconds if op not in self.op_sections]
        if missing:
            raise ValueError(f"op_sections: {missing[0]} is missing")
        return self

    @property
    def saving_is_certain(self) -> bool:
        """Whether the saving's interval lies on one side of zero."""
        return self.saving_interval[0] > 0.0 or self.saving_interval[1] < 0.0

    @property
    def contention_s(self) -> float:
        """What the plan's compute steps lose to the all-reduces beside them."""
        return max(0.0, self.latency_s - self.exposed_comm_s - self.compute_s)

    @property
    def is_serial(self) -> bool:
        """Whether nothing is overlapped, dropped or quantised."""
        return self.plan.serial and not self.plan.lossy

    def row(self, name: str) -> dict[str, Any]:
        """A row of a data frame."""
        return {
            "plan": name,
            "latency_s": self.latency_s,
            "saving": self.saving,
            "saving_low": self.saving_interval[0],
            "saving_high": self.saving_interval[1],
            "exposed_comm_s": self.exposed_comm_s,
            "strategy": self.plan.strategy,
            "chunks": self.plan.chunks,
            "lossy": self.plan.lossy,
        }


def times_of(prediction: "simulated.Prediction") -> dict[str, Any]:
    """The fields of `Times` from a simulated plan."""
    return {name: getattr(prediction, name) for name in Times.model_fields}


class Memory(Part):
    """Bytes that one GPU needs and has."""

    weights: float
    kv_cache: float
    activations: float
    reserved: float
    capacity: float

    @property
    def needed(self) -> float:
        """All of it together."""
        return self.weights + self.kv_cache + self.activations + self.reserved


class Baseline(Times):
    """The serial pass; one that does not fit in memory is predicted, but cannot be run."""

    fits: bool = True
    memory: Memory | None = None


class Predicted(Times, Result):
    """A plan on a machine, beside the serial pass, and how it was simulated; times in seconds.

    `sources` says where the figures of each section of the profile come from. `timelines` holds
    one block of either run; it is filled in what is saved.
    """

    model: str
    hardware: str
    workload: Workload
    cautions: tuple[str, ...] = ()
    memory: Memory | None = None
    baseline: Baseline
    sources: dict[str, str] = Field(default_factory=dict)
    timelines: dict[Word, Block] = Field(default_factory=dict)
    plan_file: str | None = None

    _simulated: "simulated.Prediction | None" = PrivateAttr(None)

    @classmethod
    def around(
        cls,
        found: "simulated.Prediction",
        baseline: "simulated.Prediction | None" = None,
        **more: Any,
    ) -> Self:
        """A result around a simulated plan; `more` are fields of a subclass."""
        scenario = found.scenario
        serial = baseline or found.baseline
        sections = dict.fromkeys({**found.op_sections, **serial.op_sections}.values())
        hardware = scenario.hardware
        result = cls(
            **times_of(found),
            model=scenario.model.name,
            hardware=hardware.name,
            workload=scenario.workload,
            cautions=found.cautions,
            memory=Memory.like(found.memory),
            baseline=Baseline.like(serial, fits=serial.memory.fits),
            sources={name: scenario.source_of(name) for name in sections},
            **more,
        )
        result._simulated = found
        return result

    def complete(self) -> Self:
        """The prediction with one block of each timeline."""
        if self.timelines or self._simulated is None:
            return self
        runs: dict[str, SimulatedRun] = {
            "serial": self.simulated.serial,
            "plan": self.simulated.run,
        }
        blocks = {name: Block.of_run(run) for name, run in runs.items()}
        return self.model_copy(update={"timelines": blocks})

    @property
    def simulated(self) -> "simulated.Prediction":
        """The simulation behind it, with every step.

        Raises:
            InputError: the result was read from a file, which does not hold it.
        """
        if self._simulated is None:
            raise InputError(
                "a saved result has no simulation: predict its plan again (isotune.predict)"
            )
        return self._simulated

    @property
    def scenario(self) -> Scenario:
        """Model, hardware and workload; see `simulated`."""
        return self.simulated.scenario

    @property
    def program(self) -> "Program":
        """The plan's steps; see `simulated`."""
        return self.simulated.program

    @property
    def timeline(self) -> "Timeline":
        """When each step runs; see `simulated`."""
        return self.simulated.timeline

    def __repr__(self) -> str:
        gpus = self.workload.parallelism.gpus
        return (
            f"<{type(self).__name__} {self.model} on {gpus} x {self.hardware}, "
            f"{self.plan.strategy}: {self.latency_s:.6g} s, saving {self.saving:.4g}>"
        )


class Prediction(Predicted):
    """What `isotune predict` prints."""

    kind: Literal["prediction"] = "prediction"

    @classmethod
    def of(cls, found: "simulated.Prediction") -> Self:
        """A simulated plan as a result."""
        return cls.around(found)

    def rows(self) -> list[dict[str, Any]]:
        """One row per operation: its seconds, and its share of compute plus communication."""
        total = self.compute_s + self.comm_s
        return [
            {"op": op, "seconds": seconds, "share": seconds / total}
            for op, seconds in self.op_seconds.items()
        ]
