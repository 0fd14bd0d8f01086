"""A model is found by its name, its Hugging Face id or its path, and never guessed."""

import json
from pathlib import Path

import pytest
from _support.families import tiny

from isotune.simulator.architecture import REPOSITORIES, bundled_models, load_model
from isotune.simulator.errors import InputError
from isotune.simulator.files import locate


def repository(cache: Path, hashes: tuple[str, ...] = ("abc",)) -> Path:
    """A repository as the Hugging Face cache keeps it: links in snapshots to nameless blobs."""
    folder = cache / "models--some-org--Some-Model"
    (folder / "blobs").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(hashes[-1])
    for number, name in enumerate(hashes):
        blob = folder / "blobs" / f"{number}"
        blob.write_text(json.dumps(tiny("llama") | {"vocab_size": 100 + number}))
        (folder / "snapshots" / name).mkdir(parents=True)
        (folder / "snapshots" / name / "config.json").symlink_to(blob)
    return folder


def test_every_repository_is_of_a_bundled_model_and_of_one_only() -> None:
    assert set(REPOSITORIES) <= set(bundled_models())
    names = [name.lower() for found in REPOSITORIES.values() for name in found]
    assert len(names) == len(set(names))


def test_an_id_is_the_bundled_model_of_its_repository() -> None:
    assert load_model("meta-llama/Llama-3.1-70B-Instruct") == load_model("llama-3.1-70b")
    assert load_model("Meta-Llama/llama-2-7B-HF") == load_model("llama-2-7b")


def test_an_id_in_the_local_cache_is_its_current_snapshot_by_its_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = repository(tmp_path / "hub", ("old", "new"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    found = load_model("some-org/Some-Model")
    assert (found.name, found.vocab_size) == ("Some-Model", 101)
    assert load_model(str(folder)) == found
    assert load_model(str(folder / "snapshots" / "new")) == found
    (folder / "refs" / "main").unlink()
    assert load_model(str(folder)).name == "Some-Model"


def test_an_id_that_is_nowhere_names_the_cache_and_the_nearest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=rf"cache {tmp_path} \(did you mean qwen3-32b"):
        load_model("Qwen/Qwen3-32C")


def test_an_unknown_decoder_is_read_as_a_known_one_and_says_so(tmp_path: Path) -> None:
    file = tmp_path / "new.json"
    file.write_text(json.dumps(tiny("llama") | {"model_type": "novel"}))
    with pytest.raises(InputError, match="'novel' is not supported"):
        load_model(str(file))
    guessed = load_model(f"{file} as llama")
    assert guessed.architecture == "llama"
    assert guessed.left_out(1) == ("new: novel read as llama: its blocks may be others.",)
    with pytest.raises(InputError, match="'mamba' is not supported"):
        load_model(f"{file} as mamba")
    assert load_model("llama-2-7b as llama").left_out(1) == ()


def test_a_plan_file_finds_a_model_beside_it_with_its_family(tmp_path: Path) -> None:
    (tmp_path / "own.json").write_text("{}")
    assert locate("own.json as llama", tmp_path) == f"{tmp_path / 'own.json'} as llama"
    assert locate("absent.json as llama", tmp_path) == "absent.json as llama"
