"""`isotune.load` generates what transformers generates, by any plan."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import tokenizers
import torch
from _support.runs import save_random_model, unsharded
from _support.tiny_models import VARIANTS, write_config
from transformers import PreTrainedTokenizerFast

import isotune
from isotune.simulator.errors import InputError
from isotune.simulator.files import Bucket, ModelReference, Policy, Rule
from isotune.simulator.schedule import Plan, Workload

PROMPTS = [[5, 9, 14, 77, 3, 20, 41], [8, 8, 100], [64, 23, 5, 90, 11, 2, 19], [30] * 12]
NEW = 5
ISO = Plan(strategy="iso", chunks=(60, 40))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_random_model(write_config(tmp_path_factory.mktemp("m") / "llama", "llama"))


def generated(folder, prompts, **options):
    """What transformers generates, each prompt by itself."""
    rows = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        options = {"do_sample": False, "eos_token_id": None, "pad_token_id": 0} | options
        mask = torch.ones_like(ids)
        whole = unsharded(folder).generate(ids, attention_mask=mask, max_new_tokens=NEW, **options)
        rows.append(whole[0, len(prompt) :].tolist())
    return rows


def loaded(folder, policy=None):
    return isotune.load(folder, policy, dtype="float32", device="cpu")


@pytest.mark.parametrize("family", VARIANTS)
def test_the_likeliest_tokens_are_those_of_transformers(tmp_path, family):
    folder = save_random_model(write_config(tmp_path / family, family))
    assert loaded(folder, ISO).generate(PROMPTS, NEW) == generated(folder, PROMPTS)


def test_a_policy_has_a_plan_for_each_length_and_refuses_others(folder, tmp_path):
    iso = Rule(strategy="iso", shares=(0.5, 0.5))
    policy = Policy(
        hardware="a800",
        model=ModelReference.of(isotune.load_model(str(folder)), str(folder)),
        workload=Workload(prompt=12, tp=2),
        serial_below=5,
        expected_saving=0.1,
        buckets=(
            Bucket(first=1, last=5, rule=Rule()),
            Bucket(first=6, last=12, rule=iso),
        ),
    )
    path = tmp_path / "policy.yaml"
    policy.write(path)
    model = loaded(folder, path)
    assert model.generate(PROMPTS, NEW) == generated(folder, PROMPTS)
    with pytest.raises(InputError, match=r"no bucket for 13 tokens \(allowed: 1 to 12\)"):
        model.generate([[3] * 13], NEW)


@pytest.mark.parametrize(
    "changes", [{}, {"temperature": 0.7}, {"top_k": 9}, {"top_p": 0.6}, {"top_k": 20, "top_p": 0.9}]
)
def test_drawn_tokens_are_those_that_transformers_draws(folder, changes):
    sampling = isotune.Sampling(**changes, seed=11)
    torch.manual_seed(11)
    off = {"temperature": 1.0, "top_k": 0, "top_p": 1.0}
    want = generated(folder, PROMPTS[:1], do_sample=True, **off | changes)
    assert loaded(folder).generate(PROMPTS[:1], NEW, sampling=sampling) == want


def test_a_sequence_ends_with_its_end_and_the_others_go_on(folder):
    whole = generated(folder, PROMPTS)
    end = whole[0][2]
    want = [row[: row.index(end) + 1] if end in row else row for row in whole]
    assert loaded(folder).generate(PROMPTS, NEW, end=end) == want


def test_prefill_and_decode_are_the_halves_of_generate(folder):
    model = loaded(folder, ISO)
    ids = torch.tensor([PROMPTS[0], PROMPTS[2]])
    logits = model.prefill(ids, room=1)
    whole = unsharded(folder)(ids).logits[:, -1]
    assert torch.allclose(logits, whole, atol=1e-4)
    tokens = logits.argmax(-1)
    longer = torch.cat((ids, tokens[:, None]), 1)
    want = unsharded(folder)(longer).logits[:, -1]
    assert torch.allclose(model.decode(tokens), want, atol=1e-4)
    with pytest.raises(InputError, match="no room left"):
        model.decode(tokens)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda f: loaded(f, Plan(strategy="gemm_overlap", chunks=(5, 5))), "splits no prompts"),
        (lambda f: isotune.load(f, dtype="int3", device="cpu"), r"'int3' \(allowed: bf16"),
        (lambda f: loaded(f).generate([], 3), "needs prompts"),
        (lambda f: loaded(f).generate([[]], 3), "needs prompts"),
        (lambda _: isotune.Sampling(temperature=0.0), "temperature above 0"),
        (lambda _: isotune.Sampling(top_p=1.5), "top_p"),
    ],
)
def test_what_cannot_be_run_is_one_line(folder, call, said):
    with pytest.raises(InputError, match=said):
        call(folder)


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no weights \(allowed: \*\.safetensors\)"):
        loaded(write_config(tmp_path / "bare", "llama"))


SCRIPT = """
import sys, isotune
model = isotune.load(sys.argv[1], isotune.Plan(strategy="iso", chunks=(60, 40)), dtype="float32",
                     device="cpu")
print(model.generate({prompts}, {new}), flush=True)
print(model.generate({prompts}, {new}, sampling=isotune.Sampling(seed=3)), flush=True)
"""


def test_under_torchrun_every_process_is_a_rank_and_all_have_the_tokens(folder):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = SCRIPT.format(prompts=PROMPTS, new=NEW)
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", code, folder],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(isotune.__file__).parents[1],
            env=os.environ
            | {"RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2"}
            | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            | {"PYTHONPATH": os.pathsep.join(sys.path), "GLOO_SOCKET_IFNAME": "lo"}
            | {"OMP_NUM_THREADS": "1"},
        )
        for rank in range(2)
    ]
    first, second = (rank.communicate(timeout=120)[0] for rank in ranks)
    assert [rank.returncode for rank in ranks] == [0, 0]
    assert first == second
    assert first.splitlines()[0] == str(generated(folder, PROMPTS))


def test_the_example_continues_prompts(tmp_path):
    folder = save_random_model(write_config(tmp_path / "llama", "llama"))
    words = {f"w{number}": number for number in range(131)} | {"[UNK]": 0}
    level = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    level.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=level, unk_token="[UNK]").save_pretrained(folder)
    example = Path(__file__).parents[3] / "examples" / "generate.py"
    done = subprocess.run(
        [sys.executable, example, folder, "--tokens", "3", "--prompt", "w5 w9", "--prompt", "w7"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "CUDA_VISIBLE_DEVICES": ""},
    )
    first, second = done.stdout.splitlines()
    assert first.startswith("w5 w9w")
    assert second.startswith("w7w")
