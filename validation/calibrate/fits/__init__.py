"""What to estimate from the rows of each operation."""

from isotune.validation.calibrate.fits.attention_fit import attention_section
from isotune.validation.calibrate.fits.collective_fit import collective_sections
from isotune.validation.calibrate.fits.elementwise_fit import elementwise_section
from isotune.validation.calibrate.fits.gemm_fit import gemm_sections
from isotune.validation.calibrate.fits.section import Section

__all__ = [
    "Section",
    "attention_section",
    "collective_sections",
    "elementwise_section",
    "gemm_sections",
]
