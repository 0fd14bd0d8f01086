"""Serial: compute and all-reduces one after the other, as any engine without overlap runs them."""

from isotune.simulator.schedule.strategies.contract import Unsplit
from isotune.simulator.schedule.workload import Workload


class Serial(Unsplit):
    """The baseline."""

    name = "serial"
    label = "serial"
    searchable = executable = drops = True
    any_collective = True
    overlaps = False

    def obstacle(self, workload: Workload) -> str | None:
        """None: every workload can be run so."""
        del workload
        return None
