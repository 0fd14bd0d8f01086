"""What is asked of the machine: phase, sizes, number types, and how kernels are launched."""

from typing import Literal

from pydantic import Field

from isotune.simulator.io import Schema

Phase = Literal["prefill", "decode"]
ActivationDtype = Literal["bf16", "fp16"]
WeightDtype = Literal["bf16", "fp16", "fp8", "int8", "int4"]
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

    @property
    def tokens(self) -> int:
        """Tokens each request puts through the blocks in this pass."""
        return self.prompt if self.phase == "prefill" else 1

    @property
    def context(self) -> int:
        """Tokens each request already holds in its KV cache."""
        return 0 if self.phase == "prefill" else self.prompt
