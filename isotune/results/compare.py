"""What `isotune compare` prints: machines, engines, layouts and techniques side by side."""

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field

from isotune.results._result import Interval, Part, Result, Word
from isotune.simulator.architecture import Parallelism
from isotune.simulator.schedule import Plan, Workload

if TYPE_CHECKING:
    from isotune import tuner

_Time = Annotated[float, Field(ge=1e-12, le=1e9)]
What = Literal["technique", "layout", "engine", "machine"]
"""What one case has that the first has not."""


class Contender(Part):
    """A technique on a machine, in an engine, on a layout.

    `saving` is against the first row; `saving_interval` is None between machines. `communication`
    is the share of the latency in which nothing but collectives runs. `runnable` says that it
    needs no engine's own kernels and leaves the model's outputs as they are.
    """

    hardware: str
    engine: Word
    tp: int = Field(gt=0)
    ep: int = Field(gt=0)
    cp: int = Field(gt=0)
    dp: int = Field(gt=0)
    technique: str
    plan: Plan
    runnable: bool
    latency_s: _Time
    latency_interval_s: Interval
    saving: float
    saving_interval: Interval | None
    communication: float = Field(ge=0, le=1)
    tokens_per_s_per_gpu: float = Field(ge=0, le=1e12)

    @property
    def ranks(self) -> Parallelism:
        """How the GPUs share model and batch."""
        return Parallelism(tp=self.tp, ep=self.ep, cp=self.cp, dp=self.dp)

    @property
    def case(self) -> tuple[str, str, Parallelism]:
        """Machine, engine and layout."""
        return self.hardware, self.engine, self.ranks

    @property
    def serial(self) -> bool:
        """Whether nothing is overlapped, dropped or quantised."""
        return self.plan.serial and not self.plan.lossy


class Compared(Result):
    """Techniques on machines, engines and layouts, for one model and batch.

    `workload` is the first row's. That row is the serial pass that the others stand beside.
    `instead` has what is changed alone: the best technique there, and the fastest serial pass on
    another layout, in another engine, on another machine; `better` names those that beat that
    technique by more than the model's error. `left_out` and `assumed` say which cases cannot be
    and what is to be known of some, by case.
    """

    kind: Literal["comparison"] = "comparison"
    model: str
    workload: Workload
    contenders: tuple[Contender, ...] = Field(min_length=1, max_length=10_000)
    instead: dict[What, Contender] = Field(default_factory=dict)
    better: tuple[What, ...] = ()
    left_out: dict[str, str] = Field(default_factory=dict)
    assumed: dict[str, tuple[str, ...]] = Field(default_factory=dict)

    @classmethod
    def of(cls, found: "tuner.compare.Comparison") -> Self:
        """A comparison as it was made."""
        from isotune.tuner.compare import alternatives, beats, name_of

        first = found.contenders[0]

        def row(one: "tuner.compare.Contender") -> Contender:
            work = one.scenario.workload
            return Contender(
                hardware=one.scenario.hardware.name,
                engine=work.engine,
                **{axis: getattr(work, axis) for axis in ("tp", "ep", "cp", "dp")},
                technique=one.technique,
                plan=one.prediction.plan,
                runnable=one.runnable,
                latency_s=one.prediction.latency_s,
                latency_interval_s=one.prediction.latency_interval_s,
                saving=one.saving_beside(first),
                saving_interval=one.interval_beside(first),
                communication=one.communication,
                tokens_per_s_per_gpu=one.tokens_per_s_per_gpu,
            )

        assumed: dict[str, dict[str, None]] = {}
        for one in found.contenders:
            for caution in one.prediction.cautions:
                assumed.setdefault(caution, {})[name_of(one.scenario)] = None
        instead = alternatives(found)
        technique = instead["technique"]
        return cls(
            model=first.scenario.model.name,
            workload=first.scenario.workload,
            contenders=tuple(map(row, found.contenders)),
            instead={what: row(one) for what, one in instead.items()},
            better=tuple(what for what, one in instead.items() if beats(one, technique)),
            left_out=dict(found.left_out),
            assumed={caution: tuple(names) for caution, names in assumed.items()},
        )

    def rows(self) -> list[dict[str, Any]]:
        """One row per contender."""
        return [one.model_dump(exclude={"plan"}) for one in self.contenders]
