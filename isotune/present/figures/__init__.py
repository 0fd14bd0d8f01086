"""The figures of the page, as plain data for Plotly."""

from isotune.present.figures.of_result import figures_of

__all__ = ["figures_of"]
