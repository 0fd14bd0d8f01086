"""The names that a run on real devices takes, readable without torch."""

from typing import Literal, get_args

Device = Literal["cpu", "cuda"]
DEVICES: tuple[Device, ...] = get_args(Device)
Launch = Literal["eager", "graph"]
LAUNCHES: tuple[Launch, ...] = get_args(Launch)
CheckDtype = Literal["float32", "bf16", "fp16", "none"]
CHECK_DTYPES: tuple[CheckDtype, ...] = get_args(CheckDtype)
Collective = Literal["all_reduce", "reduce_scatter", "all_gather"]
COLLECTIVES: tuple[Collective, ...] = get_args(Collective)
Op = Literal["gemm", "attention", "rms_norm", Collective, "contention"]
OPS: tuple[Op, ...] = get_args(Op)
