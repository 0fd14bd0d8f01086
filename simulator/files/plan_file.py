"""`plan.yaml`: a plan with the scenario it was made for, and what was predicted for it."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import yaml
from pydantic import Field

from isotune.simulator.architecture import Model, load_model, split_name
from isotune.simulator.errors import InputError
from isotune.simulator.io import Schema, checked, read_yaml, validate, write_text
from isotune.simulator.machine import read_profile
from isotune.simulator.predict import Prediction, Scenario
from isotune.simulator.schedule import Plan, Workload


class ModelReference(Schema):
    """Which model, and the sizes by which another one is told apart."""

    name: str = Field(min_length=1, description="bundled name, or path of a folder or config.json")
    num_hidden_layers: int
    hidden_size: int
    parameters: int

    @classmethod
    def of(cls, model: Model, name: str) -> Self:
        """The reference to a model that was asked for as `name`."""
        return cls(
            name=name,
            num_hidden_layers=model.num_hidden_layers,
            hidden_size=model.hidden_size,
            parameters=model.parameters,
        )

    def __str__(self) -> str:
        return (
            f"{self.name} ({self.num_hidden_layers} blocks, hidden size {self.hidden_size}, "
            f"{self.parameters / 1e9:.2f} B parameters)"
        )


class Predicted(Schema):
    """What was predicted when the plan was written, in seconds."""

    latency_s: float = Field(gt=0)
    serial_latency_s: float = Field(gt=0)


class PlanFile(Schema):
    """The content of `plan.yaml`."""

    version: Literal[1] = 1
    hardware: str = Field(min_length=1, description="bundled name, or path of a profile")
    model: ModelReference
    workload: Workload
    plan: Plan
    treatments: dict[int, str] = Field(
        default_factory=dict,
        description="how each dropped block is repaired: recovery steps such as bias+distil",
    )
    predicted: Predicted | None = None

    @classmethod
    def of(
        cls,
        prediction: Prediction,
        hardware: str,
        model: str,
        *,
        treatments: Mapping[int, str] | None = None,
    ) -> Self:
        """The file of a prediction; `hardware` and `model` are the names it was asked with."""
        return cls(
            hardware=hardware,
            model=ModelReference.of(prediction.scenario.model, model),
            workload=prediction.scenario.workload,
            plan=prediction.plan,
            treatments=dict(treatments or {}),
            predicted=Predicted(
                latency_s=prediction.latency_s, serial_latency_s=prediction.serial_latency_s
            ),
        )

    def write(self, path: Path) -> None:
        """Write the file whole or not at all.

        Raises:
            InputError: it cannot be written there.
        """
        data = self.model_dump(mode="json", exclude=None if self.treatments else {"treatments"})
        text = yaml.safe_dump(data, sort_keys=False, default_flow_style=None)
        write_text(path, text)


def read_plan(path: Path) -> PlanFile:
    """The plan in a file.

    Raises:
        InputError: unreadable or malformed file, or a field of the wrong type or range.
    """
    return validate(PlanFile, read_yaml(path), path)


class MadeFor(Protocol):
    """A file that says what it was made for: a plan or a policy."""

    @property
    def hardware(self) -> str:
        """Bundled name, or path of a profile."""

    @property
    def model(self) -> ModelReference:
        """Which model."""

    @property
    def workload(self) -> Workload:
        """What was asked of it."""


def scenario_of(
    file: MadeFor,
    folder: Path,
    *,
    hardware: str | None = None,
    model: str | None = None,
    workload: dict[str, Any] | None = None,
) -> Scenario:
    """The scenario a plan was made for, or one that differs from it as asked.

    Paths in the file are looked up from the working directory, then from the file's `folder`.

    Raises:
        InputError: the hardware or model cannot be read, the plan is for another model, or a
            field of `workload` has the wrong type or range.
    """
    shape = load_model(model or locate(file.model.name, folder))
    wanted = file.model
    here = ModelReference.of(shape, shape.name)
    if here.model_copy(update={"name": wanted.name}) != wanted:
        raise InputError(f"the plan is for {wanted}, not for {here}")
    return Scenario(
        model=shape,
        hardware=read_profile(hardware or locate(file.hardware, folder)),
        workload=_changed(file.workload, workload or {}),
    )


def _changed(workload: Workload, changes: dict[str, Any]) -> Workload:
    """The workload with other fields.

    Groups of sequences replace the batch that it has; another engine launches kernels its own way.
    """
    replaced = {"phase", "batch", "prompt"} if "sequences" in changes else set()
    if "engine" in changes:
        replaced = replaced | {"runtime"}
    return checked(Workload, workload.model_dump(exclude=replaced) | changes, "workload")


def locate(name: str, folder: Path) -> str:
    """A name or path in a plan file: as it is, or beside the file where only that exists."""
    # Unlike Path.exists this is false, not an OSError, for an overlong name.
    path, read_as = split_name(name)
    beside = folder / path
    found = os.path.exists(path) or not os.path.exists(beside)  # noqa: PTH110
    return name if found else f"{beside} as {read_as}" if read_as else str(beside)
