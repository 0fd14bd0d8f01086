"""One kernel in place of several gives what they give, and is taken only where it does."""

from importlib.util import find_spec

import pytest
import torch
from _support.triton_stand_in import compiled_everywhere, interpreted
from torch import nn
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.gpt_oss import modeling_gpt_oss
from transformers.models.llama import modeling_llama
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.phi3 import modeling_phi3

from isotune.validation.executor import fused_ops
from isotune.validation.executor.fused_ops import JoinedProducts, grouped_product, norm_of

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="needs triton")


@pytest.fixture
def fused(monkeypatch):
    monkeypatch.setattr(fused_ops, "FUSED_ON", {"cpu"})


def rms_norm(kind, width=64):
    torch.manual_seed(0)
    module = kind(width)
    module.weight = nn.Parameter(torch.randn(width), requires_grad=False)
    return module


@pytest.mark.usefixtures("fused")
def test_a_norm_of_the_known_form_becomes_one_kernel_with_the_same_values():
    module, hidden = rms_norm(LlamaRMSNorm), torch.randn(5, 64)
    one = norm_of(module)
    assert one is not module
    assert torch.allclose(one(hidden), module(hidden), atol=1e-6)


@pytest.mark.usefixtures("fused")
@pytest.mark.parametrize("kind", [GemmaRMSNorm, nn.LayerNorm])
def test_a_norm_of_another_form_stays_as_it_is(kind):
    module = rms_norm(kind)
    assert norm_of(module) is module


@pytest.mark.usefixtures("fused")
def test_a_look_alike_is_found_out():
    class OneMore(LlamaRMSNorm):
        def forward(self, hidden):
            return super().forward(hidden) + hidden * self.weight * 1e-2

    module = rms_norm(OneMore)
    assert norm_of(module) is module


def test_a_cpu_runs_the_modules_themselves():
    module = rms_norm(LlamaRMSNorm)
    assert norm_of(module) is module
    assert not fused_ops.rotates_in_one_kernel(
        torch.device("cpu"), modeling_llama.apply_rotary_pos_emb
    )


def neighbours(query, key, cosines, sines):
    """A rotation that pairs each dimension with the next one, as GPT-J has it."""

    def one(part):
        even, odd = part[..., ::2], part[..., 1::2]
        half = cosines.shape[-1] // 2
        cos, sin = cosines[:, None, :, :half], sines[:, None, :, :half]
        return torch.stack((even * cos - odd * sin, odd * cos + even * sin), -1).flatten(-2)

    return one(query), one(key)


@pytest.mark.parametrize(
    ("apply", "same"),
    [
        (modeling_llama.apply_rotary_pos_emb, True),
        (modeling_phi3.apply_rotary_pos_emb, True),
        (neighbours, False),
        (modeling_gpt_oss.apply_rotary_pos_emb, False),
    ],
)
def test_a_rotation_is_asked_which_dimensions_it_pairs(apply, same):
    assert fused_ops._pairs_halves(apply) is same


@pytest.mark.parametrize("bias", [False, True])
def test_joined_products_are_the_products_and_hold_the_weights_once(bias):
    torch.manual_seed(0)
    linears = [nn.Linear(16, width, bias=bias) for width in (24, 8, 8)]
    hidden = torch.randn(3, 5, 16)
    want = [linear(hidden) for linear in linears]
    joined = JoinedProducts(linears)
    for got, expected, linear in zip(joined(hidden), want, linears, strict=True):
        assert torch.allclose(got, expected, atol=1e-6)
        assert torch.allclose(linear(hidden), expected, atol=1e-6)
    storages = {linear.weight.untyped_storage().data_ptr() for linear in linears}
    assert len(storages) == 1


def test_products_of_which_some_have_a_bias_are_not_joined():
    linears = [nn.Linear(4, 4, bias=True), nn.Linear(4, 4, bias=False)]
    with pytest.raises(TypeError, match="all or none"):
        JoinedProducts(linears)


@pytest.mark.usefixtures("fused")
@pytest.mark.parametrize("ends", [[3, 3, 10, 10], [0, 0, 0, 10], [10, 10, 10, 10]])
def test_one_grouped_product_is_the_products_expert_by_expert(monkeypatch, ends):
    torch.manual_seed(0)
    rows = torch.randn(10, 16).bfloat16()
    weights = torch.randn(4, 24, 16).bfloat16()
    bounds = torch.tensor(ends, dtype=torch.int32)
    one = grouped_product(rows, weights, bounds)
    monkeypatch.setattr(fused_ops, "FUSED_ON", set())
    assert torch.allclose(one, grouped_product(rows, weights, bounds), atol=0.1)
    assert one.abs().max() > 1


ROTATE = """
import torch
from isotune.validation.executor.fused_ops import rotate_in_place, rotated_halves
torch.manual_seed(0)
for batch, heads, kv_heads, tokens, width, rotated, angles in (
    (2, 3, 1, 5, 8, 8, 1), (2, 4, 2, 7, 24, 16, 2), (1, 8, 1, 9, 128, 128, 1)
):
    joined = torch.randn(batch, tokens, (heads + 2 * kv_heads) * width)
    widths = [count * width for count in (heads, kv_heads, kv_heads)]
    query, key, value = (
        part.view(batch, tokens, -1, width).transpose(1, 2) for part in joined.split(widths, -1)
    )
    angle = torch.randn(angles, tokens, rotated // 2).repeat(1, 1, 2)
    cosines, sines = angle.cos(), angle.sin()
    want = [rotated_halves(part, cosines, sines) for part in (query, key)]
    before = value.clone()
    rotate_in_place(query, key, cosines, sines)
    assert torch.allclose(query, want[0], atol=1e-6)
    assert torch.allclose(key, want[1], atol=1e-6)
    assert torch.equal(value, before)
print("rotated")
"""


@needs_triton
def test_the_kernel_that_rotates_gives_the_rotation_in_place():
    assert "rotated" in interpreted(ROTATE)


@needs_triton
@pytest.mark.filterwarnings("ignore:TRITON_:UserWarning")
@pytest.mark.parametrize("capability", [80, 90, 100])
def test_the_kernel_that_rotates_compiles(capability):
    """Compiles without a GPU."""
    from isotune.validation.executor.rope_kernel import _kernel

    tensors = dict.fromkeys(("query", "key", "cosines", "sines"), "*bf16")
    compiled_everywhere(_kernel, tensors, {"most_heads": 8, "most_half": 64}, [capability])
