"""ISO (arXiv 2409.11155): one chunk of a prompt computes while another's all-reduce runs."""

from isotune.simulator.schedule.strategies.contract import SplitPrompt


class Iso(SplitPrompt):
    """Overlap within the sequence."""

    name = "iso"
    label = "ISO"
    any_collective = True
    searchable = enumerable = executable = drops = True
