"""Reads the bias corrections of a recovered folder."""

import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from isotune.simulator.errors import InputError
from isotune.validation.spd.checkpoint.record import FOLDER, TENSORS, check_ranks, read_record

_MISSING = re.compile(r"blocks\.([0-9]+)\.missing")


def read_bias_corrections(
    folder: Path, tp: int, *, dtype: torch.dtype, device: torch.device
) -> dict[int, Tensor]:
    """Each block's bias correction [tp, hidden] in a folder; none where it was not recovered.

    Raises:
        InputError: recovered for another number of ranks, or damaged.
    """
    record = read_record(folder)
    if record is None:
        return {}
    check_ranks(folder, record, tp)
    path = folder / FOLDER / TENSORS
    if not path.is_file():
        return {}
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a safetensors file ({error})") from error
    return {
        int(found[1]): values.to(device, dtype)
        for name, values in tensors.items()
        if (found := _MISSING.fullmatch(name))
    }
