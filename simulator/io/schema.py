"""What every table read from a file has in common."""

from pydantic import BaseModel, ConfigDict


class Schema(BaseModel):
    """A frozen table: unknown fields, infinities and NaN are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
