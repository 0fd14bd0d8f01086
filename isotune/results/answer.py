"""What commands print that is no computed result: lists, files written, what a file holds."""

from typing import Any, Self

from pydantic import ConfigDict

from isotune.results._result import Part, Result


class Answer(Result):
    """What a command says, under the names of its own fields; `isotune report` does not draw it."""

    model_config = ConfigDict(**Part.model_config | ConfigDict(extra="allow"))

    @classmethod
    def of(cls, kind: str, **fields: Any) -> Self:
        """An answer of this kind, with its fields."""
        return cls.model_validate({"kind": kind} | fields)

    def rows(self) -> list[dict[str, Any]]:
        """None: an answer is no table."""
        return []
