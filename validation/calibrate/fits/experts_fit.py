"""Rows of routed experts: every parameter, and one set for each other number type."""

from isotune.simulator.kernels import ExpertsParameters
from isotune.simulator.machine import HardwareProfile
from isotune.validation.calibrate.fits.section import Section, by_type, paths_of
from isotune.validation.tables import Rows

_FITTED = tuple(name for name in ExpertsParameters.model_fields if name not in ("sets", "error"))

START = ExpertsParameters(
    launch=30e-6,
    per_assignment=1e-10,
    tensor_efficiency=0.5,
    sm_feed=300e9,
    step=50e-9,
    tile=1e-6,
    quantisation=0.5,
    memory_efficiency=0.8,
    memory_latency=2e-6,
    row_efficiency=0.7,
    foreign_rows=0.3,
    misaligned=1.5,
    sharpness=3.0,
)
"""Where a fit starts on a machine that has none: round figures of no machine."""

_OTHER_KERNELS = {f"experts.{name}": getattr(START, name) for name in _FITTED}
"""Where the fit of a type starts too: its kernels may have little in common with bf16's."""


def experts_sections(groups: tuple[Rows, ...], _base: HardwareProfile) -> list[Section]:
    """The parameters of `experts`: the default set's, and one set for each other number type."""
    return [
        Section(
            key="experts",
            groups=of_type,
            paths=paths_of("experts", _FITTED),
            choices=({},) if name is None else ({}, _OTHER_KERNELS),
            set_name=name,
        )
        for name, of_type in by_type(groups)
    ]
