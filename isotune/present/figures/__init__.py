"""The figures of the page, as plain data for Plotly."""
