"""What to estimate from the rows of each operation."""

from collections.abc import Callable

from isotune.simulator.machine import HardwareProfile
from isotune.validation.calibrate.fits.attention_fit import attention_sections
from isotune.validation.calibrate.fits.collective_fit import collective_sections
from isotune.validation.calibrate.fits.elementwise_fit import elementwise_sections
from isotune.validation.calibrate.fits.gemm_fit import gemm_sections
from isotune.validation.calibrate.fits.section import Section, SectionReport
from isotune.validation.tables import Rows

SECTIONS: dict[str, Callable[[tuple[Rows, ...], HardwareProfile], list[Section]]] = {
    "gemm": gemm_sections,
    "attention": attention_sections,
    "rms_norm": elementwise_sections,
    "all_reduce": collective_sections,
}
"""What estimates the sections of a profile from the rows of an operation, in the order of fits."""

__all__ = ["SECTIONS", "Section", "SectionReport"]
