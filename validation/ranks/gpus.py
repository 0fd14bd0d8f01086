"""The GPUs that this process sees: enough for its ranks, and how much memory they have free.

The process that starts ranks touches no GPU itself: a CUDA context of its own would hold memory for
the whole run, and keep ranks out of GPUs in exclusive-process mode.
"""

import json
import subprocess
import sys
from collections.abc import Sequence

import torch

from isotune.simulator.errors import InputError
from isotune.validation.ranks.placement import RankPlacement

_FREE = "import json, torch; print(json.dumps([torch.cuda.mem_get_info(gpu)[0] for gpu in {gpus}]))"


def gpu_of(placement: RankPlacement) -> int:
    """The GPU of a rank; a launcher may show each process one of its own alone."""
    return 0 if torch.cuda.device_count() == 1 else placement.local_rank


def check_gpus(local: Sequence[RankPlacement]) -> None:
    """Refuse ranks that would have to share a GPU; `local` are those that this process starts.

    Raises:
        InputError: fewer GPUs than ranks of this machine, unless each is shown one.
    """
    gpus, ranks = torch.cuda.device_count(), local[0].local_ranks
    alone = len(local) == 1 and gpus == 1
    if gpus < ranks and not alone:
        raise InputError(
            f"--device cuda: {ranks} ranks need as many GPUs, this machine has {gpus} "
            "(allowed: --device cpu)"
        )


def free_gpu_bytes(local: Sequence[RankPlacement]) -> float:
    """Free bytes of the fullest GPU of some ranks, asked by a process that ends.

    Raises:
        InputError: the driver does not answer.
    """
    gpus = [gpu_of(placement) for placement in local]
    asked = subprocess.run(  # noqa: S603 (our own code in our own interpreter)
        [sys.executable, "-c", _FREE.format(gpus=gpus)], capture_output=True, text=True, check=False
    )
    if asked.returncode:
        reason = (asked.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise InputError(f"--device cuda: the GPUs do not answer: {reason} (allowed: --device cpu)")
    return float(min(json.loads(asked.stdout)))
