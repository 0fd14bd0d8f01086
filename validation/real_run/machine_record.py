"""What a run ran on: device, driver, libraries, clocks and the variables that change its times."""

import os
import platform
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

import torch

from isotune.simulator.machine import HardwareProfile

Device: TypeAlias = torch.device
_PREFIXES = ("NCCL_", "TORCH_", "PYTORCH_", "CUDA_", "NVIDIA_TF32", "GLOO_", "OMP_")
_WAITING = ("CUDA_LAUNCH_BLOCKING", "TORCH_NCCL_BLOCKING_WAIT", "NCCL_BLOCKING_WAIT")
"""Variables with which the host waits for the device, so that nothing overlaps."""
_SLACK = 0.1
"""Share by which a GPU's memory may differ from the profile's."""
_ASK = ("nvidia-smi", "--query-gpu=driver_version,clocks.sm,clocks.max.sm", "--format=csv,noheader")


@dataclass(frozen=True, kw_only=True)
class MachineRecord:
    """The machine of rank 0. `sms` and `memory` (bytes) are 0 on a CPU, versions "" where none.

    `driver` is the driver's version with the GPU's clock and its highest; `attention` the kernel
    of attention; `environment` the variables that change what the libraries do.
    """

    device: str
    torch: str
    python: str
    sms: int = 0
    memory: float = 0.0
    driver: str = ""
    cuda: str = ""
    cudnn: str = ""
    nccl: str = ""
    attention: str = ""
    environment: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, device: Device, attention: str) -> "MachineRecord":
        """What this process runs on."""
        known = {
            "torch": torch.__version__,
            "python": platform.python_version(),
            "attention": attention,
            "environment": {
                name: value for name, value in os.environ.items() if name.startswith(_PREFIXES)
            },
        }
        if device.type != "cuda":
            cores = len(os.sched_getaffinity(0))
            return cls(device=f"{platform.machine()}, {cores} cores for rank 0", **known)
        properties = torch.cuda.get_device_properties(device)
        return cls(
            device=properties.name,
            sms=properties.multi_processor_count,
            memory=float(properties.total_memory),
            driver=_driver(device.index or 0),
            cuda=torch.version.cuda or "",
            cudnn=str(torch.backends.cudnn.version() or ""),
            nccl=".".join(map(str, torch.cuda.nccl.version())),
            **known,
        )

    def notes(self, profile: HardwareProfile) -> Iterator[str]:
        """What makes the measured times others than the profile's machine would show."""
        gpu = profile.gpu
        if self.sms and (self.sms != gpu.sms or abs(self.memory / gpu.memory - 1) > _SLACK):
            yield (
                f"times are predicted for {profile.name} ({gpu.sms} SMs, {gpu.memory / 1e9:.0f} GB "
                f"per GPU) and measured on another GPU: {self.device} ({self.sms} SMs, "
                f"{self.memory / 1e9:.0f} GB)"
            )
        for name in _WAITING:
            if self.environment.get(name, "0") not in ("", "0"):
                yield f"{name} is set: the host waits for the device, so nothing overlaps"


def _driver(index: int) -> str:
    """The driver's version and the GPU's clocks, or that nvidia-smi does not tell them."""
    try:
        told = subprocess.run(  # noqa: S603 (a fixed command)
            _ASK, capture_output=True, text=True, timeout=10, check=True
        )
        return told.stdout.strip().splitlines()[index]
    except (OSError, subprocess.SubprocessError, IndexError):
        return "unknown: nvidia-smi does not answer"
