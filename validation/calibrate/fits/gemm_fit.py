"""GEMM rows: every parameter but the cost of unpacking narrow weights, which they never show."""

from collections.abc import Mapping
from typing import Any

from isotune.simulator.kernels import GemmParameters, Tile
from isotune.simulator.machine import HardwareProfile
from isotune.simulator.number_types import number_type
from isotune.validation.calibrate.fits.section import Section, by_type, paths_of
from isotune.validation.tables import Rows

_FITTED = (
    *("launch", "tensor_efficiency", "sm_feed", "quantisation", "prologue", "epilogue", "step"),
    *("split_k", "memory_efficiency", "memory_latency"),
    *("l2_bandwidth", "l2_residency", "l2_reuse", "block", "sharpness"),
)
_OF_A_TYPE = tuple(name for name in _FITTED if not name.startswith("l2_"))
"""What a number type's own kernels may differ in; L2 is the chip's, so the default set's."""
_QUANTISE = {"quantise_bytes": 4.0, "quantise_row": 2e-9}
"""Where the fit of a quantise kernel starts: 16 bits read and 8 written, some of it twice."""
_LEFT_OUT = "those that show host launches left out; launch assumed: two of the default set's"
_TILES: tuple[tuple[tuple[int, int, int], ...], ...] = (
    (),
    ((128, 128, 0),),
    ((64, 64, 0), (64, 128, 64), (128, 128, 128)),
    ((64, 64, 0), (64, 128, 64), (128, 128, 128), (256, 128, 256)),
    ((16, 128, 0), (32, 128, 16), (64, 128, 32), (128, 128, 64)),
    ((64, 128, 0), (128, 128, 64), (128, 256, 256)),
)
"""Tiles by m that are tried (rows, columns, above m); the third is CUTLASS' in vLLM for Hopper."""


def gemm_sections(groups: tuple[Rows, ...], base: HardwareProfile) -> list[Section]:
    """The parameters of `gemm`: the default set's, and one set for each other number type."""
    sections = []
    for name, of_type in by_type(groups):
        shown = tuple(rows.take(rows.of_the_gpu(base.gpu)) for rows in of_type)
        launched = sum(map(len, shown)) == sum(map(len, of_type))
        sections.append(
            Section(
                key="gemm",
                groups=shown,
                paths=paths_of("gemm", _paths(of_type, launched=launched)),
                choices=_choices(of_type, base, launched=launched),
                set_name=name,
                left_out="" if launched else _LEFT_OUT,
            )
        )
    return sections


def _quantises(groups: tuple[Rows, ...]) -> bool:
    return number_type(groups[0].operands.dtype).quantises_activations


def _paths(groups: tuple[Rows, ...], *, launched: bool) -> tuple[str, ...]:
    if groups[0].operands.usual:
        return _FITTED
    fitted = _OF_A_TYPE if launched else _OF_A_TYPE[1:]
    return (*fitted, *_QUANTISE) if _quantises(groups) else fitted


def _choices(
    groups: tuple[Rows, ...], base: HardwareProfile, *, launched: bool
) -> tuple[Mapping[str, Any], ...]:
    """The base's own tiles; for other types those that libraries of the field have."""
    if groups[0].operands.usual:
        return ({},)
    launch = {} if launched else {"gemm.launch": 2 * base.gemm.launch}
    start: dict[str, Any] = dict(launch)
    if _quantises(groups):
        start |= {f"gemm.{name}": value for name, value in _QUANTISE.items()}
    tables = [tuple(Tile(rows=m, columns=n, above=a) for m, n, a in table) for table in _TILES]
    tried = (
        start | {"gemm.tiles": tiles, "gemm.most_splits": splits}
        for tiles in tables
        for splits in (GemmParameters.model_fields["most_splits"].default, 1)
    )
    return (launch, *tried)
