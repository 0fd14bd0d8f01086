"""Robust estimation of a parameter set: what the rows determine moves, the rest stays.

The estimate minimises, over the logarithms z of the parameters,

    sum_i rho(w_i ln(predicted_i / measured_i) / MISFIT) + sum_j rho((z_j - base_j) / PRIOR)

with rho the soft L1 loss. `MISFIT` is how far a good model of this kind is off a row, `PRIOR` how
far a parameter of a related machine may lie. A parameter counts as determined if the rows shrink
its variance to below half the prior's (both in the linearised problem); the others are put back
to their base values and the rest is estimated again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from scipy.optimize import least_squares

from isotune.simulator.kernels import Array

MISFIT = 0.06
PRIOR = 0.35
DETERMINED = 0.5
"""Share of the prior variance that the rows must remove."""

_STEP = 2e-3
_DIGITS = 3
Model = TypeVar("Model", bound=BaseModel)
Predict = Callable[[Model], Array]


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One estimated number: its dotted path, values in SI, and what the rows say about it.

    `information` is the share of the prior variance that the rows remove, 0 to 1.
    """

    path: str
    base: float
    value: float
    information: float
    low: float
    high: float

    @property
    def determined(self) -> bool:
        """Whether the rows, and not the base, set the value."""
        return self.information >= DETERMINED

    @property
    def at_limit(self) -> bool:
        """Whether the value sits at an end of its plausible range."""
        span = 1.002
        return self.value <= self.low * span or self.value >= self.high / span


class _Axes:
    """Map between parameter values and the unbounded-looking coordinates z.

    z = ln(x + offset): the offset is zero unless the range starts at zero, so that such a
    parameter can be (nearly) nothing.
    """

    def __init__(self, model: BaseModel, paths: Sequence[str]) -> None:
        base = np.array([get(model, path) for path in paths], dtype=float)
        limits = [limits_of(model, path) for path in paths]
        self.low = np.array(
            [
                max(low, x / 100) if low >= 0 and not zero else low
                for (low, _, zero), x in zip(limits, base, strict=True)
            ]
        )
        self.high = np.array([high for _, high, _ in limits])
        self.offset = np.array([high / 50 if zero else 0.0 for _, high, zero in limits])
        self.base = np.clip(base, self.low, self.high)

    def to(self, values: Array) -> Array:
        return np.asarray(np.log(values + self.offset))

    def back(self, z: Array) -> Array:
        return np.asarray(np.clip(np.exp(z) - self.offset, self.low, self.high))


def estimate(
    base: Model,
    paths: Sequence[str],
    predict: "Predict[Model]",
    measured: Array,
    weights: Array,
) -> tuple[Model, list[Parameter], float]:
    """`base` with the numbers at `paths` estimated from rows; deterministic.

    Args:
        base: the parameter set to start from, and to stay at where the rows say nothing.
        paths: dotted paths of its float fields.
        predict: latency of every row for a parameter set, in seconds.
        measured: latencies, seconds, shape (rows,).
        weights: weight of each row, shape (rows,).

    Returns:
        The new set, what became of each parameter, and the cost (half the sum of rho).
    """
    chosen, values, shares = list(paths), dict[str, float](), dict[str, float]()
    while True:
        z, information, cost = _solve(base, chosen, predict, measured, weights)
        shares |= dict(zip(chosen, 1.0 - np.diag(_covariance(information)), strict=True))
        kept = [path for path, keep in zip(chosen, _determined(information), strict=True) if keep]
        if not kept:
            break
        if kept == chosen:
            axes = _Axes(base, chosen)
            found = zip(chosen, axes.back(z), axes.low, axes.high, strict=True)
            values = {path: _rounded(x, low, high) for path, x, low, high in found}
            break
        chosen = kept
    report = [_parameter(base, path, values, shares[path]) for path in paths]
    return put(base, values), report, cost


def _parameter(
    base: BaseModel, path: str, values: dict[str, float], information: float
) -> Parameter:
    low, high, _ = limits_of(base, path)
    start = float(get(base, path))
    if path not in values:
        information = min(information, DETERMINED - 1e-9)
    return Parameter(
        path=path,
        base=start,
        value=values.get(path, start),
        information=float(np.clip(information, 0.0, 1.0)),
        low=low,
        high=high,
    )


def _solve(
    base: Model, paths: list[str], predict: "Predict[Model]", measured: Array, weights: Array
) -> tuple[Array, Array, float]:
    """Coordinates of the optimum, J^T J of the rows there in prior units, and the cost."""
    axes = _Axes(base, paths)
    start = axes.to(axes.base)
    low, high = axes.to(axes.low) - 1e-9, axes.to(axes.high) + 1e-9
    target = np.log(measured)

    def rows(z: Array) -> Array:
        model = put(base, dict(zip(paths, axes.back(z).tolist(), strict=True)))
        return np.asarray(weights * (np.log(predict(model)) - target) / MISFIT)

    def residuals(z: Array) -> Array:
        return np.concatenate([rows(z), (z - start) / PRIOR])

    def jacobian(z: Array) -> Array:
        at = rows(z)
        columns = []
        for j in range(z.size):
            step = _STEP if z[j] + _STEP < high[j] else -_STEP
            moved = z.copy()
            moved[j] += step
            columns.append((rows(moved) - at) / step)
        return np.concatenate([np.stack(columns, axis=1), np.eye(z.size) / PRIOR])

    found = least_squares(
        residuals, start, jacobian, bounds=(low, high), loss="soft_l1", max_nfev=80
    )
    of_rows = jacobian(found.x)[: measured.size] * PRIOR
    return found.x, of_rows.T @ of_rows, float(found.cost)


def _covariance(information: Array) -> Array:
    """Posterior covariance in units of the prior's: the prior's is the identity."""
    return np.asarray(np.linalg.inv(information + np.eye(len(information))))


def _determined(information: Array) -> list[bool]:
    """Drop the least determined parameter until every remaining one is determined.

    One at a time, because of two parameters that only their sum determines one must stay.
    """
    kept = list(range(len(information)))
    while kept:
        left = np.diag(_covariance(information[np.ix_(kept, kept)]))
        worst = int(np.argmax(left))
        if left[worst] <= 1.0 - DETERMINED:
            break
        del kept[worst]
    return [j in kept for j in range(len(information))]


def _rounded(value: float, low: float, high: float) -> float:
    """Three significant digits, inside the range."""
    text = float(f"{value:.{_DIGITS}g}")
    return float(min(max(text, low), high))


def limits_of(model: BaseModel, path: str) -> tuple[float, float, bool]:
    """Smallest and largest value of the field at a dotted path; whether zero is allowed."""
    group, _, name = path.rpartition(".")
    owner = get(model, group) if group else model
    low, high, zero = 0.0, np.inf, False
    for rule in type(owner).model_fields[name].metadata:
        if isinstance(rule, Ge | Gt):
            low = float(rule.ge if isinstance(rule, Ge) else rule.gt)  # type: ignore[arg-type]
            zero = isinstance(rule, Ge) and low == 0
        if isinstance(rule, Le | Lt):
            high = float(rule.le if isinstance(rule, Le) else rule.lt)  # type: ignore[arg-type]
        if isinstance(rule, Gt) and low > 0:
            low *= 1 + 1e-6
    return low, high, zero


def get(model: Any, path: str) -> Any:
    """The value at a dotted path of fields, keys of mappings and places of tuples."""
    for part in path.split("."):
        if isinstance(model, dict):
            model = model[part]
        elif isinstance(model, tuple | list):
            model = model[int(part)]
        else:
            model = getattr(model, part)
    return model


def figure_at(profile: Any, path: str) -> Any:
    """The figure in use at a path; what a set of kernel parameters leaves out is the default's."""
    try:
        return get(profile, path)
    except (KeyError, AttributeError):
        section, _, rest = path.partition(".sets.")
        return get(profile, f"{section}.{rest.partition('.')[2]}")


def put(model: Any, values: dict[str, float]) -> Any:
    """A copy with the values at dotted paths replaced; not validated, for speed."""
    below: dict[str, dict[str, float]] = {}
    changed: dict[str, Any] = {}
    for path, value in values.items():
        head, _, rest = path.partition(".")
        if rest:
            below.setdefault(head, {})[rest] = value
        else:
            changed[head] = value
    changed |= {head: put(get(model, head), inner) for head, inner in below.items()}
    if isinstance(model, dict):
        return model | changed
    if isinstance(model, tuple):
        return tuple(changed.get(str(i), item) for i, item in enumerate(model))
    return model.model_copy(update=changed)
