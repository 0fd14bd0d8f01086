"""The specification of one GPU, as the vendor prints it."""

from pydantic import Field

from isotune.simulator.errors import InputError
from isotune.simulator.io import Bytes, BytesPerSecond, Dtype, Flops, Schema
from isotune.simulator.number_types import TYPES, number_type


class Gpu(Schema):
    """One GPU: dense tensor-core rates, memory and on-chip resources."""

    sms: int = Field(gt=0, le=1024, strict=True, description="streaming multiprocessors")
    bf16: Flops = Field(
        ge=1e9, le=1e18, description="dense bf16/fp16 tensor-core rate, fp32 accumulate"
    )
    fp8: Flops | None = Field(
        default=None, ge=1e9, le=1e18, description="dense fp8 tensor-core rate"
    )
    int8: Flops | None = Field(
        default=None, ge=1e9, le=1e18, description="dense int8 tensor-core rate"
    )
    fp4: Flops | None = Field(
        default=None, ge=1e9, le=1e18, description="dense fp4 tensor-core rate"
    )
    memory: Bytes = Field(ge=1e6, le=1e15, description="device memory")
    memory_bandwidth: BytesPerSecond = Field(ge=1e6, le=1e16, description="device memory bandwidth")
    l2: Bytes = Field(ge=1e3, le=1e12, description="last-level cache")
    architecture: str | None = Field(
        default=None,
        pattern=r"^(sm|gfx)[0-9a-f]{2,4}$",
        description="compute architecture by which engines choose kernels: sm90, sm103, gfx942",
    )

    def tensor_rate(self, dtype: Dtype) -> float:
        """Dense tensor-core FLOP/s for operands of `dtype`.

        Raises:
            InputError: no tensor cores for that type.
        """
        rate = self._rate(number_type(dtype).tensor_rate)
        if rate is None:
            allowed = ", ".join(entry.name for entry in TYPES if self._rate(entry.tensor_rate))
            raise InputError(
                f"no GEMM in {dtype} on this GPU (allowed dtypes: {allowed}; --quant bf16 takes a "
                "quantised checkpoint as bf16)"
            )
        return rate

    def _rate(self, field: str | None) -> float | None:
        return None if field is None else getattr(self, field)
