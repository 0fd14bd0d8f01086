"""The repaired blocks of an interrupted recovery."""

import copy
from collections.abc import Mapping

from torch import Tensor, nn

from isotune.validation.spd.checkpoint import PartialRun, StepRecord
from isotune.validation.spd.model import Network
from isotune.validation.spd.recover.repair import Repaired

_LAYER = "layer."
_ORDERS = ("query_order", "key_order", "neuron_order", "bias_correction")


def save_block(partial: PartialRun, block: Repaired) -> None:
    """Keep a block as it stands after its last step."""
    named = {name: getattr(block, name) for name in _ORDERS}
    tensors = {name: value.contiguous() for name, value in named.items() if value is not None}
    if block.layer is not None:
        for name, parameter in block.layer.named_parameters():
            tensors[_LAYER + name] = parameter.detach().contiguous()
    steps = [step.model_dump() for step in block.steps]
    partial.save(f"block-{block.index}", {"distilled": block.distilled, "steps": steps}, tensors)


def saved_blocks(partial: PartialRun, network: Network) -> dict[int, Repaired]:
    """The blocks kept so far, by index."""
    found = {}
    for index in range(len(network)):
        part = partial.read(f"block-{index}")
        if part is not None:
            data, tensors = part
            found[index] = Repaired(
                index=index,
                steps=tuple(map(StepRecord.model_validate, data["steps"])),
                distilled=data["distilled"],
                layer=_layer(network.layers[index], tensors),
                **{name: tensors.get(name) for name in _ORDERS},
            )
    return found


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
