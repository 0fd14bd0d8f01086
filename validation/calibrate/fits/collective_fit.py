"""All-reduce rows: the line of every protocol of the algorithm they were measured with."""

import numpy as np

from isotune.simulator.kernels import Array
from isotune.simulator.machine import HardwareProfile
from isotune.validation.calibrate.fits.section import Section, paths_of
from isotune.validation.tables import Rows

_LINE = ("latency", "latency_per_rank", "bandwidth", "bandwidth_many")
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


def _paths(base: HardwareProfile, name: str) -> tuple[str, ...]:
    paths: tuple[str, ...] = ()
    for index, protocol in enumerate(base.collectives.algorithms[name].protocols):
        prefix = f"collectives.algorithms.{name}.protocols.{index}"
        # A switch adds up for all ranks at once: its line does not depend on their number.
        line = ("latency", "bandwidth") if protocol.pattern == "switch" else _LINE
        paths += paths_of(prefix, line)
    return paths


def _by_rank_count(rows: Rows) -> Array:
    """Every rank count weighs the same, however many rows it has."""
    ranks = rows.sizes["ranks"]
    counts, place, size = np.unique(ranks, return_inverse=True, return_counts=True)
    even = len(ranks) / (len(counts) * size[place.reshape(-1)])
    return np.sqrt(even) * (_INT8_WEIGHT if rows.dtype == "int8" else 1.0)
