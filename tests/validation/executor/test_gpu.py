"""What only a GPU can show. The kernel's compilation needs none, only Triton."""

import re
import subprocess

import pytest
import torch
from _support.runs import PROMPT, Case, ids, run_cases, save_random_model, unsharded
from _support.tiny_models import write_config
from _support.triton_stand_in import compiled_everywhere

from isotune.simulator.schedule import Plan
from isotune.validation.executor import Session, load_shard
from isotune.validation.executor.emulation import EngineCopy, Message, SmCopy
from isotune.validation.weights import Safetensors, load_config

GPUS = torch.cuda.device_count()
needs_gpu = pytest.mark.skipif(GPUS < 1, reason="needs a GPU")
needs_two = pytest.mark.skipif(GPUS < 2, reason="needs two GPUs")
ISO = Plan(strategy="iso", chunks=(13, 8))


@pytest.fixture
def folder(tmp_path):
    return save_random_model(write_config(tmp_path / "tiny", "llama"))


@needs_gpu
def test_one_gpu_computes_the_unsharded_models_logits_and_clocks_every_step(folder):
    from isotune.simulator.architecture import read_model

    device, model = torch.device("cuda:0"), read_model(folder)
    weights = Safetensors(folder, torch.float32, device)
    shard = load_shard(load_config(folder, 2), weights, rank=0, tp=1)
    session, tokens = Session(shard, model), ids(Case(folder=folder, plan=ISO))
    outcome = session.forward(ISO, tokens.to(device), session.cache(1, PROMPT))
    got = session.executor(ISO).logits(outcome.hidden).cpu()
    want = unsharded(folder)(tokens).logits
    assert (got - want).abs().max() <= 1e-4 * want.abs().max()
    clocked = outcome.times
    assert all(a <= b for a, b in zip(clocked.starts, clocked.ends, strict=True))


@needs_two
@pytest.mark.parametrize("plan", [Plan(), ISO, ISO.model_copy(update={"comm_sms": 4})])
def test_two_gpus_compute_the_unsharded_models_logits(folder, plan):
    case = Case(folder=folder, plan=plan)
    ((_, logits, _, _),) = run_cases([case], 2, device="cuda")
    want = unsharded(folder)(ids(case)).logits.numpy()
    assert abs(logits - want).max() <= 1e-4 * abs(want).max()


@needs_gpu
@pytest.mark.parametrize("kind", [EngineCopy, SmCopy])
def test_a_copy_takes_its_time_on_the_device(kind):
    device = torch.device("cuda:0")
    copy, message = kind(device), Message(sent=1 << 24, seconds=5e-3, sms=8)
    copy(message)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in "be")
    torch.cuda.synchronize(device)
    begin.record()
    copy(message)
    end.record()
    torch.cuda.synchronize(device)
    assert begin.elapsed_time(end) == pytest.approx(5.0, rel=0.1)


@needs_gpu
@pytest.mark.parametrize("held", [8, 32])
def test_a_copy_holds_its_sms(held):
    device = torch.device("cuda:0")
    sms = torch.cuda.get_device_properties(device).multi_processor_count
    x, weight = (torch.randn(8192, 8192, device=device, dtype=torch.bfloat16) for _ in "xw")
    copy = SmCopy(device)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in "be")

    def seconds():
        begin.record()
        for _ in range(15):
            torch.mm(x, weight)
        end.record()
        torch.cuda.synchronize(device)
        return begin.elapsed_time(end) / 1e3

    seconds()
    alone = seconds()
    copy(Message(sent=1 << 24, seconds=1e-4, sms=held))
    torch.cuda.synchronize(device)
    with torch.cuda.stream(torch.cuda.Stream(device, priority=-1)):
        copy(Message(sent=1 << 24, seconds=2 * alone, sms=held))
    assert seconds() / alone == pytest.approx(sms / (sms - held), rel=0.1)


@pytest.mark.filterwarnings("ignore:TRITON_:UserWarning")
def test_a_program_of_the_copy_takes_a_whole_sm(tmp_path):
    """Compiles without a GPU: its threads and registers leave room for no other kernel."""
    pytest.importorskip("triton", reason="needs triton")
    from triton import knobs

    from isotune.validation.executor.sm_copy import _BLOCK, _WARPS, _kernel

    kinds = {"source": "*i32", "target": "*i32"}
    constants = {"block": _BLOCK}
    of_80, of_90 = compiled_everywhere(_kernel, kinds, constants, (80, 90), num_warps=_WARPS)
    assert "globaltimer" in of_80.asm["ptx"]
    assert "globaltimer" in of_90.asm["ptx"]
    source = tmp_path / "copy.ptx"
    source.write_text(of_80.asm["ptx"])
    told = subprocess.run(
        [knobs.nvidia.ptxas.path, "-v", "-arch=sm_80", source, "-o", tmp_path / "copy.o"],
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    registers = int(re.search(r"Used (\d+) registers", told)[1])
    assert 2 * registers * 32 * _WARPS > 65536, "two programs fit on an SM"
