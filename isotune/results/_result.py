"""What every result has in common: one type that is saved, read back, printed and drawn."""

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from isotune._version import __version__
from isotune.simulator.errors import InputError

if TYPE_CHECKING:
    import pandas
    from rich.console import RenderableType

SCHEMA = 1
"""The version of what `--json` prints; a key that changes its meaning raises it."""
MOST = 100_000
"""Rows, points or trials that a result may hold."""
Seconds = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Interval = tuple[float, float]
Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.]{1,40}$")]
"""A name that comes from isotune itself, never from a user's file."""


class Part(BaseModel):
    """A frozen part of a result; what a later version adds is ignored."""

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        allow_inf_nan=False,
        serialize_by_alias=True,
        from_attributes=True,
        defer_build=True,
    )

    @classmethod
    def like(cls, source: object, **more: Any) -> Self:
        """The part with the attributes of `source` that its fields are named like.

        `more` are fields that `source` lacks, or that are something else here.
        """
        names = (name for name in cls.model_fields if name not in more and hasattr(source, name))
        return cls.model_validate({name: getattr(source, name) for name in names} | more)


class Result(Part):
    """A result: plain data with its kind, that knows how to show itself.

    Made from a domain object by `of`, printed by `--json` as `to_dict`, read back by
    `isotune.results.read_result`. Times are in seconds, sizes in bytes, shares are fractions.
    """

    schema_version: int = Field(default=SCHEMA, alias="schema", ge=1, le=SCHEMA)
    isotune: str = __version__
    kind: str
    command: str = ""

    def complete(self) -> Self:
        """The result with everything that is saved, also what takes a while to work out."""
        return self

    def to_dict(self) -> dict[str, Any]:
        """What `--json` prints: plain data."""
        return self.complete().model_dump(mode="json")

    @abstractmethod
    def rows(self) -> list[dict[str, Any]]:
        """The rows of `to_frame`."""

    def to_frame(self) -> "pandas.DataFrame":
        """The result's rows as a pandas data frame.

        Raises:
            InputError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise InputError("to_frame needs pandas: pip install pandas") from error
        return pandas.DataFrame(self.rows())

    def __rich__(self) -> "RenderableType":
        from isotune.present import view

        return view(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def _repr_html_(self) -> str:
        return self._repr_mimebundle_()["text/html"]

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        """Text and HTML for notebooks; which of the two to take is the notebook's choice."""
        from isotune.present import notebook

        del include, exclude
        return notebook(self)
