"""Norm rows: launch, bandwidth and what L2 adds."""

from isotune.simulator.kernels import ElementwiseParameters
from isotune.simulator.machine import HardwareProfile
from isotune.validation.calibrate.fits.section import Section, paths_of
from isotune.validation.tables import Rows


def elementwise_sections(groups: tuple[Rows, ...], _base: HardwareProfile) -> list[Section]:
    """The parameters of `elementwise`."""
    paths = paths_of(
        "elementwise", tuple(name for name in ElementwiseParameters.model_fields if name != "sets")
    )
    return [Section(key="elementwise", groups=groups, paths=paths)]
