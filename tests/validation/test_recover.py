"""`isotune recover`: what drops cost is won back, into a folder that everything still runs."""

import copy
import errno
import io
import json
import math

import pytest
import torch
import yaml
from learned import save_learned_model, windows
from rich.console import Console
from runs import save_random_model, unsharded
from tiny_models import model_reference, write_config
from transformers import AutoModelForCausalLM

from isotune.recovery_view import recovery_view
from simulator.errors import InputError
from simulator.treatment import STEPS
from validation.spd import folder as folders
from validation.spd.corrections import read_missing
from validation.spd.distil import Training, distil
from validation.spd.folder import check_target, write_recovered
from validation.spd.network import evaluate, load_network
from validation.spd.paired import Change
from validation.spd.record import BlockRecord, Perplexities, Record, StepRecord, read_record
from validation.spd.recover import Repaired, Settings, block_record, recover
from validation.spd.resume import Kept

FAMILIES = ("llama", "opt", "qwen2")
DROPPED = (0, 1, 2)
SETTINGS = Settings(batch=16, training=Training(epochs=3))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    place = tmp_path_factory.mktemp("recover")
    return {family: save_learned_model(place / family, family) for family in FAMILIES}


@pytest.fixture(scope="module")
def recovered(models):
    """Each family with every sync dropped and every step tried."""
    found = {}
    for family, folder in models.items():
        network = load_network(folder, 4)
        found[family] = (
            network,
            recover(network, windows(48, 1), windows(32, 2), DROPPED, STEPS, settings=SETTINGS),
        )
    return found


def record_of(network, found, tp=4) -> Record:
    nothing = Perplexities(tokens=1, whole=1.0, zero_shot=1.0, recovered=1.0, synced=1.0)
    return Record(
        model=network.shape.name,
        tp=tp,
        dropped=found.dropped,
        blocks=tuple(map(block_record, found.blocks)),
        held_back=nothing,
        text="",
        context=24,
        seed=0,
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_recovery_wins_back_loss_on_held_back_and_on_unseen_text(recovered, family):
    network, found = recovered[family]
    assert found.recovered.nats < found.zero_shot.nats
    assert found.whole.nats < found.zero_shot.nats
    unseen = windows(64, 3)
    zero_shot = evaluate(network, unseen, dropped=DROPPED)
    assert evaluate(found.network, unseen, dropped=DROPPED).nats < zero_shot.nats


def in_order(found):
    """The results of all blocks, step after step."""
    steps = zip(*(block.steps for block in found.blocks), strict=True)
    return [result for results in steps for result in results]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_is_kept_where_it_lowers_the_loss_of_the_whole_set_by_more_than_noise(
    recovered, family
):
    _, found = recovered[family]
    loss = found.zero_shot.nats / found.zero_shot.tokens
    results = in_order(found)
    assert [result.step for result in results] == [step for step in STEPS for _ in DROPPED]
    for result in results:
        assert result.before == loss
        assert result.kept == (result.before - result.after > result.noise)
        loss = result.after if result.kept else result.before
    assert any(result.kept for result in results)
    assert any(result.noise > 0 for result in results)
    assert loss == found.recovered.nats / found.recovered.tokens


def test_distillation_may_start_from_groupings_that_were_not_kept_by_themselves(recovered):
    started = 0
    for _, found in recovered.values():
        for block in found.blocks:
            steps = {result.step: result for result in block.steps}
            distilled = steps["distil"]
            moved = {
                "heads": block.query_order is not None,
                "neurons": block.neuron_order is not None,
            }
            for name, has_moved in moved.items():
                used = distilled.kept and "from grouped" in distilled.note
                used = used and name in distilled.note.partition("from grouped")[2]
                assert has_moved == (steps[name].kept or used)
                assert not (used and steps[name].kept)
                started += used
    assert started


def test_a_change_within_its_standard_error_is_noise():
    before = (10.0, 20.0, 30.0)
    lower = Change.of(before, (9.0, 18.0, 27.0), 6)
    assert (lower.mean, lower.error) == pytest.approx((-1.0, 0.5 / math.sqrt(3)))
    assert lower.lower
    assert not Change.of(before, (9.0, 18.0, 32.5), 6).lower
    assert not Change.of(before, before, 6).lower
    assert Change.of((10.0,), (9.999,), 6).lower


def test_the_network_after_each_stage_is_that_of_the_steps_so_far_alone(models):
    """So one recovery shows what every further step brings."""
    network, texts, stages = load_network(models["llama"], 4), (windows(48, 1), windows(32, 2)), []

    def told(step, now):
        stages.append((step, evaluate(now, texts[1], dropped=DROPPED, batch=16)))

    recover(network, *texts, DROPPED, STEPS, settings=SETTINGS, on_stage=told)
    assert [step for step, _ in stages] == list(STEPS)
    alone = recover(network, *texts, DROPPED, STEPS[:3], settings=SETTINGS)
    assert alone.recovered == stages[2][1]


@pytest.mark.parametrize("step", STEPS)
def test_each_step_alone_never_raises_the_loss(models, step):
    network = load_network(models["llama"], 4)
    found = recover(network, windows(32, 1), windows(32, 2), DROPPED, (step,), settings=SETTINGS)
    assert found.recovered.nats <= found.zero_shot.nats
    assert [s.step for block in found.blocks for s in block.steps] == [step] * 3
    if step != "distil":
        assert found.synced.nats == pytest.approx(found.whole.nats, rel=1e-6)


def test_zero_shot_changes_nothing_and_the_network_given_stays_as_it_was(models, recovered):
    network = load_network(models["llama"], 4)
    fresh = evaluate(network, windows(8, 3)).nats
    found = recover(network, windows(8, 1), windows(8, 2), (1,), ())
    assert found.recovered.nats == pytest.approx(found.zero_shot.nats, rel=1e-6)
    assert found.blocks[0].steps == ()
    given, _ = recovered["llama"]
    assert evaluate(given, windows(8, 3)).nats == fresh
    assert given.missing == {}


def test_the_student_learns_what_its_teacher_gives_and_stops_when_it_does_not(models):
    network = load_network(models["llama"], 4)
    block = network.block(0)
    fit = [network.enter(part) for part in windows(48, 1).batches(8)]
    held = [network.enter(windows(32, 2))]
    found = distil(block, block, 0, fit, held, Training(epochs=4))
    assert found.errors[found.epoch] == min(found.errors) < found.errors[0]
    with torch.no_grad():
        call = held[0].calls[0]
        want = block.layer(held[0].hidden, **call)
        before, after = (
            (student.dropped(held[0].hidden, call) - want).square().mean()
            for student in (block, found.block)
        )
    assert after < before
    hopeless = distil(block, block, 0, fit, held, Training(rate=1e3, retries=0, patience=1))
    assert hopeless.epoch == 0
    assert len(hopeless.errors) == 2


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
    assert read_missing(target, 2, dtype=torch.float32, device=torch.device("cpu")) == {}


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


@pytest.mark.parametrize("family", FAMILIES)
def test_an_interrupted_recovery_goes_on_to_the_same_result_bit_for_bit(
    models, recovered, tmp_path, family
):
    network, kept = load_network(models[family], 4), Kept(folder=tmp_path / "kept", digest="a")
    texts, told = (windows(48, 1), windows(32, 2)), []

    def run(most):
        """Go on for so many blocks, then be interrupted."""
        end = len(told) + most

        def stop(block):
            kept.add(block)
            told.append((block.index, len(block.steps)))
            if len(told) == end:
                raise KeyboardInterrupt

        done = kept.load(network)
        return recover(network, *texts, DROPPED, STEPS, settings=SETTINGS, done=done, on_block=stop)

    # In the first of the four stages, in the second, after it, and in the last.
    for most in (2, 2, 2, 5):
        with pytest.raises(KeyboardInterrupt):
            run(most)
    again, whole = run(len(DROPPED) * len(STEPS)), recovered[family][1]
    assert told == [(block, step) for step in range(1, 5) for block in DROPPED]
    assert again.recovered == whole.recovered
    assert again.synced == whole.synced
    for one, other in zip(again.blocks, whole.blocks, strict=True):
        assert one.steps == other.steps
        assert same(one.missing, other.missing)
        assert (one.layer is None) == (other.layer is None)
        if one.layer is not None:
            pairs = zip(one.layer.parameters(), other.layer.parameters(), strict=True)
            assert all(same(*pair) for pair in pairs)
    assert Kept(folder=tmp_path / "kept", digest="b").load(network) == {}
    kept.remove()
    assert not (tmp_path / "kept").exists()


def same(one, other) -> bool:
    return one is other or torch.equal(one, other)


def test_blocks_with_steps_of_their_own_go_on_after_an_interruption_too(models, tmp_path):
    network, kept = load_network(models["opt"], 4), Kept(folder=tmp_path / "kept", digest="a")
    steps = {0: ("heads", "distil"), 1: (), 2: ("bias", "distil")}
    texts, told = (windows(48, 1), windows(32, 2)), []

    def stop(block):
        kept.add(block)
        told.append((block.index, [step.step for step in block.steps]))
        if len(told) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recover(network, *texts, DROPPED, steps, settings=SETTINGS, on_block=stop)
    done = kept.load(network)
    again = recover(network, *texts, DROPPED, steps, settings=SETTINGS, done=done, on_block=stop)
    assert told == [
        (2, ["bias"]),
        (0, ["heads"]),
        (0, ["heads", "distil"]),
        (2, ["bias", "distil"]),
    ]
    whole = recover(network, *texts, DROPPED, steps, settings=SETTINGS)
    assert again.recovered == whole.recovered
    assert again.blocks[1].steps == ()


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
    console.print(recovery_view(record))
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
    from validation.spd import text as texts

    monkeypatch.setattr(texts, "read_tokenizer", lambda *_: texts.Tokenizer(name="b", encode=list))


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
