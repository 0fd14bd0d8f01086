"""Machines, engines, layouts and techniques side by side, for one model and one batch."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from isotune.simulator.errors import InputError
from isotune.simulator.predict import (
    ENGINE_APART,
    LAYOUT_APART,
    SERIAL,
    Prediction,
    Scenario,
    predict,
    saving_interval,
)
from isotune.simulator.schedule import SEARCHABLE, SPD, STRATEGIES, Workload
from isotune.tuner.accuracy import assumed_drops
from isotune.tuner.exact import best_split
from isotune.tuner.search import layouts_of
from isotune.tuner.techniques import techniques

MOST_CASES = 100
"""Scenarios of a comparison; each takes about half a second."""

Change = Literal["technique", "layout", "engine", "machine"]
"""What one case has that the first has not."""
Progress = Callable[[int, int], None]
"""Called with cases done and cases in all."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A technique on a machine, in an engine, on a layout; `serial` is the first of each case."""

    technique: str
    prediction: Prediction

    @property
    def scenario(self) -> Scenario:
        """Machine, engine and layout."""
        return self.prediction.scenario

    @property
    def gpus(self) -> int:
        """GPUs of the layout."""
        return self.scenario.workload.parallelism.gpus

    @property
    def tokens_per_s_per_gpu(self) -> float:
        """Tokens of the batch per second and GPU."""
        work = self.scenario.workload
        return work.batch * work.tokens / (self.prediction.latency_s * self.gpus)

    @property
    def communication(self) -> float:
        """Share of the exposed communication in the latency."""
        return self.prediction.exposed_comm_s / self.prediction.latency_s

    @property
    def runnable(self) -> bool:
        """Whether it needs no engine's own kernels, and leaves the model's numbers as they are."""
        return not (self.prediction.plan.how.compared or self.prediction.plan.lossy)

    def saving_beside(self, first: "Contender") -> float:
        """Share of the latency of `first` that it saves."""
        return 1.0 - self.prediction.latency_s / first.prediction.latency_s

    def interval_beside(self, first: "Contender") -> tuple[float, float] | None:
        """The 80 % interval of that saving; None between machines, whose errors nobody compared.

        Errors of collectives cancel in one engine and on one layout only.
        """
        if self.scenario.hardware != first.scenario.hardware:
            return None
        ours, theirs = self.scenario.workload, first.scenario.workload
        apart: Collection[str] = () if ours == theirs else LAYOUT_APART
        if ours.engine != theirs.engine:
            apart = ENGINE_APART
        return saving_interval(self.prediction.run, first.prediction.run, apart)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All contenders, those of a case together, its serial pass first.

    `left_out` says which cases cannot be, and why.
    """

    contenders: tuple[Contender, ...]
    left_out: Mapping[str, str]


def compare(
    first: Scenario,
    machines: Sequence[Scenario],
    engines: Sequence[str],
    names: Sequence[str] = (*SEARCHABLE, SPD),
    progress: Progress | None = None,
    **sizes: Sequence[int],
) -> Comparison:
    """Predict every technique on every machine, in every engine, on every layout.

    SPD drops the blocks that are assumed harmless where nothing is measured. Techniques of
    engines' own kernels are there where all others are.

    Args:
        first: the case that the others stand beside.
        machines: the same model and batch on each machine; their engine and layout are replaced.
        engines: serving engines.
        names: strategies that a search may choose, and SPD.
        progress: see `Progress`.
        sizes: sizes of `tp`, `ep`, `cp` and `dp`; see `layouts_of`.

    Raises:
        InputError: no case can be, or there are more than `MOST_CASES`.
    """
    cases: list[Scenario] = [first]
    left_out: dict[str, str] = {}
    for machine in machines:
        try:
            layouts, impossible = layouts_of(machine, **sizes)
        except InputError as error:
            left_out[machine.hardware.name] = str(error)
            continue
        left_out |= {f"{machine.hardware.name}, {key}": why for key, why in impossible.items()}
        for engine in engines:
            for ranks in layouts:
                name = f"{machine.hardware.name}, {engine}, {ranks.key}"
                try:
                    cases.append(machine.with_workload(engine=engine, **asdict(ranks)))
                except InputError as error:
                    left_out[name] = str(error)
    unlike = _unlike(cases)
    if len(unlike) > MOST_CASES:
        raise InputError(f"{len(unlike)} cases to compare (allowed: up to {MOST_CASES})")
    found: list[Contender] = []
    for done, case in enumerate(unlike, 1):
        try:
            found += _of_case(case, names)
        except InputError as error:
            left_out[name_of(case)] = str(error)
        if progress is not None:
            progress(done, len(unlike))
    if not found:
        raise InputError(f"nothing to compare: {next(iter(left_out.values()))}")
    return Comparison(contenders=tuple(found), left_out=left_out)


def name_of(case: Scenario) -> str:
    """Machine, engine and layout in a few words."""
    work = case.workload
    return f"{case.hardware.name}, {work.engine}, {work.parallelism.key}"


def _unlike(cases: Sequence[Scenario]) -> list[Scenario]:
    """The cases, each once."""
    found: dict[tuple[str, Workload], Scenario] = {}
    for case in cases:
        found.setdefault((case.hardware.name, case.workload), case)
    return list(found.values())


def _of_case(case: Scenario, names: Sequence[str]) -> Iterator[Contender]:
    """The serial pass of a case, and what each technique makes of it."""
    yield Contender(technique="serial", prediction=predict(case, SERIAL))
    ranks, spd = case.workload.parallelism, SPD in names
    strategies = tuple(name for name in SEARCHABLE if name in names)
    splits = ranks.communicates and any(STRATEGIES[name].enumerable for name in strategies)
    exact = best_split(case) if splits else None
    alone = techniques(
        case,
        best=SERIAL if exact is None else exact.plan,
        dropped=assumed_drops(case.model, ranks) if spd else (),
        drop_costs=None,
        strategies=strategies,
        spd=spd,
    )
    for one in alone:
        if one.prediction.plan != SERIAL:
            yield Contender(technique=one.name, prediction=one.prediction)


def alternatives(found: Comparison) -> dict[Change, Contender]:
    """What beats or loses to the first case's serial pass, by what alone is changed.

    `technique` is the first case's best that anyone can run without changing outputs; `layout`,
    `engine` and `machine` are the fastest serial passes that differ in that alone.
    """
    first = found.contenders[0]
    here = [one for one in found.contenders if one.scenario == first.scenario and one.runnable]
    best: dict[Change, Contender] = {"technique": min(here, key=_latency)}
    serial = [one for one in found.contenders if one.technique == "serial"]
    alike: dict[Change, tuple[int, int]] = {"layout": (0, 1), "engine": (0, 2), "machine": (1, 2)}
    for what, same in alike.items():
        others = [
            one
            for one in serial
            if one is not first and all(_case(one)[at] == _case(first)[at] for at in same)
        ]
        if others:
            best[what] = min(others, key=_latency)
    return best


def beats(one: Contender, other: Contender) -> bool:
    """Whether one is faster than another by more than the model's error.

    On one machine the errors that both share cancel; between machines the intervals must not meet.
    """
    interval = one.interval_beside(other)
    if interval is not None:
        return interval[0] > 0.0
    return one.prediction.latency_interval_s[1] < other.prediction.latency_interval_s[0]


def _latency(one: Contender) -> float:
    return one.prediction.latency_s


def _case(one: Contender) -> tuple[str, str, str]:
    work = one.scenario.workload
    return one.scenario.hardware.name, str(work.engine), work.parallelism.key
