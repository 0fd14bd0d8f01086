"""GEMM rows: every parameter but the cost of unpacking narrow weights, which they never show."""

from isotune.simulator.kernels import GemmParameters
from isotune.simulator.machine import HardwareProfile
from isotune.validation.calibrate.fits.section import Section, paths_of
from isotune.validation.tables import Rows

_FITTED = tuple(name for name in GemmParameters.model_fields if name != "dequantisation")


def gemm_section(groups: tuple[Rows, ...], base: HardwareProfile) -> Section:
    """The parameters of `gemm`."""
    paths = paths_of("gemm", _FITTED)
    return Section(key="gemm", groups=groups, paths=paths, variants=(base,))
