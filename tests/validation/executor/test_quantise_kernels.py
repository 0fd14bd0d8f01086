"""The kernels of a quantised all-reduce give the bytes of `Quantiser`, in three launches."""

from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import torch
from _support.triton_stand_in import compiled_everywhere, interpreted

from isotune.validation.executor import collective_ops
from isotune.validation.executor.collective_ops import QUANTISERS, TorchCodec, codec_of

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="needs triton")

COMPARE = """
import torch
from isotune.validation.executor.collective_ops import QUANTISERS, TorchCodec
from isotune.validation.executor.quantise_kernels import FusedCodec
torch.manual_seed(0)
for name, quantiser in QUANTISERS.items():
    for elements, width, ranks in ((40 * 64, 64, 2), (7 * 256, 256, 4), (3 * 24, 24, 3)):
        each = quantiser.over_rows(width)
        plain, fused = TorchCodec(each), FusedCodec(each.dtype, each.largest, each.group)
        message = 3 * torch.randn(elements)
        packed, want = fused.quantise(message, ranks), plain.quantise(message, ranks)
        totals = fused.total(want), plain.total(want)
        ends = torch.empty_like(message), torch.empty_like(message)
        for codec, end in zip((fused, plain), ends):
            codec.restore(want, end)
        assert torch.equal(*ends)
        assert torch.equal(packed, want), name
        assert torch.equal(*totals), name
        halves = [torch.empty(elements, dtype=torch.bfloat16) for _ in "fp"]
        for codec, half in zip((fused, plain), halves):
            codec.restore(want, half)
        assert torch.allclose(*halves, rtol=1e-2), name
print("the same")
"""


@needs_triton
def test_the_kernels_give_the_bytes_of_the_quantiser():
    assert "the same" in interpreted(COMPARE)


@needs_triton
@pytest.mark.filterwarnings("ignore:TRITON_:UserWarning")
@pytest.mark.parametrize("name", ["_quantise", "_sum", "_dequantise"])
@pytest.mark.parametrize(("whole", "capabilities"), [(True, (80, 90)), (False, (89, 90, 100))])
def test_the_kernels_compile(name, whole, capabilities):
    from isotune.validation.executor import quantise_kernels

    kinds = {"source": "*bf16", "target": "*bf16", "largest": "fp32"}
    kinds |= dict.fromkeys(("packed", "received", "total"), "*u8")
    kinds |= dict.fromkeys(("scales", "received_scales", "total_scales"), "*bf16")
    constants = {"whole": whole, "most": 128}
    compiled_everywhere(getattr(quantise_kernels, name), kinds, constants, capabilities)


@pytest.mark.parametrize(
    ("dtype", "group", "capability", "triton", "fused"),
    [
        ("int8", 128, (8, 0), True, True),
        ("fp8", 128, (8, 0), True, False),
        ("fp8", 128, (9, 0), True, True),
        ("int8", 3, (9, 0), True, False),
        ("int8", 128, (9, 0), False, False),
    ],
)
def test_which_codec_follows_from_the_device(monkeypatch, dtype, group, capability, triton, fused):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(collective_ops, "find_spec", lambda _: triton or None)
    made = []
    stand_in = SimpleNamespace(FusedCodec=lambda *arguments: made.append(arguments))
    module = "isotune.validation.executor.quantise_kernels"
    monkeypatch.setitem(__import__("sys").modules, module, stand_in)
    codec_of.cache_clear()
    quantiser = QUANTISERS[dtype].over_rows(group)
    found = codec_of(quantiser, torch.device("cuda"))
    codec_of.cache_clear()
    assert bool(made) is fused
    assert isinstance(found, TorchCodec) is not fused
