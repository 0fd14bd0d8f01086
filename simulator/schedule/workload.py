"""What is asked of the machine: phase, sizes, number types, and how kernels are launched."""

from typing import Literal, Self

from pydantic import Field, model_validator

from isotune.simulator.io import ActivationDtype, Schema, WeightDtype
from isotune.simulator.number_types import bytes_of, number_type

Phase = Literal["prefill", "decode"]
LaunchMode = Literal["cuda_graph", "eager"]


class Workload(Schema):
    """One forward pass of `tp` GPUs.

    In prefill, `batch` prompts of `prompt` tokens each are processed whole. In decode, one
    token is generated for each of `batch` requests that already hold `prompt` tokens.
    """

    phase: Phase = "prefill"
    batch: int = Field(default=1, ge=1, le=65_536, strict=True, description="requests")
    prompt: int = Field(default=4096, ge=1, le=10_000_000, strict=True, description="tokens")
    tp: int = Field(default=8, ge=1, le=1024, strict=True, description="tensor-parallel size")
    dtype: ActivationDtype = "bf16"
    weight_dtype: WeightDtype = "bf16"
    runtime: LaunchMode = "cuda_graph"

    @model_validator(mode="after")
    def _quantised_products_need_such_weights(self) -> Self:
        if number_type(self.dtype).quantises_activations and self.weight_dtype != self.dtype:
            raise ValueError(
                f"weight_dtype: products of {self.dtype} activations need {self.dtype} weights, "
                f"not {self.weight_dtype}"
            )
        return self

    @property
    def travel_dtype(self) -> str:
        """The type activations have between the matrix products."""
        return str(number_type(self.dtype).travels_as)

    @property
    def width(self) -> float:
        """Bytes of one activation between the matrix products."""
        return bytes_of(self.travel_dtype)

    @property
    def tokens(self) -> int:
        """Tokens each request puts through the blocks in this pass."""
        return self.prompt if self.phase == "prefill" else 1

    @property
    def context(self) -> int:
        """Tokens each request already holds in its KV cache."""
        return 0 if self.phase == "prefill" else self.prompt
