"""What the numbers must be: transformers' own forward pass, and the lossy plans' mathematics.

Nothing here shares code with the executor. The lossy reference keeps every weight whole in one
process and splits only at the inputs of the two row-parallel projections, where rank i's
partial sum is that projection applied to rank i's columns:

    standard:  h   = x + R_i(a_i) + b_o           y = h + R_i(mlp_i(norm(h))) + b_d
    SPD:       h_i = x + a_i + b_o  (local)       y = x + b_o + b_d + R_i(a_i + mlp_i(norm(h_i)))

R is the all-reduce: a sum, or what a quantised transfer makes of it.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from isotune.simulator.schedule import CommDtype
from isotune.validation.executor import decoder_of, empty_model, fill, parameters, settle
from isotune.validation.weights import Weights

_GROUP = 128
_NAMES = ("self_attn.o_proj", "mlp.down_proj", "input_layernorm", "post_attention_layernorm")
_OPT_NAMES = ("self_attn.out_proj", "fc2", "self_attn_layer_norm", "final_layer_norm")


@contextmanager
def lossy(
    model: Any,
    *,
    tp: int,
    dropped: Collection[int] = (),
    transfer: CommDtype = "bf16",
    bias_corrections: Mapping[int, Tensor] | None = None,
) -> Iterator[None]:
    """Within it, `model(...)` computes what `tp` ranks compute with these syncs dropped.

    Works on any supported Hugging Face causal language model, whole in this process; gradients
    flow (except through a quantised transfer), a KV cache works. `bias_corrections` has what a
    recovered model adds to each rank's MLP input of a dropped block [tp, hidden].
    """
    layers = decoder_of(model).layers
    original = [layer.forward for layer in layers]
    for block, layer in enumerate(layers):
        layer.forward = partial(
            _block,
            layer,
            tp=tp,
            drop=block in dropped,
            reduce=_REDUCE[transfer],
            bias_correction=(bias_corrections or {}).get(block),
        )
    try:
        yield
    finally:
        for layer, forward in zip(layers, original, strict=True):
            layer.forward = forward


def _block(
    layer: Any,
    hidden_states: Tensor,
    *args: Any,
    tp: int,
    drop: bool,
    reduce: Callable[[Sequence[Tensor]], Tensor],
    bias_correction: Tensor | None,
    **kwargs: Any,
) -> Tensor:
    x, opt = hidden_states, hasattr(layer, "fc2")
    out_name, _, norm_name, mlp_norm_name = _OPT_NAMES if opt else _NAMES
    out = layer.get_submodule(out_name)
    mlp_norm = layer.get_submodule(mlp_norm_name)
    inputs = _input_of(out, lambda: layer.self_attn(getattr(layer, norm_name)(x), *args, **kwargs))
    a = [part @ weight.T for part, weight in _columns(inputs, out.weight, tp)]
    x = x if out.bias is None else x + out.bias
    if drop:
        local = [x + a_i for a_i in a]
        if bias_correction is not None:
            local = [h_i + c_i for h_i, c_i in zip(local, bias_correction, strict=True)]
    else:
        x = x + reduce(a)
        local = [x] * tp
    m = [_mlp(layer, mlp_norm(h_i), tp, i) for i, h_i in enumerate(local)]
    total = [a_i + m_i for a_i, m_i in zip(a, m, strict=True)] if drop else m
    bias = layer.fc2.bias if opt else getattr(getattr(layer.mlp, "down_proj", None), "bias", None)
    return (x if bias is None else x + bias) + reduce(total)


def _mlp(layer: Any, hidden: Tensor, tp: int, rank: int) -> Tensor:
    """Rank `rank`'s partial output of the MLP, without the down projection's bias."""
    if hasattr(layer, "fc2"):
        activated = layer.activation_fn(layer.fc1(hidden))
        part, weight = _columns(activated, layer.fc2.weight, tp)[rank]
        return part @ weight.T
    if hasattr(layer.mlp, "experts"):
        weight = layer.mlp.experts.down_proj
        own = torch.zeros_like(weight)
        width = weight.shape[-1] // tp
        columns = slice(rank * width, (rank + 1) * width)
        own[..., columns] = weight[..., columns]
        output: Tensor = functional_call(layer.mlp, {"experts.down_proj": own}, (hidden,))
        return output
    inputs = _input_of(layer.mlp.down_proj, lambda: layer.mlp(hidden))
    part, weight = _columns(inputs, layer.mlp.down_proj.weight, tp)[rank]
    return part @ weight.T


def _columns(inputs: Tensor, weight: Tensor, tp: int) -> list[tuple[Tensor, Tensor]]:
    """Each rank's inputs of a row-parallel projection, with the columns they meet."""
    return list(zip(inputs.chunk(tp, -1), weight.chunk(tp, -1), strict=True))


def _input_of(module: Any, run: Callable[[], Any]) -> Tensor:
    """What a module is given while `run` runs."""
    given: list[Tensor] = []
    hook = module.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    try:
        run()
    finally:
        hook.remove()
    return given[0]


def _sum(parts: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(parts)).sum(0)


def _quantised(parts: Sequence[Tensor], *, dtype: torch.dtype, largest: float) -> Tensor:
    """The sum as a quantised all-reduce leaves it: each summand rounded, then the sum."""
    once = partial(_rounded, dtype=dtype, largest=largest)
    total = torch.stack([once(part.float()) for part in parts]).sum(0)
    return once(total).to(parts[0].dtype)


def _rounded(values: Tensor, *, dtype: torch.dtype, largest: float) -> Tensor:
    """Float32 values on the grid of one byte each, a bfloat16 scale for every 128 of a row."""
    group = _GROUP
    while values.shape[-1] % group:
        group //= 2
    groups = values.reshape(-1, group)
    scale = (groups.abs().amax(1, keepdim=True) / largest).to(torch.bfloat16).float()
    steps = torch.where(scale > 0, groups / scale, torch.zeros_like(groups))
    steps = steps.clamp(-largest, largest)
    grid = steps.round() if dtype == torch.int8 else steps.to(dtype).float()
    return (grid * scale).view(values.shape)


_REDUCE: dict[str, Callable[[Sequence[Tensor]], Tensor]] = {
    "bf16": _sum,
    "int8": partial(_quantised, dtype=torch.int8, largest=127.0),
    "fp8": partial(_quantised, dtype=torch.float8_e4m3fn, largest=448.0),
}


def streamed_model(config: Any, weights: Weights) -> Any:
    """transformers' model, whole, holding one decoder layer's weights at a time.

    What is outside the layers stays; a layer is read when its forward begins and let go when
    it ends. Its forward passes are transformers' own.
    """
    model = empty_model(config)
    decoder = decoder_of(model)
    inside = {id(p): layer for layer in decoder.layers for p in layer.parameters()}
    of_layer: dict[Any, list[tuple[str, tuple[int, ...]]]] = {}
    for name, shape in parameters(model):
        layer = inside.get(id(model.get_parameter(name)))
        if layer is None:
            fill(model, name, weights.read(name, shape, None))
        else:
            of_layer.setdefault(layer, []).append((name, shape))
    settle(model)
    for layer, held in of_layer.items():
        layer.register_forward_pre_hook(partial(_read, model, held, weights))
        layer.register_forward_hook(partial(_let_go, model, held), always_call=True)
    return model


_Held = Sequence[tuple[str, tuple[int, ...]]]


def _read(model: Any, held: _Held, weights: Weights, *_: Any) -> None:
    for name, shape in held:
        fill(model, name, weights.read(name, shape, None))


def _let_go(model: Any, held: _Held, *_: Any) -> None:
    for name, shape in held:
        fill(model, name, torch.empty(shape, device="meta"))
