"""What a profiler saw of a program: a PyTorch trace as a measured timeline."""

from isotune.validation.traces.blocks import TracedBlock, blocks_of
from isotune.validation.traces.events import Event, Trace, read_trace
from isotune.validation.traces.kernel_names import (
    IGNORED,
    KernelNames,
    NamedKernels,
    bundled_names,
    read_names,
)
from isotune.validation.traces.passes import Kernel, TracedPass, Work, passes_of
from isotune.validation.traces.rows import SizedRows, rows_of, rows_text

__all__ = [
    "IGNORED",
    "Event",
    "Kernel",
    "KernelNames",
    "NamedKernels",
    "SizedRows",
    "Trace",
    "TracedBlock",
    "TracedPass",
    "Work",
    "blocks_of",
    "bundled_names",
    "passes_of",
    "read_names",
    "read_trace",
    "rows_of",
    "rows_text",
]
