"""Request overlap: some requests of the batch compute while the all-reduce of others runs."""

from isotune.simulator.schedule.strategies.contract import SplitRequests


class RequestOverlap(SplitRequests):
    """Overlap of micro-batches."""

    name = "request_overlap"
    label = "request overlap"
    any_collective = True
    searchable = executable = drops = True
