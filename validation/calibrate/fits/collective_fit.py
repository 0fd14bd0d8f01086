"""Rows of collectives: the line of every protocol of the algorithm they were measured with."""

from collections.abc import Collection

import numpy as np

from isotune.simulator.kernels import KINDS, Array, CollectiveParameters, Protocol
from isotune.simulator.machine import HardwareProfile
from isotune.validation.calibrate.fits.section import Section, paths_of
from isotune.validation.tables import Rows

_LINE = ("latency", "latency_per_rank", "bandwidth", "bandwidth_many")
OTHER_KINDS = tuple(kind for kind in KINDS if kind != "all_reduce")
"""Collectives whose lines are below those of an algorithm's all-reduce."""
_INT8_WEIGHT = 0.35
"""int8 rows show the ring where 16-bit types take the switch; serving sends 16 bits."""


def collective_sections(groups: tuple[Rows, ...], base: HardwareProfile) -> list[Section]:
    """One section for each algorithm that the base profile knows and the rows measured."""
    known = base.collectives.algorithms
    return [
        Section(
            key=f"collectives.algorithms.{name}.protocols",
            groups=tuple(rows for rows in groups if rows.algorithm == name),
            paths=_paths(base, name),
            weights=_by_rank_count,
        )
        for name in known
        if any(rows.algorithm == name for rows in groups)
    ]


def kind_sections(groups: tuple[Rows, ...], base: HardwareProfile) -> list[Section]:
    """The lines of a collective other than the all-reduce, by the algorithms that rows measured."""
    kind = groups[0].op
    return [
        Section(
            key=f"collectives.algorithms.{name}.kinds.{kind}",
            groups=tuple(rows for rows in groups if rows.algorithm == name),
            paths=_lines_of(f"collectives.algorithms.{name}.kinds.{kind}", own.lines(kind)),
            weights=_by_rank_count,
        )
        for name, own in base.collectives.algorithms.items()
        if any(rows.algorithm == name for rows in groups)
    ]


def with_kinds(
    collectives: CollectiveParameters, measured: Collection[tuple[str, str]]
) -> CollectiveParameters:
    """With a start for the lines of kinds that rows measure: the rings of the all-reduce."""
    algorithms = dict(collectives.algorithms)
    for kind, name in sorted(measured):
        if kind in OTHER_KINDS and name in algorithms and kind not in algorithms[name].kinds:
            own = algorithms[name]
            rings = tuple(line for line in own.protocols if line.pattern == "ring")
            algorithms[name] = own.model_copy(update={"kinds": own.kinds | {kind: rings}})
    return collectives.model_copy(update={"algorithms": algorithms})


def _paths(base: HardwareProfile, name: str) -> tuple[str, ...]:
    prefix = f"collectives.algorithms.{name}.protocols"
    return _lines_of(prefix, base.collectives.algorithms[name].protocols)


def _lines_of(section: str, protocols: tuple[Protocol, ...]) -> tuple[str, ...]:
    paths: tuple[str, ...] = ()
    for index, protocol in enumerate(protocols):
        prefix = f"{section}.{index}"
        # A switch adds up for all ranks at once: its line does not depend on their number.
        line = ("latency", "bandwidth") if protocol.pattern == "switch" else _LINE
        paths += paths_of(prefix, line)
    return paths


def _by_rank_count(rows: Rows) -> Array:
    """Every rank count weighs the same, however many rows it has."""
    ranks = rows.sizes["ranks"]
    counts, place, size = np.unique(ranks, return_inverse=True, return_counts=True)
    even = len(ranks) / (len(counts) * size[place.reshape(-1)])
    narrow = rows.dtype == "int8" and rows.op == "all_reduce"
    return np.sqrt(even) * (_INT8_WEIGHT if narrow else 1.0)
