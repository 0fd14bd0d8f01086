"""The recovered checkpoint: a Hugging Face folder that transformers loads as before.

Configuration, tokenizer and every weight that recovery did not touch are copied as they are;
touched weights keep their names, files and number types. What transformers does not know of
lies in `spd/` (see `spd.checkpoint.record`). The folder is written under another name and
renamed when it is whole.
"""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from isotune.simulator.errors import InputError
from isotune.simulator.io import remove_leftovers, temporary_folder
from isotune.validation.executor import decoder_of
from isotune.validation.spd.checkpoint import FOLDER, RECORD, TENSORS, Record
from isotune.validation.spd.model import Network
from isotune.validation.spd.recover.repair import Repaired
from isotune.validation.weights import Safetensors, weight_files

_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".index.json")


def check_target(source: Path, target: Path) -> None:
    """Refuse an output folder before the work starts, not after it.

    Raises:
        InputError: it exists, its parent cannot be written to, or the disk is too full.
    """
    if target.exists() or target.is_symlink():
        raise InputError(f"{target}: exists (allowed: a new folder)")
    try:
        remove_leftovers(target)
        with temporary_folder(target):
            free = shutil.disk_usage(target.parent).free
        needed = sum(path.stat().st_size for path in source.iterdir() if path.is_file())
    except OSError as error:
        raise InputError(f"{target}: cannot write it ({error.strerror})") from error
    if needed > free:
        raise InputError(
            f"{target}: needs {needed / 1e9:.2f} GB, the disk has {free / 1e9:.2f} GB left"
        )


def write_recovered(
    source: Path, target: Path, network: Network, blocks: tuple[Repaired, ...], record: Record
) -> None:
    """Write the folder of a recovered model, whole or not at all.

    Raises:
        InputError: values that are not finite, or it cannot be written (a full disk).
    """
    changed = dict(_changed(source, network, blocks))
    for name, values in changed.items():
        if not values.isfinite().all():
            raise InputError(f"{target}: {name} would not be finite; nothing was written")
    try:
        with temporary_folder(target) as temporary:
            _copy(source, temporary, changed)
            (temporary / FOLDER).mkdir()
            (temporary / FOLDER / RECORD).write_text(record.model_dump_json(indent=2) + "\n")
            tensors = dict(_corrections(blocks))
            if tensors:
                save_file(tensors, temporary / FOLDER / TENSORS)
                # safetensors makes files that only their owner may read.
                shutil.copymode(temporary / FOLDER / RECORD, temporary / FOLDER / TENSORS)
            shutil.copymode(source, temporary)
            temporary.rename(target)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{target}: cannot write it ({reason}); nothing was written") from error
    except SafetensorError as error:
        raise InputError(f"{target}: cannot write it ({error}); nothing was written") from error


def _changed(
    source: Path, network: Network, blocks: tuple[Repaired, ...]
) -> Iterator[tuple[str, Tensor]]:
    """Stored name and values of every weight that recovery touched."""
    weights = Safetensors(source, torch.float32, torch.device("cpu"))
    layers = decoder_of(network.model).layers
    name_of = {id(module): name for name, module in network.model.named_modules()}
    for block in blocks:
        if block.layer is None:
            continue
        place = name_of[id(layers[block.index])]
        for name, parameter in block.layer.named_parameters():
            yield from _stored(weights, f"{place}.{name}", parameter.detach().cpu())


def _stored(weights: Safetensors, name: str, values: Tensor) -> Iterator[tuple[str, Tensor]]:
    stored = weights.stored(name)
    if stored is not None:
        yield stored, values
        return
    inside, names = weights.one_by_one(name)
    for expert, fused in enumerate(values):
        for one, part in zip(names, fused.chunk(len(names)), strict=True):
            full = f"{inside}.{expert}.{one}.weight"
            yield weights.stored(full) or full, part


def _copy(source: Path, target: Path, changed: Mapping[str, Tensor]) -> None:
    for path in sorted(source.iterdir()):
        if path.is_file() and not path.name.endswith(_WEIGHTS):
            shutil.copy(path, target)
    for index in source.glob("*.safetensors.index.json"):
        shutil.copy(index, target)
    written: set[str] = set()
    for path in weight_files(source):
        with safe_open(path, framework="pt") as file:
            touched = set(file.keys()) & set(changed)
            written |= touched
            if not touched:
                shutil.copy(path, target)
                continue
            tensors = _tensors(file)
            metadata = file.metadata()
        for name in touched:
            tensors[name] = changed[name].to(tensors[name].dtype).contiguous()
        save_file(tensors, target / path.name, metadata)
        shutil.copymode(path, target / path.name)
    if lost := changed.keys() - written:
        raise InputError(f"{source}: the safetensors files have no {min(lost)}")


def _tensors(file: Any) -> dict[str, Tensor]:
    names = file.keys()  # the file is no dict
    return {name: file.get_tensor(name) for name in names}


def _corrections(blocks: tuple[Repaired, ...]) -> Iterator[tuple[str, Tensor]]:
    for block in blocks:
        if block.bias_correction is not None:
            yield (
                f"blocks.{block.index}.missing",
                block.bias_correction.detach().float().cpu().contiguous(),
            )
        orders = (block.query_order, block.key_order, block.neuron_order)
        for name, order in zip(("query", "key", "neuron"), orders, strict=True):
            if order is not None:
                yield f"blocks.{block.index}.{name}_order", order.to(torch.int32).contiguous()
