"""Traces in the form in which torch.profiler writes them for a GPU."""

from typing import Any

Event = dict[str, Any]
GEMM = "nvjet_tst_128x256_64x4_2x1_v_bz_coopA_TNT"
FLASH = "void flash::flash_fwd_kernel<Flash_fwd_kernel_traits<128, 128, 64, 4>>(Flash_fwd_params)"
NORM = "void vllm::fused_add_rms_norm_kernel<c10::BFloat16, 8>(c10::BFloat16*, long)"
NCCL = "ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)"
MINE = "void my_kernel<float>(float*)"
COMPUTE_STREAM, COMM_STREAM = 7, 20
TOKENS, HIDDEN = 64, 1024


class GpuTrace:
    """A trace that grows kernel by kernel; microseconds."""

    def __init__(self, ranks: int = 2) -> None:
        self.events: list[Event] = []
        self.ranks = ranks
        self.number = 0

    def data(self) -> Event:
        """The trace as JSON holds it."""
        return {
            "schemaVersion": 1,
            "deviceProperties": [{"id": 0, "name": "NVIDIA H100 80GB HBM3"}],
            "distributedInfo": {"backend": "nccl", "rank": 0, "world_size": self.ranks},
            "traceEvents": self.events,
        }

    def annotation(self, name: str, ts: float, dur: float) -> None:
        """A named span on the host."""
        self._add(name, "user_annotation", ts, dur, pid=100, tid=100)

    def kernel(self, name: str, ts: float, dur: float, **more: Any) -> None:
        """A kernel that the host launched at `launch`, by default a microsecond before."""
        self.number += 1
        launch = more.pop("launch", ts - 1)
        stream = more.pop("stream", COMPUTE_STREAM)
        operator = more.pop("operator", None)
        identity = {"correlation": self.number, "External id": self.number}
        self._add("cudaLaunchKernel", "cuda_runtime", launch, 0.5, pid=100, tid=100, args=identity)
        if operator is not None:
            known = {"External id": self.number, **operator["args"]}
            self._add(operator["name"], "cpu_op", launch, 0.4, pid=100, tid=100, args=known)
        args = {**identity, "device": 0, "stream": stream, **more}
        self._add(name, "kernel", ts, dur, pid=0, tid=stream, args=args)

    def all_reduce(self, ts: float, dur: float, **more: Any) -> None:
        """An all-reduce of a block's activations, with what NCCL says of it."""
        said = {
            "Collective name": "allreduce",
            "In msg nelems": TOKENS * HIDDEN,
            "Out msg nelems": TOKENS * HIDDEN,
            "Group size": self.ranks,
            "dtype": "BFloat16",
        }
        self.kernel(NCCL, ts, dur, stream=COMM_STREAM, **said, **more)

    def _add(self, name: str, cat: str, ts: float, dur: float, **more: Any) -> None:
        event = {"ph": "X", "cat": cat, "name": name, "ts": 5_000_000.5 + ts, "dur": dur}
        self.events.append(event | more)


def product(m: int, n: int, k: int) -> Event:
    """The operator of a product, recorded with its shapes."""
    shapes = {"Input Dims": [[m, k], [k, n]], "Input type": ["c10::BFloat16", "c10::BFloat16"]}
    return {"name": "aten::mm", "args": shapes}


def serial_pass(trace: GpuTrace, ts: float, blocks: int) -> float:
    """A pass of norm, product, attention, product, all-reduce; norm, product, all-reduce."""
    trace.kernel("void at::native::vectorized_elementwise_kernel<4>", ts, 2)  # the embedding
    ts += 2
    for _ in range(blocks):
        for name, dur in ((NORM, 3), (GEMM, 10), (FLASH, 8), (GEMM, 6)):
            operator = product(TOKENS, 3072, HIDDEN) if (name, dur) == (GEMM, 10) else None
            trace.kernel(name, ts, dur, operator=operator)
            ts += dur
        trace.all_reduce(ts, 12)
        ts += 12
        for name, dur in ((NORM, 3), (MINE, 1), (GEMM, 20)):
            trace.kernel(name, ts, dur)
            ts += dur
        trace.all_reduce(ts, 12)
        ts += 12
    trace.kernel(GEMM, ts, 5)  # the head
    return ts + 5


SERIAL_BLOCK_US = 3 + 10 + 8 + 6 + 12 + 3 + 1 + 20 + 12


def overlapped_pass(trace: GpuTrace, ts: float, blocks: int) -> float:
    """Two chunks: while one computes 20 us, the other's all-reduce of 15 us runs beside it."""
    compute, chunks = ts, 2
    for _ in range(blocks):
        for name in (FLASH, GEMM):
            for _ in range(chunks):
                trace.kernel(name, compute, 20)
                trace.all_reduce(compute + 20, 15)
                compute += 20
    return compute + 15
