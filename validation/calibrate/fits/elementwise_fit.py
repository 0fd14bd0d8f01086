"""Norm and quantise rows: launch, bandwidth and what L2 adds."""

from isotune.simulator.kernels import ElementwiseParameters
from isotune.simulator.machine import HardwareProfile
from isotune.validation.calibrate.fits.section import Section, by_type, paths_of
from isotune.validation.tables import Rows

_PATHS = paths_of(
    "elementwise", tuple(name for name in ElementwiseParameters.model_fields if name != "sets")
)


def elementwise_sections(groups: tuple[Rows, ...], _base: HardwareProfile) -> list[Section]:
    """The parameters of `elementwise`."""
    return [Section(key="elementwise", groups=groups, paths=_PATHS)]


def quantise_sections(groups: tuple[Rows, ...], _base: HardwareProfile) -> list[Section]:
    """A set of `elementwise` for each type that activations are quantised to."""
    return [
        Section(key="elementwise", groups=of_type, paths=_PATHS, set_name=name)
        for name, of_type in by_type(groups)
        if name is not None
    ]
