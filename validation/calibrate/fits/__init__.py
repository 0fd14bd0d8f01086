"""What to estimate from the rows of each operation."""

from collections.abc import Callable, Collection

from isotune.simulator.kernels import analytic_latent
from isotune.simulator.machine import HardwareProfile
from isotune.validation.calibrate.fits.attention_fit import attention_sections
from isotune.validation.calibrate.fits.collective_fit import (
    OTHER_KINDS,
    collective_sections,
    kind_sections,
    with_kinds,
)
from isotune.validation.calibrate.fits.elementwise_fit import (
    elementwise_sections,
    quantise_sections,
)
from isotune.validation.calibrate.fits.experts_fit import START, experts_sections
from isotune.validation.calibrate.fits.gemm_fit import gemm_sections
from isotune.validation.calibrate.fits.latent_fit import latent_sections
from isotune.validation.calibrate.fits.section import Section, SectionReport
from isotune.validation.tables import Rows

SECTIONS: dict[str, Callable[[tuple[Rows, ...], HardwareProfile], list[Section]]] = {
    "gemm": gemm_sections,
    "attention": attention_sections,
    "mla_attention": latent_sections,
    "moe": experts_sections,
    "rms_norm": elementwise_sections,
    "quantize": quantise_sections,
    "all_reduce": collective_sections,
    **dict.fromkeys(OTHER_KINDS, kind_sections),
}
"""What estimates the sections of a profile from the rows of an operation, in the order of fits."""


def seeded(base: HardwareProfile, measured: Collection[tuple[str, str]]) -> HardwareProfile:
    """The base with a start for sections it lacks and rows measure.

    `measured` are operations, of collectives with their algorithm.
    """
    ops = {op for op, _ in measured}
    start: dict[str, object] = {}
    collectives = with_kinds(base.collectives, measured)
    if collectives != base.collectives:
        start["collectives"] = collectives
    if "mla_attention" in ops and base.latent_attention is None:
        start["latent_attention"] = analytic_latent(base.attention)
    if "moe" in ops and base.experts is None:
        start["experts"] = START
    return base.model_copy(update=start) if start else base


__all__ = ["SECTIONS", "Section", "SectionReport", "seeded"]
