"""What is printed of a result agrees with what `--json` has, whatever the scenario."""

import re
from io import StringIO

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from rich.console import Console

import isotune
from isotune.present import view
from isotune.present.phrases import rough
from isotune.simulator.errors import InputError
from isotune.tuner.search import Options

SCREEN = 24
MACHINES = ("a800", "a100-lbw", "rtx4090", "h100", "h800")
EFFECT = re.compile(r"([\d.]+) % (faster|slower)(, which is less than its error)? \(80 % ")
NUMBER = r"([\d.,]+)"


def _printed(result, details=False):
    console = Console(width=80, file=StringIO(), record=True, highlight=False)
    console.print(view(result, details))
    return console.export_text()


@settings(max_examples=30)
@given(data=st.data())
def test_sentences_agree_with_the_numbers(data):
    draw = data.draw
    prompt = draw(st.integers(100, 6000))
    phase = draw(st.sampled_from(("prefill", "prefill", "decode")))
    lossy = draw(st.sampled_from(((), ("int8",), ("bf16", "int8"))))
    tp = draw(st.sampled_from((1, 2, 8)))
    scenario = isotune.scenario(
        "llama-2-7b", draw(st.sampled_from(MACHINES)), prompt=prompt, phase=phase, tp=tp
    )
    comm = {"comm_dtype": lossy[0], "comm_dtypes": lossy} if lossy else {}
    try:
        result = isotune.search(scenario, Options(trials=5, **comm))
    except InputError:
        assume(False)
    saved = result.to_dict()
    for text in (_printed(result), _printed(result, details=True)):
        _check(text, saved)
    brief = _printed(result)
    cautions = sum(len(caution) // 78 + 2 for caution in result.cautions)
    assert len(brief.splitlines()) <= SCREEN + cautions


def _check(text, saved):
    flat = " ".join(text.split())
    low, high = saved["saving_interval"]
    found = EFFECT.search(flat)
    serial = saved["plan"]["strategy"] == "serial"
    lossy = saved["plan"]["dropped"] or saved["plan"]["comm_dtype"] != "bf16"
    assert (found is None) == (serial and not lossy)
    if found is not None:
        assert float(found[1]) == pytest.approx(abs(saved["saving"]) * 100, abs=0.051)
        assert (found[2] == "faster") == (saved["saving"] >= 0)
        assert (found[3] is not None) == (low <= 0 <= high)
        assert ("Slower than serial" in flat) == (saved["saving"] < 0)
        assert ("outputs change" in flat) == bool(lossy)
    _check_pays(flat, saved)
    _check_simplest(flat, saved)
    able = [one["engine"] for one in saved["engines"] if one["runs"]]
    assert ("no serving engine as it is" in flat) == (found is not None and not able)


def _check_pays(flat, saved):
    pays = re.search(rf"ISO pays off at every length from about {NUMBER} tokens", flat)
    assert (pays is not None) == (saved["iso_pays_from"] is not None)
    if pays is None or "Not at" in flat:
        return
    iso = [t for t in saved["techniques"] if t["name"].startswith("ISO") and not t["lossy"]]
    best = min(iso, key=lambda technique: technique["latency_s"])
    prompt, surely = saved["workload"]["prompt"], saved["iso_surely_pays_from"]
    if prompt >= saved["iso_pays_from"]:
        assert best["saving"] > 0
    if surely is not None and prompt >= surely:
        assert best["saving_interval"][0] > 0


def _check_simplest(flat, saved):
    simplest = saved["simplest"]
    said = re.search(
        r"Simplest: cut in the middle.*? ([\d.]+) % faster, (no less|[\d.]+ points)", flat
    )
    assert (said is not None) == (simplest is not None and simplest["saving"] > 0)
    if said is not None:
        assert simplest["latency_s"] >= saved["latency_s"] * (1 - 1e-9)
        assert float(said[1]) == pytest.approx(simplest["saving"] * 100, abs=0.051)


@given(value=st.floats(1e-6, 1e8), digits=st.integers(1, 4), sign=st.sampled_from((1, -1)))
def test_a_rough_number_has_its_digits_and_no_more(value, digits, sign):
    text = rough(sign * value, digits)
    assert float(text.replace(",", "")) == pytest.approx(
        sign * value, rel=0.51 * 10 ** (1 - digits)
    )
    assert "e" not in text
    significant = text.replace(",", "").replace("-", "").replace(".", "").strip("0")
    assert len(significant) <= digits


def test_a_plan_that_is_slower_has_one_sign_in_its_sentence():
    scenario = isotune.scenario("llama-2-70b", "a100-lbw", phase="decode")
    result = isotune.search(scenario, Options(trials=5, comm_dtype="int8"))
    flat = " ".join(_printed(result).split())
    assert re.search(r"7\.\d % slower \(80 % interval: \d[\d.]* to \d[\d.]* %\)", flat)
    assert "Slower than serial" in flat


def test_details_have_every_operation_and_its_source_and_the_screen_has_not():
    result = isotune.search(isotune.scenario("llama-2-7b", "a800", prompt=2048), Options(trials=5))
    details, brief = _printed(result, details=True), _printed(result)
    for said in ("mlp down", "fitted to 829 rows", "exposed communication"):
        assert said in details
        assert said not in brief


def test_the_engines_that_run_a_plan_are_those_whose_export_takes_it_over():
    few = Options(trials=5, max_chunks=2)
    others = {"vLLM": False, "SGLang": False, "TensorRT-LLM": False}
    for machine, runs in (("h100", True), ("a800", False)):  # its kernels are those of sm90
        dense = isotune.search(isotune.scenario("llama-2-70b", machine), few)
        assert {one.engine: one.runs for one in dense.engines} == others | {"TokenWeave": runs}
    assert all(one.why for one in dense.engines if not one.runs)
    serial = isotune.search(
        isotune.scenario("llama-2-70b", "a800", phase="decode"), Options(trials=5)
    )
    assert {one.engine for one in serial.engines if one.runs} == set(others)
    unsupported = isotune.search(isotune.scenario("gemma-2-9b", "a800"), few)
    assert not any(one.runs for one in unsupported.engines)
