"""A scenario: this model, on this machine, asked for this."""

from collections.abc import Hashable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Self

from isotune.simulator.architecture import Model, check_tp
from isotune.simulator.errors import InputError
from isotune.simulator.machine import HardwareProfile
from isotune.simulator.schedule import Workload, sm_budgets


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

    @cached_property
    def remembered(self) -> dict[Hashable, Any]:
        """What others computed of the scenario and ask again; forgotten with it."""
        return {}

    def __getstate__(self) -> dict[str, Any]:
        """Without what is remembered: a copy in another process computes it anew."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def sm_budgets(self) -> tuple[int | None, ...]:
        """SM budgets of a collective worth telling apart; None is the library's choice."""
        return sm_budgets(max(one.sms for one in self.hardware.collectives.chain()))

    def with_workload(self, **changes: Any) -> Self:
        """The same with another prompt, batch, tp, ...

        Raises:
            InputError: a `tp` that the machine or the model does not allow.
        """
        return replace(self, workload=self.workload.model_copy(update=changes))

    def with_model(self, **changes: Any) -> Self:
        """The same with another number of blocks, ..."""
        return replace(self, model=replace(self.model, **changes))

    def with_hardware(self, **changes: Any) -> Self:
        """The same with another GPU, link, ..."""
        return replace(self, hardware=self.hardware.model_copy(update=changes))
