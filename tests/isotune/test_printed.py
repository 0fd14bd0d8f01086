"""What commands print for people: golden text, 80 columns wide, plain without a terminal.

After a change that is meant: `pytest --update-golden tests/isotune/test_printed.py`.
"""

import re
from dataclasses import replace
from io import StringIO
from types import SimpleNamespace

import pytest
from rich.console import Console

from isotune.present.terminal import WIDTH, Bar
from isotune.results import Validation
from isotune.simulator.predict import predict
from isotune.simulator.schedule import Plan, measurement
from isotune.validation import real_run

SMALL = ("--hw", "a800", "--model", "llama-2-7b", "--prompt", "2k")
CASES = {
    "predict_serial": ("predict", *SMALL),
    "predict_one_gpu": ("predict", *SMALL, "--tp", "1"),
    "predict_iso": ("predict", *SMALL, "--strategy", "iso", "--chunks", "1152,896"),
    "predict_lossy": ("predict", *SMALL, "--drop", "3", "--comm-dtype", "int8"),
    "predict_note": ("predict", "--hw", "l4", "--model", "llama-2-7b", "--prompt", "1k"),
    "search": ("search", *SMALL, "--trials", "30"),
    "search_details": ("search", *SMALL, "--trials", "30", "--details"),
    "predict_details": (
        "predict",
        *SMALL,
        "--strategy",
        "iso",
        "--chunks",
        "1152,896",
        "--details",
    ),
    "search_long": (
        *("search", "--hw", "rtx4090", "--model", "llama-2-7b", "--prompt", "64k"),
        *("--trials", "10", "--comm-dtype", "int8", "--max-chunks", "2"),
    ),
    "search_decode": ("search", *SMALL, "--trials", "10", "--phase", "decode"),
    "policy": ("search", *SMALL[:4], "--prompt", "100:700"),
    "sweep": (
        *("sweep", "--hw", "a800,l4", "--model", "llama-2-7b", "--tp", "3,4", "--jobs", "1"),
        *("--prompt", "512,2k", "--strategies", "serial,gemm_overlap,iso,spd", "-o", "t.csv"),
    ),
    "compare": (
        *("compare", "--hw", "h100,h800", "--model", "llama-3.1-70b", "--tp", "8,4"),
        *("--cp", "1,2", "--engine", "nccl,vllm"),
    ),
    "compare_decode": (
        *("compare", "--hw", "a800", "--model", "llama-2-7b", "--phase", "decode", "--tp", "2,1"),
        *("--batch", "32", "--strategies", "iso", "--weight-dtype", "int8"),
    ),
    "check": ("check", "passes.csv", "--worst", "1"),
    "check_folder": ("check", ".", "--worst", "1"),
    "hw_list": ("hw", "list"),
    "hw_diff": ("hw", "diff", "a100", "a800-pcie"),
    "predict_engine": (
        *("predict", "--hw", "h100", "--model", "llama-3.1-70b", "--prompt", "2k"),
        *("--engine", "vllm", "--strategy", "iso", "--chunks", "16,2032"),
    ),
    "predict_engine_details": (
        *("predict", "--hw", "a800", "--model", "llama-3.1-70b", "--phase", "decode"),
        *("--batch", "32", "--engine", "vllm", "--details"),
    ),
    "engines_list": ("engines", "list"),
    "engines_show": ("engines", "show", "trtllm"),
    "engines_diff": ("engines", "diff", "sglang", "trtllm"),
    "models_list": ("models", "list"),
    "models_show": ("models", "show", "mixtral-8x22b"),
}
PASSES = """hw,model,tp,batch,prompt_len,phase,steps,link,runtime,strategy,latency_ms,source
h100,Qwen2.5-72B-Instruct,8,1,4096,prefill,1,nvlink_multimem,vllm_eager,serial,180,me
h100,Qwen2.5-72B-Instruct,8,1,4096,prefill,1,nvlink_multimem,vllm_eager,spd_all,160,me
h100,Qwen2.5-720B,8,1,4096,prefill,1,nvlink_multimem,vllm_eager,serial,180,me
"""


@pytest.mark.parametrize("name", CASES)
def test_commands_print_what_they_did(isotune, golden, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "passes.csv").write_text(PASSES)
    done = isotune(*CASES[name])
    assert (done.code, done.err) == (0, "")
    assert max(map(len, done.out.splitlines())) <= 80
    assert "\x1b" not in done.out
    assert "\N{HORIZONTAL ELLIPSIS}" not in done.out, "a cell does not fit"
    # The only figure that a clock makes.
    golden(name, re.sub(r"\d+/s\)", "N/s)", done.out))


@pytest.mark.parametrize("state", ["measured", "early"])
def test_a_validation_is_printed_with_its_errors(make_scenario, golden, state):
    scenario = make_scenario(prompt=1024, tp=2)
    plan = Plan(strategy="iso", chunks=(512, 512))
    both = [predict(scenario, asked) for asked in (plan, Plan())]
    sides = [_ran(prediction, 1.1) for prediction in both]
    if state == "early":
        sides[0] = real_run.Comparison(prediction=both[0], measured=None)
    setup = SimpleNamespace(
        scenario=scenario,
        plan=plan,
        weights=None,
        ranks=2,
        device="cpu",
        notes=("a note",),
        launch="eager",
        emulated=False,
    )
    numbers = SimpleNamespace(
        max_rel_error=2e-6,
        tolerance=1e-4,
        ok=True,
        reference="transformers",
        dtype="float32",
        positions=1024,
    )
    result = real_run.Validation(
        setup=setup,
        numbers=numbers,
        plan=sides[0],
        serial=sides[1],
        peak_bytes={0: 1.5e9},
        failure="interrupted" if state == "early" else None,
    )
    console = Console(width=80, file=StringIO(), record=True, highlight=False)
    console.print(Validation.of(result))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    golden(f"validate_{state}", text)


def _ran(prediction, factor):
    """A run that took `factor` times as long as predicted, three times."""
    timeline = prediction.timeline
    slower = replace(
        timeline,
        starts=tuple(factor * start for start in timeline.starts),
        ends=tuple(factor * end for end in timeline.ends),
        latency=factor * timeline.latency,
    )
    return real_run.Comparison(
        prediction=prediction, measured=measurement(prediction.program, [[slower]] * 3)
    )


def test_a_bar_is_as_long_as_its_share_and_ascii_where_it_must():
    def drawn(share, encoding):
        file = StringIO()
        console = Console(file=file, width=40)
        options = console.options.update(width=40)
        options.encoding = encoding
        return "".join(segment.text for segment in console.render(Bar(share), options))

    assert drawn(1.0, "utf-8") == "\N{FULL BLOCK}" * WIDTH
    assert drawn(0.5, "utf-8") == "\N{FULL BLOCK}" * (WIDTH // 2)
    assert drawn(0.0, "utf-8") == ""
    assert drawn(3.0, "ascii") == "#" * WIDTH
    assert len(drawn(0.99, "utf-8")) == WIDTH
    assert drawn(0.5, "ascii").isascii()
