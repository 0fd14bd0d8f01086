"""Names of number types where a schema reads them: aliases become names, others are refused."""

from typing import Annotated

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from isotune.simulator.number_types import (
    ACTIVATION_DTYPES,
    COMM_DTYPES,
    DTYPES,
    WEIGHT_DTYPES,
    number_type,
)


def _one_of(names: tuple[str, ...]) -> BeforeValidator:
    allowed = f"{', '.join(map(repr, names[:-1]))} or {names[-1]!r}"
    known = {alias for name in names for alias in (name, *number_type(name).aliases)}

    def read(value: object) -> str:
        if isinstance(value, str) and value in known:
            return number_type(value).name
        raise PydanticCustomError("number_type", "Input should be {allowed}", {"allowed": allowed})

    return BeforeValidator(read)


Dtype = Annotated[str, _one_of(DTYPES)]
ActivationDtype = Annotated[str, _one_of(ACTIVATION_DTYPES)]
WeightDtype = Annotated[str, _one_of(WEIGHT_DTYPES)]
CommDtype = Annotated[str, _one_of(COMM_DTYPES)]
