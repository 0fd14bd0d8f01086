"""`isotune recover` writes a folder that everything still runs, or nothing."""

import copy
import errno
import io
import json
import math

import pytest
import torch
import yaml
from _support.learned import windows
from _support.recovering import DROPPED, FAMILIES, record_of
from _support.runs import save_random_model, unsharded
from _support.tiny_models import model_reference, write_config
from rich.console import Console
from transformers import AutoModelForCausalLM

from isotune.results import Recovery
from isotune.simulator.errors import InputError
from isotune.validation.spd.checkpoint import (
    BlockRecord,
    StepRecord,
    read_bias_corrections,
    read_record,
)
from isotune.validation.spd.model import evaluate, load_network
from isotune.validation.spd.recover import check_target, recover, write_recovered
from isotune.validation.spd.recover import folder as folders
from isotune.validation.spd.recover.repair import Repaired


@pytest.mark.parametrize("family", FAMILIES)
def test_the_folder_runs_in_transformers_and_keeps_what_was_not_touched(
    models, recovered, family, tmp_path
):
    source, target = models[family], tmp_path / "out"
    network, found = recovered[family]
    write_recovered(source, target, found.network, found.blocks, record_of(network, found))
    assert (target / "config.json").read_bytes() == (source / "config.json").read_bytes()
    assert {path.name for path in source.iterdir()} == {p.name for p in target.iterdir()} - {"spd"}
    for name in ("", "model.safetensors"):
        assert (target / name).stat().st_mode == (source / name).stat().st_mode
    ids = windows(2, 5).ids
    model = AutoModelForCausalLM.from_pretrained(target).eval()
    with torch.no_grad():
        got, want = model(ids).logits, unsharded(source)(ids).logits
    reloaded = load_network(target, 4)
    stream = reloaded.enter(windows(2, 5))
    hidden = stream.hidden
    for index in DROPPED:
        hidden = reloaded.run(index, hidden, stream.calls, drop=False)
    assert torch.allclose(reloaded.logits(ids, hidden, 24), got, atol=1e-4)
    if not any(block.distilled for block in found.blocks):
        assert torch.allclose(got, want, atol=1e-4)
    unseen = windows(16, 6)
    assert evaluate(reloaded, unseen, dropped=DROPPED).nats == pytest.approx(
        evaluate(found.network, unseen, dropped=DROPPED).nats, rel=1e-6
    )
    record = read_record(target)
    assert record is not None
    assert record.dropped == DROPPED


def test_grouped_but_not_distilled_weights_are_the_same_function_in_transformers(models, tmp_path):
    source, target = models["qwen2"], tmp_path / "out"
    network = load_network(source, 2)
    found = recover(network, windows(32, 1), windows(32, 2), DROPPED, ("heads", "neurons"))
    assert any(block.neuron_order is not None for block in found.blocks)
    write_recovered(source, target, found.network, found.blocks, record_of(network, found, 2))
    ids = windows(2, 5).ids
    with torch.no_grad():
        got = AutoModelForCausalLM.from_pretrained(target).eval()(ids).logits
        want = unsharded(source)(ids).logits
    assert torch.allclose(got, want, atol=1e-4)
    assert read_bias_corrections(target, 2, dtype=torch.float32, device=torch.device("cpu")) == {}


@pytest.mark.parametrize("family", ["llama", "mixtral", "qwen3_moe"])
def test_changed_weights_keep_their_names_and_shards(family, tmp_path):
    source, target = write_config(tmp_path / family, family), tmp_path / "out"
    save_random_model(source)
    unsharded(source).save_pretrained(source, max_shard_size="90KB")
    (source / "model.safetensors").unlink()
    network = load_network(source, 2)
    layer = copy.deepcopy(network.layers[1])
    for parameter in layer.parameters():
        parameter.data = parameter.data * 1.25
    block, changed = Repaired(index=1, steps=(), distilled=True, layer=layer), network.branch()
    changed.replace(1, block.block(network.block(1)))
    found = type("Found", (), {"dropped": (1,), "blocks": (block,)})
    write_recovered(source, target, changed, (block,), record_of(network, found, 2))
    names = {path.name for path in source.iterdir()}
    assert len(names) > 4
    assert names == {path.name for path in target.iterdir()} - {"spd"}
    text = windows(2, 5)
    want = evaluate(changed, text).nats
    assert abs(want - evaluate(network, text).nats) > 1.0
    assert evaluate(load_network(target, 2), text).nats == pytest.approx(want, rel=1e-6)
    model = AutoModelForCausalLM.from_pretrained(target).eval()
    with torch.no_grad():
        logits = model(text.ids).logits[:, 2:-1]
    wanted = text.ids[:, 3:].flatten()
    nats = torch.nn.functional.cross_entropy(logits.flatten(0, 1), wanted, reduction="sum")
    assert float(nats) == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), None])
def test_a_full_disk_or_weights_that_are_not_finite_leave_nothing(
    models, recovered, tmp_path, monkeypatch, error
):
    network, found = recovered["llama"]
    source, target, blocks = models["llama"], tmp_path / "out", found.blocks

    def full(*_):
        raise error

    if error is not None:
        monkeypatch.setattr(folders, "save_file", full)
    else:
        layer = next(block.layer for block in blocks if block.layer is not None)
        weight = layer.mlp.down_proj.weight
        monkeypatch.setattr(weight, "data", torch.full_like(weight, math.inf))
    with pytest.raises(InputError, match=r"No space left|would not be finite") as stop:
        write_recovered(source, target, found.network, blocks, record_of(network, found))
    assert "\n" not in str(stop.value)
    assert "nothing was written" in str(stop.value)
    assert list(tmp_path.iterdir()) == []


def test_an_output_folder_that_cannot_be_is_refused_before_the_work(models, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="exists"):
        check_target(models["llama"], models["opt"])
    with pytest.raises(InputError, match="cannot write it"):
        check_target(models["llama"], tmp_path / "no" / "where")
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr(folders.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(InputError, match=r"the disk has 0\.00 GB left"):
        check_target(models["llama"], tmp_path / "out")


@pytest.mark.parametrize("kept", [True, False])
def test_a_recovery_tells_each_steps_noise_and_whether_any_helped(models, kept):
    step = StepRecord(step="bias", before=2.5, after=2.4375, noise=0.03125, kept=kept)
    found = type("Found", (), {"dropped": (1,), "blocks": ()})
    record = record_of(load_network(models["llama"], 2), found, 2)
    record = record.model_copy(update={"blocks": (BlockRecord(block=1, steps=(step,)),)})
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(Recovery.of(record, "recovered"))
    told = console.export_text()
    assert ["1", "bias", "2.50000", "2.43750", "0.03125"] in [
        line.split()[:5] for line in told.splitlines()
    ]
    assert ("No step lowered the loss by more than noise" in told) == (not kept)


@pytest.fixture
def plan(models, tmp_path):
    path = tmp_path / "plan.yaml"
    fields = {
        "hardware": "a800",
        "model": model_reference(models["llama"]),
        "workload": {"prompt": 24, "tp": 2},
        "plan": {"strategy": "iso", "chunks": [16, 8], "dropped": [0, 2]},
    }
    path.write_text(yaml.safe_dump(fields))
    return path


@pytest.fixture
def text(tmp_path):
    """Bytes below 131, which the tiny models know as tokens."""
    path = tmp_path / "text.txt"
    path.write_bytes(bytes(windows(60, 8).ids.flatten().tolist()))
    return path


@pytest.fixture
def bytes_are_tokens(monkeypatch):
    """The tiny models know 131 tokens; the text has no others."""
    from isotune.validation.spd.model import text as texts

    told = texts.Tokenizer(name="b", encode=list)
    monkeypatch.setattr("isotune.validation.spd.model.read_tokenizer", lambda *_: told)


@pytest.mark.usefixtures("bytes_are_tokens")
def test_by_class_each_block_is_taken_through_the_steps_of_its_class(
    isotune, models, text, tmp_path
):
    table, target = tmp_path / "sensitivity.json", tmp_path / "out"
    on = ("--model", models["llama"], "--tp", "2", "--text", text, "--context", "24", "--json")
    code, out, err = isotune("sensitivity", *on, "--quantiles", "34%,67%", "-o", table)
    assert code == 0, err
    classes = json.loads(out)["classes"]
    assert sorted(classes) == ["ESB", "ISB", "SB"]
    command = ("recover", *on, "--drop", "0-2", "--sensitivity", table, "--epochs", "2")
    code, out, err = isotune(*command, "-o", target)
    assert code == 0, err
    taken = [[step["step"] for step in block["steps"]] for block in json.loads(out)["blocks"]]
    steps = {"ISB": [], "SB": ["distil"], "ESB": ["heads", "distil"]}
    assert taken == [steps[kind] for kind in classes]
    code, _, err = isotune(*command, "-o", tmp_path / "other", "--block-steps", "3=heads")
    assert (code, err.count("\n")) == (2, 1)
    assert "block 3 is not dropped" in err


@pytest.mark.usefixtures("bytes_are_tokens")
def test_the_command_recovers_the_plans_drops_into_a_new_folder_of_an_original(
    isotune, plan, text, tmp_path
):
    target = tmp_path / "out"
    command = ("recover", "--plan", plan, "--text", text, "--eval-text", text, "-o", target)
    sizes = ("--context", "24", "--windows", "32", "--batch", "16", "--epochs", "2")
    code, out, err = isotune(*command, *sizes, "--steps", "bias,neurons", "--json")
    assert code == 0, err
    told = json.loads(out)
    assert told["dropped"] == [0, 2]
    assert any(block["corrected"] for block in told["blocks"])
    assert told["evaluation"]["recovered"] <= told["evaluation"]["zero_shot"]
    assert not list(tmp_path.glob(".out*"))
    code, _, err = isotune(*command, *sizes)
    assert (code, err.count("\n")) == (2, 1)
    assert "exists (allowed: a new folder)" in err
    code, _, err = isotune("recover", *command[1:-1], tmp_path / "twice", "--model", target)
    assert code == 2
    assert "recovered already" in err


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (("--drop", "0"), "--plan has the tp and the drop set"),
        (("--steps", "magic"), "unknown step 'magic' (allowed: bias, heads, neurons, distil"),
        (("--block-steps", "1=heads"), "block 1 is not dropped"),
        (("--block-steps", "heads"), "is not blocks=steps"),
        (("--held-back", "0%"), "leaves no text"),
        (("--model", "nowhere"), "nowhere: not a folder"),
    ],
)
def test_bad_input_is_one_line(isotune, plan, text, tmp_path, extra, message):
    code, _, err = isotune("recover", "--plan", plan, "--text", text, "-o", tmp_path / "o", *extra)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
