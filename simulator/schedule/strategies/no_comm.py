"""No communication: every all-reduce left out. No model runs so; it bounds what is to be saved."""

from isotune.simulator.architecture import Block, Segment
from isotune.simulator.schedule.strategies.contract import Unsplit, unsynced


class NoComm(Unsplit):
    """The compute of a serial pass alone."""

    name = "no_comm"
    label = "no communication"
    any_collective = True
    overlaps = False
    caveat = "a bound that no model reaches"

    def segments(self, block: Block, index: int, blocks: int) -> tuple[Segment, ...]:
        """None waits for a collective."""
        del index, blocks
        return tuple(map(unsynced, block.segments))
