"""Whatever stands in a file, what reads it returns or says in one short line what is wrong.

By hand, for longer: `python experiments/fuzz_loaders.py --inputs 1000000`.
"""

import json
import random
from pathlib import Path

import fuzz
import fuzz_loaders
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isotune.results import KINDS, read_result
from isotune.simulator.errors import InputError

FEW = settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """A sound file of each kind, and a working directory that has them."""
    folder = tmp_path_factory.mktemp("files")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        (folder / "fuzzed").mkdir()
        yield fuzz.examples(folder)


def read(name, data):
    file = Path.cwd() / "fuzzed" / fuzz.KINDS[name].name
    file.write_bytes(data)
    assert not fuzz_loaders.complaint(fuzz_loaders.LOADERS[name], file)


def test_every_kind_of_file_has_a_loader():
    assert set(fuzz_loaders.LOADERS) >= set(fuzz.KINDS) - {"kernel names"}


@pytest.mark.parametrize("name", sorted(fuzz_loaders.LOADERS))
def test_a_sound_file_is_read(texts, name):
    file = Path.cwd() / "fuzzed" / fuzz.KINDS[name].name
    file.write_text(texts[name], encoding="utf-8")
    fuzz_loaders.LOADERS[name](file)


@pytest.mark.parametrize("name", sorted(fuzz_loaders.LOADERS))
@FEW
@given(data=st.data())
def test_a_broken_file_is_one_line(texts, name, data):
    """One to three values are others, or some bytes."""
    kind, text = fuzz.KINDS[name], texts[name]
    broken = fuzz.mutated_bytes(text.encode(), random.Random(data.draw(st.integers())))
    if data.draw(st.integers(0, 3)):
        schema = fuzz_loaders.SCHEMAS.get(name)
        edited = data.draw(fuzz_loaders.edited(kind.format.read(text), schema))
        broken = fuzz_loaders.written(kind, edited, broken)
    read(name, broken)


@pytest.mark.parametrize("name", sorted(fuzz_loaders.SCHEMAS))
@FEW
@given(data=st.data())
def test_a_file_of_the_schemas_shape_is_read_or_refused_in_one_line(texts, name, data):
    drawn = data.draw(fuzz_loaders.of_schema(fuzz_loaders.SCHEMAS[name]))
    read(name, fuzz_loaders.written(fuzz.KINDS[name], drawn, texts[name].encode()))


@pytest.mark.parametrize("name", sorted(KINDS))
@pytest.mark.usefixtures("texts")
@FEW
@given(data=st.data())
def test_a_result_of_the_schemas_shape_is_read_or_refused_in_one_line(name, data):
    """Every kind, also those whose command needs a checkpoint or ranks."""
    drawn = data.draw(fuzz_loaders.of_schema(KINDS[name]))
    file = Path.cwd() / "fuzzed" / "drawn.json"
    file.write_bytes(json.dumps(drawn | {"kind": name, "schema": 1}).encode())
    assert not fuzz_loaders.complaint(read_result, file)


def test_an_input_error_is_one_printable_line_of_500_characters():
    shown = str(InputError("file\n\x1b[31m: " + "x" * 9000 + " (allowed: this)"))
    assert shown.isprintable()
    assert len(shown) == 500
    assert shown.startswith("file")
    assert shown.endswith("(allowed: this)")
    assert str(InputError("short")) == "short"


def test_a_base_with_an_overlong_name_is_refused(texts):
    read(
        "derived profile",
        texts["derived profile"]
        .replace("derived_from: l40s", "derived_from: " + "x" * 5000)
        .encode(),
    )
