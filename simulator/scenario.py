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
        InputError: more ranks than the node has GPUs, or heads that do not divide by `tp`.
    """

    model: Model
    hardware: HardwareProfile
    workload: Workload

    def __post_init__(self) -> None:
        tp, gpus = self.workload.tp, self.hardware.node.gpus
        if tp > gpus:
            raise InputError(
                f"tp: {self.hardware.name} has {gpus} GPUs, not {tp} (allowed: 1 to {gpus})"
            )
        check_tp(self.model, tp)
