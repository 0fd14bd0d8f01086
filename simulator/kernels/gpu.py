"""The specification of one GPU, as the vendor prints it."""

from typing import Literal, get_args

from pydantic import Field

from isotune.simulator.io import Bytes, BytesPerSecond, Flops, Schema

Dtype = Literal["fp32", "bf16", "fp16", "fp8", "int8", "int4"]
DTYPE_BYTES: dict[str, float] = {
    "fp32": 4.0,
    "bf16": 2.0,
    "fp16": 2.0,
    "fp8": 1.0,
    "int8": 1.0,
    "int4": 0.5,
}
assert set(DTYPE_BYTES) == set(get_args(Dtype))


class Gpu(Schema):
    """One GPU: dense tensor-core rates, memory and on-chip resources."""

    sms: int = Field(gt=0, le=1024, strict=True, description="streaming multiprocessors")
    bf16: Flops = Field(gt=0, description="dense bf16/fp16 tensor-core rate, fp32 accumulate")
    fp8: Flops | None = Field(default=None, gt=0, description="dense fp8 tensor-core rate")
    memory: Bytes = Field(gt=0, description="device memory")
    memory_bandwidth: BytesPerSecond = Field(gt=0, description="device memory bandwidth")
    l2: Bytes = Field(gt=0, description="last-level cache")
