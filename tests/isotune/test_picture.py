"""A block in time as a picture of its own."""

import re
from xml.etree import ElementTree as ET

import pytest

import isotune
from isotune.present import timeline_picture

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def blocks():
    plan = isotune.Plan(strategy="iso", chunks=(1024, 3072))
    return isotune.predict(isotune.scenario("llama-2-7b", "a800"), plan).complete().timelines


def bars(root):
    return [one for one in root.iter(f"{SVG}rect") if one.get("fill") != "url(#lost)"]


def test_every_step_of_the_block_is_a_bar_as_long_as_it_takes(blocks):
    root = ET.fromstring(timeline_picture(blocks))
    seen = {
        name: [s for s in b.steps if s.end_s > 0 and s.start_s < b.duration_s]
        for name, b in blocks.items()
    }
    assert len(bars(root)) == sum(map(len, seen.values()))
    longest = max(block.duration_s for block in blocks.values())
    whole = 760 - 150 - 10
    (serial,) = [s for s in seen["serial"] if s.name == "mlp" and s.block == blocks["serial"].block]
    expected = (serial.end_s - serial.start_s) / longest * whole
    assert any(float(bar.get("width")) == pytest.approx(expected, abs=0.06) for bar in bars(root))


def test_no_bar_leaves_the_picture(blocks):
    root = ET.fromstring(timeline_picture(blocks))
    for bar in root.iter(f"{SVG}rect"):
        assert float(bar.get("x")) >= 150
        assert float(bar.get("x")) + float(bar.get("width")) <= 750.1


def test_what_contention_takes_is_hatched(blocks):
    text = timeline_picture(blocks)
    assert text.count("url(#lost)") == sum(
        s.lost_s > 1e-9 and s.end_s > 0 and s.start_s < b.duration_s
        for b in blocks.values()
        for s in b.steps
    )
    assert "url(#lost)" not in timeline_picture({"serial": blocks["serial"]})


def test_a_name_is_text_and_nothing_else(blocks):
    text = timeline_picture({"<script>alert(1)</script>": blocks["serial"]})
    assert not re.search("<script", text)
    assert ET.fromstring(text).get("aria-label").endswith("alert(1)</script>")
