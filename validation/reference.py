"""What the numbers must be: transformers' own forward pass, and the lossy plans' mathematics.

Nothing here shares code with the executor. The lossy reference keeps every weight whole in one
process and splits only at the inputs of the two row-parallel projections, where rank i's
partial sum is that projection applied to rank i's columns:

    standard:  h   = x + R_i(a_i) + b_o           y = h + R_i(mlp_i(norm(h))) + b_d
    SPD:       h_i = x + a_i + b_o  (local)       y = x + b_o + b_d + R_i(a_i + mlp_i(norm(h_i)))
    parallel:                                     y = x + b_o + b_d + R_i(a_i + mlp_i(norm(x)))

A norm after a sublayer takes R_i(...) and its bias. R is the all-reduce: a sum, or what a
quantised transfer makes of it.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call

from isotune.simulator.schedule import CommDtype
from isotune.validation.executor import decoder_of, empty_model, fill, parameters, settle
from isotune.validation.weights import Weights

_GROUP = 128


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


class _Modules(NamedTuple):
    """The modules of a decoder layer, by what they do; None is a norm that it has not."""

    attention: Any
    out: Any
    before_attention: Any
    after_attention: Any
    before_mlp: Any
    after_mlp: Any


def _modules(layer: Any) -> _Modules:
    has = partial(hasattr, layer)
    if has("fc2"):
        norms = (layer.self_attn_layer_norm, None, layer.final_layer_norm, None)
        return _Modules(layer.self_attn, layer.self_attn.out_proj, *norms)
    before, after = getattr(layer, "input_layernorm", None), None
    second, last = getattr(layer, "post_attention_layernorm", None), None
    if has("post_self_attn_layernorm"):
        after, last = layer.post_self_attn_layernorm, layer.post_mlp_layernorm
    elif has("post_feedforward_layernorm"):
        after, last = second, layer.post_feedforward_layernorm
        second = getattr(layer, "pre_feedforward_layernorm", None)
    linear = has("linear_attn")
    attention = layer.linear_attn if linear else layer.self_attn
    out = attention.out_proj if linear else attention.o_proj
    return _Modules(attention, out, before, after, second, last)


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
    x, has = hidden_states, _modules(layer)
    call = kwargs
    if hasattr(layer, "linear_attn"):
        call = {name: kwargs[name] for name in ("cache", "attention_mask") if name in kwargs}
    normed = _through(has.before_attention, x)
    inputs = _input_of(has.out, lambda: has.attention(normed, *args, **call))
    a = [part @ weight.T for part, weight in _columns(inputs, has.out.weight, tp)]
    if has.before_mlp is None and has.after_attention is None:  # side by side: one all-reduce
        m = [_mlp(layer, normed, tp, i) for i in range(tp)]
        both = reduce([a_i + m_i for a_i, m_i in zip(a, m, strict=True)])
        return _biased(_biased(x, has.out.bias), _down_bias(layer)) + both
    if drop:
        assert has.after_attention is None, "a norm of the sum needs the sum"
        x = _biased(x, has.out.bias)
        local = [x + a_i for a_i in a]
        if bias_correction is not None:
            local = [h_i + c_i for h_i, c_i in zip(local, bias_correction, strict=True)]
    else:
        x = x + _through(has.after_attention, _biased(reduce(a), has.out.bias))
        local = [x] * tp
    m = [_mlp(layer, _through(has.before_mlp, h_i), tp, i) for i, h_i in enumerate(local)]
    total = [a_i + m_i for a_i, m_i in zip(a, m, strict=True)] if drop else m
    return x + _through(has.after_mlp, _biased(reduce(total), _down_bias(layer)))


def _through(norm: Any, hidden: Tensor) -> Tensor:
    normed: Tensor = hidden if norm is None else norm(hidden)
    return normed


def _biased(hidden: Tensor, bias: Tensor | None) -> Tensor:
    return hidden if bias is None else hidden + bias


def _down_bias(layer: Any) -> Tensor | None:
    down = layer.fc2 if hasattr(layer, "fc2") else getattr(layer.mlp, "down_proj", None)
    bias: Tensor | None = getattr(down, "bias", None)
    return bias


def _mlp(layer: Any, hidden: Tensor, tp: int, rank: int) -> Tensor:
    """Rank `rank`'s partial output of the MLP, without the down projection's bias.

    Of every projection back, an expert's too, only the rank's own inputs count; each rank adds
    its part of the experts' biases.
    """
    if hasattr(layer, "fc2"):
        activated = layer.activation_fn(layer.fc1(hidden))
        part, weight = _columns(activated, layer.fc2.weight, tp)[rank]
        return part @ weight.T
    own = {}
    for name, whole in layer.mlp.named_parameters():
        if name.endswith("down_proj_bias"):
            own[name] = whole / tp
        elif name.endswith("down_proj.bias"):
            own[name] = torch.zeros_like(whole)
        elif name.endswith(("down_proj.weight", "down_proj")):
            transposed = hasattr(layer.mlp, "experts") and hasattr(layer.mlp.experts, "limit")
            inputs = whole.transpose(-1, -2) if transposed else whole  # gpt-oss
            kept = torch.zeros_like(inputs)
            width = inputs.shape[-1] // tp
            columns = slice(rank * width, (rank + 1) * width)
            kept[..., columns] = inputs[..., columns]
            own[name] = kept.transpose(-1, -2) if transposed else kept
    output: Any = functional_call(layer.mlp, own, (hidden,))
    partial_sum: Tensor = output[0] if isinstance(output, tuple) else output
    return partial_sum


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
