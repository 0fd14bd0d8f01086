"""A share as a bar that prints everywhere: blocks on a terminal, `#` where only ASCII is safe."""

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.segment import Segment

WIDTH = 8
_EIGHTHS = " \N{LEFT ONE EIGHTH BLOCK}\N{LEFT ONE QUARTER BLOCK}\N{LEFT THREE EIGHTHS BLOCK}"
_EIGHTHS += "\N{LEFT HALF BLOCK}\N{LEFT FIVE EIGHTHS BLOCK}\N{LEFT THREE QUARTERS BLOCK}"
_EIGHTHS += "\N{LEFT SEVEN EIGHTHS BLOCK}"
_FULL = "\N{FULL BLOCK}"


class Bar:
    """A bar of a share between 0 and 1, `WIDTH` columns wide at 1."""

    def __init__(self, share: float) -> None:
        self.share = min(1.0, max(0.0, share))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Whole blocks and one of eighths; `#` on a terminal without them."""
        if options.ascii_only:
            yield Segment("#" * round(self.share * WIDTH))
            return
        whole, eighths = divmod(round(self.share * WIDTH * 8), 8)
        yield Segment((_FULL * whole + _EIGHTHS[eighths]).rstrip())

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """Always as wide as a full bar."""
        return Measurement(WIDTH, WIDTH)
