"""A scenario: this model, on this machine, asked for this."""

from dataclasses import dataclass

from simulator.errors import InputError
from simulator.hardware import HardwareProfile
from simulator.model import Model, check_tp
from simulator.workload import Workload


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """Model, hardware and workload, checked against each other.

    Raises:
        InputError: more ranks than the machine has GPUs, nodes filled in part, or heads that do
            not divide by `tp`.
    """

    model: Model
    hardware: HardwareProfile
    workload: Workload

    def __post_init__(self) -> None:
        tp, gpus, most = self.workload.tp, self.hardware.node.gpus, self.hardware.max_ranks
        if tp > most:
            raise InputError(
                f"tp: {self.hardware.name} has {most} GPUs, not {tp} (allowed: 1 to {most})"
            )
        if tp > gpus and tp % gpus:
            raise InputError(
                f"tp: {tp} does not fill nodes of {gpus} GPUs "
                f"(allowed: 1 to {gpus}, or whole nodes)"
            )
        check_tp(self.model, tp)
