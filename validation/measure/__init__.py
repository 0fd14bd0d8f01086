"""Microbenchmarks: what kernels and collectives take on this machine, as a table."""
