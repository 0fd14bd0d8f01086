"""Where a rank's weights come from: slices of safetensors files, or random numbers."""

import json
import re
import zlib
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open

from isotune.simulator.errors import InputError
from isotune.validation.weights.sharding import ShardSlice

_EXPERTS = re.compile(r"(.*)\.mlp\.experts\.(gate_up_proj|down_proj)")
_ONE_BY_ONE = {"gate_up_proj": ("gate_proj", "up_proj"), "down_proj": ("down_proj",)}
_MIXTRAL = {"gate_up_proj": ("w1", "w3"), "down_proj": ("w2",)}


class Weights(Protocol):
    """A model's parameters by their names in transformers."""

    def read(self, name: str, shape: tuple[int, ...], shard: ShardSlice | None) -> torch.Tensor:
        """The held part of a parameter whose whole has this shape."""


class RandomWeights:
    """Random parameters: every rank draws the same ones, whatever it keeps of them.

    Matrices are scaled by 1 / sqrt(inputs), so that activations stay near one.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device, seed: int = 0) -> None:
        self._dtype, self._device, self._seed = dtype, device, seed

    def read(self, name: str, shape: tuple[int, ...], shard: ShardSlice | None) -> torch.Tensor:
        """See `Weights`."""
        generator = torch.Generator(self._device)
        generator.manual_seed(zlib.crc32(name.encode()) + self._seed)
        whole = torch.empty(shape, dtype=self._dtype, device=self._device)
        whole.normal_(generator=generator)
        if len(shape) == 1:
            whole.mul_(0.1).add_(1.0 if name.endswith("norm.weight") else 0.0)
        else:
            whole.mul_(shape[-1] ** -0.5)
        return whole if shard is None else shard.of(whole).clone()  # lets go of the whole


class Safetensors:
    """The safetensors files of a local Hugging Face folder, read slice by slice.

    Raises:
        InputError: no safetensors (pickled weights are refused), a damaged file, or a tensor
            that is missing or of another shape.
    """

    def __init__(self, folder: Path, dtype: torch.dtype, device: torch.device) -> None:
        self._folder, self._dtype, self._device = folder, dtype, device
        self._file_of: dict[str, Path] = {}
        for path in weight_files(folder):
            with self._open(path) as file:
                self._file_of.update(dict.fromkeys(file.keys(), path))

    def read(self, name: str, shape: tuple[int, ...], shard: ShardSlice | None) -> torch.Tensor:
        """See `Weights`."""
        experts = _EXPERTS.fullmatch(name)
        if experts and self.stored(name) is None:
            return self._experts(name, shape, shard)
        return self._read(name, shape, shard)

    def one_by_one(self, name: str) -> tuple[str, tuple[str, ...]]:
        """Where a file has fused experts one by one, and the names of each one's parts, which
        lie below each other when fused (Mixtral names them w1, w3, w2)."""
        experts = _EXPERTS.fullmatch(name)
        assert experts is not None
        block, which = experts[1], experts[2]
        inside, names = f"{block}.mlp.experts", _ONE_BY_ONE[which]
        if self.stored(f"{inside}.0.{names[0]}.weight") is None:
            inside, names = f"{block}.block_sparse_moe.experts", _MIXTRAL[which]
        return inside, names

    def _experts(self, name: str, shape: tuple[int, ...], shard: ShardSlice | None) -> torch.Tensor:
        """Fused experts from a file that has them one by one."""
        inside, names = self.one_by_one(name)
        rows = shape[1] // len(names)
        ranges = [None] * len(names) if shard is None else list(shard.ranges)
        held = None if shard is None else sum(stop - start for start, stop in shard.ranges)
        size = list(shape)
        if shard is not None and held is not None:
            size[shard.dim] = held
        fused = torch.empty(size, dtype=self._dtype, device=self._device)
        for expert in range(shape[0]):
            parts = []
            for index, (one_name, part) in enumerate(zip(names, ranges, strict=True)):
                offset = index * rows if len(names) > 1 else 0
                one = (
                    ShardSlice(shard.dim - 1, ((part[0] - offset, part[1] - offset),))
                    if shard is not None and part is not None
                    else None
                )
                full = f"{inside}.{expert}.{one_name}.weight"
                parts.append(self._read(full, (rows, shape[2]), one))
            fused[expert] = torch.cat(parts)
        return fused

    def _read(self, name: str, shape: tuple[int, ...], shard: ShardSlice | None) -> torch.Tensor:
        stored = self.stored(name)
        if stored is None:
            raise InputError(f"{self._folder}: the safetensors files have no {name}")
        with self._open(self._file_of[stored]) as file:
            tensor = file.get_slice(stored)
            if tuple(tensor.get_shape()) != shape:
                raise InputError(
                    f"{self._folder}: {name} has shape {tensor.get_shape()}, not {list(shape)}"
                )
            before = (slice(None),) * (shard.dim if shard else 0)
            ranges = shard.ranges if shard else ((0, shape[0]),)
            parts = [tensor[(*before, slice(*held))] for held in ranges]
            whole = torch.cat(parts, shard.dim) if shard and len(parts) > 1 else parts[0]
            # A copy: slices are windows onto the file, whose pages would come in one by one.
            return whole.to(
                self._device, self._dtype, copy=True, memory_format=torch.contiguous_format
            )

    def stored(self, name: str) -> str | None:
        """The tensor's name in the files: whole, without `model.`, or in Mixtral's old form."""
        names = (name, name.removeprefix("model."), name.replace(".mlp.", ".block_sparse_moe."))
        return next((found for found in names if found in self._file_of), None)

    def _open(self, path: Path) -> Any:
        try:
            return safe_open(path, framework="pt")
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path}: not a safetensors file ({error})") from error


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder: those its index names, else all of them.

    Raises:
        InputError: there are none; a pickled checkpoint could run code and is refused.
    """
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            named = {
                Path(name).name for name in json.loads(index.read_text())["weight_map"].values()
            }
        except (ValueError, KeyError, AttributeError, TypeError, OSError) as error:
            raise InputError(f"{index}: malformed index of weights") from error
        files = [folder / name for name in sorted(named)]
    else:
        whole = folder / "model.safetensors"
        files = [whole] if whole.is_file() else sorted(folder.glob("*.safetensors"))
    if files:
        return files
    pickled = [path.name for suffix in ("bin", "pt", "pth") for path in folder.glob(f"*.{suffix}")]
    if pickled:
        raise InputError(
            f"{folder}: {sorted(pickled)[0]} is a pickled checkpoint, which could run code, and is "
            "refused (allowed: *.safetensors)"
        )
    raise InputError(f"{folder}: no *.safetensors files in it")
