"""Blocks that an interrupted recovery had repaired, kept in a folder until it is finished."""

import copy
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from isotune.simulator.errors import InputError
from isotune.validation.spd.model import Network
from isotune.validation.spd.recover.repair import Repaired, StepResult

_LAYER = "layer."
_ORDERS = ("query_order", "key_order", "neuron_order", "missing")


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A folder of repaired blocks; blocks of other inputs (another `digest`) are not taken up."""

    folder: Path
    digest: str

    def add(self, block: Repaired) -> None:
        """Keep one more block.

        Raises:
            InputError: it cannot be written.
        """
        named = {name: getattr(block, name) for name in _ORDERS}
        tensors = {name: value.contiguous() for name, value in named.items() if value is not None}
        if block.layer is not None:
            for name, parameter in block.layer.named_parameters():
                tensors[_LAYER + name] = parameter.detach().contiguous()
        told = {
            "digest": self.digest,
            "distilled": block.distilled,
            "steps": [asdict(step) for step in block.steps],
        }
        path = self.folder / f"block-{block.index}.safetensors"
        try:
            self.folder.mkdir(exist_ok=True)
            save_file(tensors, path.with_suffix(".new"), {"block": json.dumps(told)})
            path.with_suffix(".new").replace(path)
        except OSError as error:
            raise InputError(f"{path}: cannot write it ({error.strerror or error})") from error
        except SafetensorError as error:
            raise InputError(f"{path}: cannot write it ({error})") from error

    def load(self, network: Network) -> dict[int, Repaired]:
        """The blocks kept for the same inputs; others count as not repaired."""
        found = (self._block(network, index) for index in range(len(network)))
        return {block.index: block for block in found if block is not None}

    def remove(self) -> None:
        """Nothing is left to continue."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _block(self, network: Network, index: int) -> Repaired | None:
        try:
            with safe_open(self.folder / f"block-{index}.safetensors", framework="pt") as file:
                told = json.loads(file.metadata()["block"])
                names = file.keys()  # the file is no dict
                tensors = {name: file.get_tensor(name) for name in names}
            if told["digest"] != self.digest:
                return None
            steps = tuple(StepResult(**step) for step in told["steps"])
        except (SafetensorError, OSError, ValueError, KeyError, TypeError):
            return None
        return Repaired(
            index=index,
            steps=steps,
            distilled=told["distilled"],
            layer=_layer(network.layers[index], tensors),
            **{name: tensors.get(name) for name in _ORDERS},
        )


def _layer(original: nn.Module, tensors: Mapping[str, Tensor]) -> nn.Module | None:
    """A copy of a block with the kept parameters; None where there are none."""
    inside = {
        name.removeprefix(_LAYER): t for name, t in tensors.items() if name.startswith(_LAYER)
    }
    if not inside:
        return None
    layer = copy.deepcopy(original)
    for name, parameter in layer.named_parameters():
        parameter.data = inside[name].to(parameter)
    return layer
