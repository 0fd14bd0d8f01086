"""Results that show themselves: on a terminal, in a notebook, as plain data, as a data frame."""

import io
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from isotune.simulator.errors import InputError

if TYPE_CHECKING:
    import pandas
    from rich.console import RenderableType

_WIDTH = 80
_HTML = '<pre style="line-height:1.25;white-space:pre;overflow-x:auto">{code}</pre>'


class Shown(ABC):
    """A result as plain data, a data frame, and for people; names in it are escaped."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """What `--json` prints: plain data, times in seconds."""

    @abstractmethod
    def _rows(self) -> list[dict[str, Any]]:
        """The rows of `to_frame`."""

    @abstractmethod
    def __rich__(self) -> "RenderableType":
        """What the command prints."""

    def to_frame(self) -> "pandas.DataFrame":
        """The result's rows as a pandas data frame.

        Raises:
            InputError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise InputError("to_frame needs pandas: pip install pandas") from error
        return pandas.DataFrame(self._rows())

    def _repr_html_(self) -> str:
        from rich.console import Console

        console = Console(
            record=True, width=_WIDTH, file=io.StringIO(), highlight=False, force_jupyter=False
        )
        console.print(self)
        return console.export_html(inline_styles=True, code_format=_HTML)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        """Text and HTML for notebooks; which of the two to take is the notebook's choice."""
        del include, exclude
        return {"text/plain": self._text(), "text/html": self._repr_html_()}

    def _text(self) -> str:
        from rich.console import Console

        console = Console(width=_WIDTH, file=io.StringIO(), highlight=False, force_jupyter=False)
        with console.capture() as captured:
            console.print(self)
        return captured.get()
