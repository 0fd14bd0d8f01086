"""Which algorithm carries each all-reduce of a scenario, as its engine chooses.

A carrier is a gate of the engine that this machine and this number of ranks leave, with the
machine's figures of the algorithm. They are asked in order; the last one, the library, takes all.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from isotune.simulator.engines import (
    ALGORITHMS,
    LIBRARY,
    Engine,
    Lines,
    Site,
    lines_of,
)
from isotune.simulator.kernels import Array
from isotune.simulator.machine import HardwareProfile

Taken = npt.NDArray[np.bool_]


class Carrier(NamedTuple):
    """An algorithm, the messages that it takes, and its figures on the machine."""

    name: str
    lines: Lines
    largest: float = np.inf
    fewest_tokens: int = 0
    most_tokens: float = np.inf
    source: str = ""

    @property
    def is_library(self) -> bool:
        """Whether it is what carries a message that no gate takes."""
        return self.name == LIBRARY

    @property
    def norm(self) -> bool:
        """Whether the residual and the next norm are in its kernel."""
        parameters = self.lines.parameters
        fused = parameters.algorithms[parameters.default].norm or self.lines.seconds_per_byte > 0
        return fused and not self.is_library

    @property
    def label(self) -> str:
        """What people call it; the library by the name that the profile has for it."""
        return self.lines.parameters.default if self.is_library else ALGORITHMS[self.name].label

    def takes(self, message_bytes: Array, tokens: Array) -> Taken:
        """Which messages [of any shape] it carries if they come to it."""
        return np.asarray(
            (message_bytes <= self.largest)
            & (tokens >= self.fewest_tokens)
            & (tokens <= self.most_tokens)
        )


def site_of(hardware: HardwareProfile) -> Site:
    """What an engine asks of a machine."""
    return Site(
        machine=hardware.name,
        architecture=hardware.gpu.architecture,
        memory=hardware.gpu.memory,
        link=hardware.node.link,
        peer_to_peer=hardware.node.peer_to_peer,
        gpus=hardware.node.gpus,
    )


def carriers_of(engine: Engine, hardware: HardwareProfile, ranks: int) -> tuple[Carrier, ...]:
    """The carriers in the order in which a message comes to them.

    Raises:
        InputError: a gate depends on an architecture that the profile does not name.
    """
    gates = engine.gates(site_of(hardware), ranks)
    chosen = [
        Carrier(
            gate.algorithm,
            _lines(gate.algorithm, hardware),
            gate.largest.get(ranks, np.inf),
            gate.fewest_tokens,
            np.inf if gate.most_tokens is None else gate.most_tokens,
            gate.source,
        )
        for gate in gates
    ]
    return (*chosen, Carrier(LIBRARY, _lines(LIBRARY, hardware)))


def _lines(algorithm: str, hardware: HardwareProfile) -> Lines:
    return lines_of(
        algorithm,
        hardware.collectives,
        hardware.node.link_bandwidth,
        hardware.gpu.memory_bandwidth,
    )
