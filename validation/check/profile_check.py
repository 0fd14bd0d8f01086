"""A profile against measurements: errors by operation, size and rank count, and the worst rows."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from isotune.simulator.errors import InputError
from isotune.simulator.kernels import Array
from isotune.simulator.machine import HardwareProfile
from isotune.simulator.number_types import bytes_of
from isotune.simulator.predict import Z80, SimulatedRun, latency_interval, saving_interval
from isotune.validation.calibrate import (
    CLASS_OF,
    STANDS_FOR_CLASS,
    Score,
    score,
    split,
    standard_error,
)
from isotune.validation.check.measured_passes import HELD_BACK_TP, simulated_pass
from isotune.validation.tables import (
    Rows,
    Run,
    Table,
    chosen_set,
    kernel_seconds,
    unique,
    why_not,
)

_BY_TYPE = ("gemm", "attention", "mla_attention", "moe")
"""Operations whose rows of each number type are a part of their own."""
WORST = 5
"""Rows named of each operation."""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One row: what it is, where it stands, predicted and measured seconds.

    `groups` are (kind, label) pairs such as ("ranks", "8"). A saving is relative to the serial
    run of the same case, as a fraction. Intervals are the predicted 80 % ones.
    """

    what: str
    line: int
    predicted_s: float
    measured_s: float
    groups: tuple[tuple[str, str], ...]
    interval_s: tuple[float, float]
    saving: "Saving | None" = None

    @property
    def within(self) -> bool:
        """Whether the measurement lies in the predicted interval."""
        return self.interval_s[0] <= self.measured_s <= self.interval_s[1]

    @property
    def ratio(self) -> float:
        """Predicted over measured."""
        return self.predicted_s / self.measured_s


@dataclass(frozen=True, kw_only=True)
class Saving:
    """Predicted and measured saving, fractions, and the predicted 80 % interval."""

    predicted: float
    measured: float
    interval: tuple[float, float]

    @property
    def within(self) -> bool:
        """Whether the measured saving lies in the predicted interval."""
        return self.interval[0] <= self.measured <= self.interval[1]


@dataclass(frozen=True, kw_only=True)
class Part:
    """The rows of one operation, or those of whole passes."""

    name: str
    rows: tuple[Scored, ...] = field(repr=False)

    @property
    def score(self) -> Score:
        """Errors of all its rows."""
        return _score(self.rows)

    def groups(self) -> dict[tuple[str, str], Score]:
        """Errors by kind and label, in the order of the kinds and labels."""
        keys = sorted({key for row in self.rows for key in row.groups}, key=_order)
        return {key: _score([row for row in self.rows if key in row.groups]) for key in keys}

    def worst(self, count: int = WORST) -> list[Scored]:
        """The rows that are off by the largest factor, worst first."""
        return sorted(self.rows, key=lambda row: -abs(np.log(row.ratio)))[:count]

    @property
    def saving_mae_points(self) -> float | None:
        """Mean error of the savings in percentage points; None without a saving."""
        errors = [abs(saving.predicted - saving.measured) for saving in self._savings()]
        return 100.0 * float(np.mean(errors)) if errors else None

    @property
    def coverage(self) -> float:
        """Share of the measurements within their predicted 80 % interval."""
        return float(np.mean([row.within for row in self.rows]))

    @property
    def saving_coverage(self) -> float | None:
        """The same of the savings; None without a saving."""
        within = [saving.within for saving in self._savings()]
        return float(np.mean(within)) if within else None

    def _savings(self) -> list[Saving]:
        return [row.saving for row in self.rows if row.saving is not None]


@dataclass(frozen=True, kw_only=True)
class Check:
    """A profile's score against one table; `unscored` counts rows by the reason."""

    hw: str
    table: str
    ops: tuple[Part, ...]
    end_to_end: Part | None
    unscored: dict[str, int]


def check_table(table: Table, profile: HardwareProfile, *, held_back: bool = False) -> Check:
    """Score a profile against measurements of single operations.

    With `held_back`, only against the rows that `calibrate` keeps back by default.
    """
    rows: dict[str, list[Scored]] = {}
    unscored: Counter[str] = Counter()
    for group in table.groups:
        reason = why_not(group, profile)
        if reason:
            unscored[f"{group.op}: {reason}"] += len(group)
            continue
        if group.op == "gemm":
            shown = group.of_the_gpu(profile.gpu)
            if not shown.all():
                text = f"{_part(group)}: as short as the host takes to launch kernels"
                unscored[text] += int((~shown).sum())
            group = group.take(shown)  # noqa: PLW2901
        if not len(group):
            continue
        for part in split([unique(group)], seed=0)[1] if held_back else [group]:
            rows.setdefault(_part(group), []).extend(_kernels(part, profile))
    ops = tuple(Part(name=op, rows=tuple(found)) for op, found in rows.items())
    return Check(
        hw=profile.name, table=table.name, ops=ops, end_to_end=None, unscored=dict(unscored)
    )


def check_runs(
    name: str,
    runs: Sequence[Run],
    profile: HardwareProfile,
    *,
    held_back: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Check:
    """Score a profile against whole passes measured in an engine.

    With `held_back`, only against passes of the rank count that runtime fits hold back.
    """
    predicted: dict[Run, SimulatedRun] = {}
    unscored: Counter[str] = Counter()
    for done, run in enumerate(runs):
        if held_back and run.tp != HELD_BACK_TP:
            continue
        try:
            predicted[run] = simulated_pass(run, profile)
        except InputError as error:
            unscored[str(error)] += 1
        if progress:
            progress(done + 1, len(runs))
    serial = {run.case: run for run in predicted if run.strategy == "serial"}
    rows = tuple(_pass(run, serial.get(run.case), predicted) for run in predicted)
    part = Part(name="end_to_end", rows=rows) if rows else None
    return Check(hw=profile.name, table=name, ops=(), end_to_end=part, unscored=dict(unscored))


def _part(rows: Rows) -> str:
    """The part of a check that rows belong to: their operation, and the type of its operands."""
    by_type = rows.op in _BY_TYPE
    return rows.op if rows.operands.usual or not by_type else f"{rows.op}.{rows.dtype}"


def _pass(run: Run, base: Run | None, predicted: dict[Run, SimulatedRun]) -> Scored:
    saving, priced = None, predicted[run]
    if base is not None and base is not run:
        saving = Saving(
            predicted=1.0 - priced.latency / predicted[base].latency,
            measured=1.0 - run.step_s / base.step_s,
            interval=saving_interval(priced, predicted[base]),
        )
    return Scored(
        what=str(run),
        line=run.line,
        predicted_s=priced.latency,
        measured_s=run.step_s,
        groups=(
            ("phase", run.phase),
            ("strategy", run.strategy),
            ("ranks", str(run.tp)),
            ("link", run.link or "default"),
            ("model", run.model),
            ("source", run.source or "unnamed"),
        ),
        interval_s=latency_interval(priced),
        saving=saving,
    )


def _kernels(rows: Rows, profile: HardwareProfile) -> Iterator[Scored]:
    predicted = kernel_seconds(rows, profile)
    wide = (1.0 + _error(rows, profile)) ** Z80
    labels = [*_labels(rows, profile), ("parameters", [_parameters(rows, profile)] * len(rows))]
    for place in range(len(rows)):
        sizes = " ".join(f"{name}={values[place]:g}" for name, values in rows.sizes.items())
        yield Scored(
            what=f"{rows.op} {rows.algorithm or rows.dtype} {sizes}",
            line=int(rows.line[place]),
            predicted_s=float(predicted[place]),
            measured_s=float(rows.latency_s[place]),
            groups=tuple((kind, names[place]) for kind, names in labels),
            interval_s=(float(predicted[place]) / wide, float(predicted[place]) * wide),
        )


def _error(rows: Rows, profile: HardwareProfile) -> float:
    """Relative standard error of the kernels that the rows measured."""
    of_class = CLASS_OF[rows.op]
    found = chosen_set(rows, profile)
    if found is None and rows.op not in STANDS_FOR_CLASS and profile.calibration is not None:
        recorded = profile.calibration.errors.get(rows.op)
        if recorded is not None:
            return standard_error(recorded)
    return profile.class_errors(*([] if found is None else [(of_class, found[1])]))[of_class]


def _parameters(rows: Rows, profile: HardwareProfile) -> str:
    """Path of the parameters that priced the rows, and what they stand in for."""
    found = chosen_set(rows, profile)
    if found is None:
        return f"collectives.algorithms.{rows.algorithm}"
    section, chosen = found
    stands_in = f" for {chosen.stands_in_for}" if chosen.stands_in_for else ""
    return f"{chosen.path(section)}{stands_in}"


def _labels(rows: Rows, profile: HardwareProfile) -> Iterator[tuple[str, list[str]]]:
    """Kinds of groups, and each row's label."""
    sizes = rows.sizes
    if rows.op == "gemm":
        m, n, k = sizes["m"], sizes["n"], sizes["k"]
        width, weight_width = map(bytes_of, rows.operands)
        yield "m", _ranges(m, (16, 128, 1024, 8192))
        yield "operands", _fits(width * (m * k + m * n) + weight_width * k * n, profile.gpu.l2)
        yield "dtype", [rows.dtype] * len(rows)
    elif rows.op == "moe":
        yield "tokens", _ranges(sizes["tokens"], (16, 128, 1024, 8192))
        yield "dtype", [rows.dtype] * len(rows)
        yield "distribution", [rows.key.distribution] * len(rows)
        yield "expert ranks", [f"{ranks:g}" for ranks in sizes["expert_ep"]]
    elif rows.op in ("attention", "mla_attention"):
        yield "dtype", [rows.dtype] * len(rows)
        yield "kind", _kinds(sizes)
        yield "keys", _ranges(sizes["kv_len"], (512, 4096, 32768))
    elif rows.op in ("rms_norm", "quantize"):
        yield "tokens", _ranges(sizes["tokens"], (128, 1024, 8192))
    else:
        yield "algorithm", [rows.algorithm] * len(rows)
        yield "ranks", [f"{ranks:g}" for ranks in sizes["ranks"]]
        yield "bytes", _ranges(sizes["bytes"], (2**16, 2**20, 2**24, 2**28))


def _kinds(sizes: dict[str, Array]) -> list[str]:
    pairs = zip(sizes["q_len"], sizes["kv_len"], strict=True)
    return ["decode" if q == 1 else "prefill" if q == kv else "chunk" for q, kv in pairs]


def _fits(touched: Array, l2: float) -> list[str]:
    return ["within L2" if size <= l2 else "beyond L2" for size in touched]


def _ranges(values: Array, limits: tuple[int, ...]) -> list[str]:
    """The range of each value: `<= 16`, `<= 128`, ..., `> 8192`."""
    labels = [*(f"<= {limit}" for limit in limits), f"> {limits[-1]}"]
    return [labels[place] for place in np.searchsorted(limits, values)]


def _order(key: tuple[str, str]) -> tuple[str, bool, float, str]:
    """Kinds by name; labels by the number in them, the open range last."""
    kind, label = key
    number = label.rsplit(" ", 1)[-1]
    return kind, label.startswith(">"), float(number) if number.isdigit() else 0.0, label


def _score(rows: Iterable[Scored]) -> Score:
    return score(np.array([row.ratio for row in rows]))
