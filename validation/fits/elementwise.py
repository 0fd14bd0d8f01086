"""Norm rows: launch, bandwidth and what L2 adds."""

from simulator.elementwise import ElementwiseParameters
from simulator.hardware import HardwareProfile
from validation.fits.section import Section, paths_of
from validation.table import Rows


def elementwise_section(groups: tuple[Rows, ...], base: HardwareProfile) -> Section:
    """The parameters of `elementwise`."""
    paths = paths_of("elementwise", tuple(ElementwiseParameters.model_fields))
    return Section(key="elementwise", groups=groups, paths=paths, variants=(base,))
