"""GEMM rows: every parameter but the cost of unpacking narrow weights, which they never show."""

from isotune.simulator.kernels import GemmParameters, Operands
from isotune.simulator.machine import HardwareProfile
from isotune.validation.calibrate.fits.section import Section, paths_of
from isotune.validation.tables import Rows

_NOT_FITTED = ("dequantisation", "sets")
_FITTED = tuple(name for name in GemmParameters.model_fields if name not in _NOT_FITTED)
_OF_A_TYPE = tuple(name for name in _FITTED if not name.startswith("l2_"))
"""What a number type's own kernels may differ in; L2 is the chip's, so the default set's."""


def gemm_sections(groups: tuple[Rows, ...], base: HardwareProfile) -> list[Section]:
    """The parameters of `gemm`: the default set's, and one set for each other number type."""
    by_type: dict[str | None, tuple[Rows, ...]] = {}
    for rows in groups:
        dtype = None if Operands.of(rows.dtype).usual else rows.dtype
        by_type[dtype] = (*by_type.get(dtype, ()), rows)
    return [
        Section(
            key="gemm",
            groups=by_type[dtype],
            paths=paths_of("gemm", _OF_A_TYPE if dtype else _FITTED),
            variants=(base,),
            dtype=dtype,
        )
        for dtype in sorted(by_type, key=lambda name: name or "")
    ]
