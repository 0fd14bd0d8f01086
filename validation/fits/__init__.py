"""What to estimate from the rows of each operation."""

from validation.fits.attention import attention_section
from validation.fits.collectives import collective_sections
from validation.fits.elementwise import elementwise_section
from validation.fits.gemm import gemm_section
from validation.fits.section import Section

__all__ = [
    "Section",
    "attention_section",
    "collective_sections",
    "elementwise_section",
    "gemm_section",
]
