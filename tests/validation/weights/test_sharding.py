"""Ranks together hold every weight, read only their slices, and never a pickled file."""

import subprocess
import sys

import pytest
import torch
from _support.runs import save_random_model
from _support.tiny_models import EXECUTED, write_config
from safetensors.torch import save_file

from isotune.simulator.architecture import read_model
from isotune.simulator.errors import InputError
from isotune.validation.executor import empty_model, parameters
from isotune.validation.weights import RandomWeights, Safetensors, Sharding, load_config

CPU = torch.device("cpu")


@pytest.mark.parametrize("family", list(EXECUTED))
@pytest.mark.parametrize("tp", [2, 4])
def test_ranks_hold_as_many_elements_as_the_simulator_counts(family, tp, tmp_path):
    folder = write_config(tmp_path / family, family)
    model = read_model(folder)
    config = load_config(folder, model.num_hidden_layers)
    sharding = Sharding(config, tp)
    weights = RandomWeights(torch.float32, CPU)
    for rank in range(tp):
        held = sum(
            weights.read(name, shape, sharding.slice_of(name, shape, rank)).numel()
            for name, shape in parameters(empty_model(config))
            if "layers." in name
        )
        assert held == model.block_weight_elements(tp), rank


@pytest.mark.parametrize(
    "family", ["llama", "phi3", "mixtral", "gpt_oss", "deepseek_v3", "qwen3_next"]
)
def test_slices_read_from_files_are_the_slices_of_the_whole(family, tmp_path):
    folder = save_random_model(write_config(tmp_path / family, family))
    config = load_config(folder, 2)
    files, sharding = Safetensors(folder, torch.float32, CPU), Sharding(config, 4)
    for name, shape in parameters(empty_model(config)):
        whole = files.read(name, shape, None)
        for rank in range(4):
            cut = sharding.slice_of(name, shape, rank)
            if cut is not None:
                assert torch.equal(files.read(name, shape, cut), cut.of(whole)), name


def test_a_rank_peaks_below_its_share_of_the_model_and_two_layers(tmp_path):
    sizes = {"hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 6}
    folder = write_config(tmp_path, "llama", **sizes, num_key_value_heads=8, vocab_size=4000)
    config = load_config(folder, 6)
    weights = RandomWeights(torch.float32, CPU)
    tensors = {n: weights.read(n, s, None) for n, s in parameters(empty_model(config))}
    save_file(tensors, folder / "model.safetensors")
    total = sum(tensor.nbytes for tensor in tensors.values())
    layer = sum(tensor.nbytes for name, tensor in tensors.items() if "layers.0." in name)
    code = f"""
import torch
from pathlib import Path
from isotune.validation.weights.families import load_config
from isotune.validation.ranks.rank import peak_resident_bytes as peak
from isotune.validation.executor.shard import empty_model, load_shard
from isotune.validation.weights.loading import Safetensors
folder, cpu = Path({str(folder)!r}), torch.device("cpu")
config = load_config(folder, 6)
empty_model(config)
Path('/proc/self/clear_refs').write_text('5')  # the peak from here on
before = peak()
shard = load_shard(config, Safetensors(folder, torch.float32, cpu), rank=1, tp=4)
print(peak() - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1"},
    )
    used = float(done.stdout)
    assert total / 4 < used < total / 4 + 2 * layer


def test_pickled_and_missing_weights_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"no \*\.safetensors"):
        Safetensors(tmp_path, torch.float32, CPU)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(InputError, match=r"pytorch_model\.bin is a pickled checkpoint"):
        Safetensors(tmp_path, torch.float32, CPU)
    (tmp_path / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(InputError, match=r"model\.safetensors: not a safetensors file"):
        Safetensors(tmp_path, torch.float32, CPU)
    save_file({"a": torch.zeros(2)}, tmp_path / "model.safetensors")
    files = Safetensors(tmp_path, torch.float32, CPU)
    with pytest.raises(InputError, match="have no b"):
        files.read("b", (2,), None)
    with pytest.raises(InputError, match=r"a has shape \[2\], not \[3\]"):
        files.read("a", (3,), None)
