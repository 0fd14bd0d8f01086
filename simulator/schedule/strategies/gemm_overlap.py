"""GEMM overlap: a row tile of a row-parallel GEMM is reduced while the next tile computes."""

from isotune.simulator.schedule.strategies.contract import SplitTiles


class GemmOverlap(SplitTiles):
    """Overlap of a GEMM with its own all-reduce."""

    name = "gemm_overlap"
    label = "GEMM overlap"
    searchable = executable = drops = True
    most_parts = 8
    swept_parts = 4
