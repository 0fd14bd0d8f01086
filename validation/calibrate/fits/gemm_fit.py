"""GEMM rows: every parameter but the cost of unpacking narrow weights, which they never show."""

from isotune.simulator.kernels import GemmParameters, Operands
from isotune.simulator.machine import HardwareProfile
from isotune.validation.calibrate.fits.section import Section, paths_of
from isotune.validation.tables import Rows

_NOT_FITTED = ("dequantisation", "sets")
_FITTED = tuple(name for name in GemmParameters.model_fields if name not in _NOT_FITTED)


def gemm_sections(groups: tuple[Rows, ...], base: HardwareProfile) -> list[Section]:
    """The parameters of `gemm`: the default set's, and one set for each other number type."""
    by_type: dict[str | None, tuple[Rows, ...]] = {}
    for rows in groups:
        dtype = None if Operands.of(rows.dtype).usual else rows.dtype
        by_type[dtype] = (*by_type.get(dtype, ()), rows)
    paths = paths_of("gemm", _FITTED)
    return [
        Section(key="gemm", groups=by_type[dtype], paths=paths, variants=(base,), dtype=dtype)
        for dtype in sorted(by_type, key=lambda name: name or "")
    ]
