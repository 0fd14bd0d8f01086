"""GEMM rows: every parameter but the cost of unpacking narrow weights, which they never show."""

from isotune.simulator.kernels import GemmParameters
from isotune.simulator.machine import HardwareProfile
from isotune.validation.calibrate.fits.section import Section, by_type, paths_of
from isotune.validation.tables import Rows

_NOT_FITTED = ("dequantisation", "sets")
_FITTED = tuple(name for name in GemmParameters.model_fields if name not in _NOT_FITTED)
_OF_A_TYPE = tuple(name for name in _FITTED if not name.startswith("l2_"))
"""What a number type's own kernels may differ in; L2 is the chip's, so the default set's."""
_FEWEST = {"fp8_block": 256}
"""Types whose rows of fewer activations contain launches of a kernel outside a graph."""


def gemm_sections(groups: tuple[Rows, ...], _base: HardwareProfile) -> list[Section]:
    """The parameters of `gemm`: the default set's, and one set for each other number type."""
    return [
        Section(
            key="gemm",
            groups=tuple(_launched_once(rows) for rows in of_type),
            paths=paths_of("gemm", _OF_A_TYPE if name else _FITTED),
            set_name=name,
            left_out=f"those of m < {_FEWEST[name]}" if name in _FEWEST else "",
        )
        for name, of_type in by_type(groups)
    ]


def _launched_once(rows: Rows) -> Rows:
    fewest = _FEWEST.get(rows.dtype)
    return rows if fewest is None else rows.take(rows.sizes["m"] >= fewest)
