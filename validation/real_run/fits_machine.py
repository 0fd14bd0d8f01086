"""Whether a setup fits the machine it is to run on."""

import os
from collections.abc import Sequence
from pathlib import Path

from isotune.simulator.errors import InputError
from isotune.simulator.predict import SERIAL, GpuMemory
from isotune.validation.ranks import RankPlacement, check_gpus, free_gpu_bytes
from isotune.validation.real_run.setup import Setup


def check_machine(setup: Setup, local: Sequence[RankPlacement]) -> None:
    """Refuse a run that this machine cannot hold; `local` are the ranks that this process starts.

    Only their GPUs are looked at.

    Raises:
        InputError: another number of ranks than the plan's tp, too few devices, or too
            little memory for the ranks that run here.
    """
    ranks, local_ranks = local[0].ranks, local[0].local_ranks
    if ranks != setup.ranks:
        raise InputError(
            f"the plan is for tp {setup.ranks}, not for {ranks} ranks (allowed: --nproc "
            f"{setup.ranks}, or a plan made with --tp {ranks})"
        )
    if setup.device == "cuda":
        check_gpus(local)
    free = local_ranks * free_gpu_bytes(local) if setup.device == "cuda" else _free_bytes()
    needed = local_ranks * (_bytes_per_rank(setup) + _communicators(setup))
    if needed > free:
        raise InputError(
            f"{setup.scenario.model.name}: {local_ranks} ranks on {setup.device} need "
            f"{needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free (use fewer --layers)"
        )


_COMMUNICATOR_BYTES = 0.7e9
"""What NCCL holds of a GPU for one more communicator: 544 to 688 MB on 4 A100s (nccl issue 964)."""


def _communicators(setup: Setup) -> float:
    """Bytes of the communicators of SM budgets, beside the one that the profile counts."""
    own = setup.plan.comm_sms is not None and setup.device == "cuda" and not setup.emulated
    return _COMMUNICATOR_BYTES if own else 0.0


def _bytes_per_rank(setup: Setup) -> float:
    """Bytes of the largest pass; weights and cache count twice where float32 checks bf16."""
    scenario = setup.scenario
    needed = [GpuMemory(scenario).of(plan) for plan in (setup.plan, *setup.baseline)]
    context = scenario.workload.context
    if context and setup.check_dtype != "none":  # the check begins with a prefill of its own
        prefill = scenario.with_workload(phase="prefill", prompt=context)
        needed.append(GpuMemory(prefill).of(SERIAL))
    both = max(of.weights + of.kv_cache + 2 * of.activations for of in needed)
    wider = 4 / scenario.workload.width if setup.check_dtype == "float32" else 1
    return both * wider


def _free_bytes() -> float:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        fields = dict(line.split(":", 1) for line in lines)
        return float(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
