"""Names of number types where a schema reads them: aliases become names, others are refused."""

from typing import Annotated

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from isotune.simulator.errors import InputError
from isotune.simulator.number_types import (
    ACTIVATION_DTYPES,
    COMM_DTYPES,
    DTYPES,
    KV_DTYPES,
    WEIGHT_DTYPES,
    number_type,
    scheme,
)


def _one_of(names: tuple[str, ...]) -> BeforeValidator:
    allowed = f"{', '.join(map(repr, names[:-1]))} or {names[-1]!r}"
    known = {alias for name in names for alias in (name, *number_type(name).aliases)}

    def read(value: object) -> str:
        if isinstance(value, str) and value in known:
            return number_type(value).name
        raise PydanticCustomError("number_type", "Input should be {allowed}", {"allowed": allowed})

    return BeforeValidator(read)


def _a_scheme() -> BeforeValidator:
    def read(value: object) -> str:
        try:
            return scheme(str(value)).name
        except InputError as error:
            raise ValueError(str(error)) from error

    return BeforeValidator(read)


Dtype = Annotated[str, _one_of(DTYPES)]
ActivationDtype = Annotated[str, _one_of(ACTIVATION_DTYPES)]
WeightDtype = Annotated[str, _one_of(WEIGHT_DTYPES)]
CommDtype = Annotated[str, _one_of(COMM_DTYPES)]
KvDtype = Annotated[str, _one_of(KV_DTYPES)]
Quant = Annotated[str, _a_scheme()]
