"""Results as the commands save them, and a headless Chromium to look at their page."""

import contextlib
import io
import json
import os
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from isotune.cli import main

BLOCKS = 32
GEMMS = "op,hw,dtype,m,n,k,latency_us\n" + "".join(
    f"gemm,a800,bf16,{m},4096,{k},{max(9.0, m * 4096 * k * 2 / 2.4e8 * (1 + m % 7 / 40)):.2f}\n"
    for m in (1, 16, 128, 256, 512, 1024, 2048, 4096)
    for k in (1024, 4096, 8192)
)
RUNS = """hw,model,tp,batch,prompt_len,phase,steps,link,runtime,strategy,latency_ms,source
h100,Qwen2.5-72B-Instruct,8,1,4096,prefill,1,nvlink_multimem,vllm_eager,serial,180,me
h100,Qwen2.5-72B-Instruct,8,1,4096,prefill,1,nvlink_multimem,vllm_eager,spd_all,160,me
"""
WANTED = ("search", "policy", "sweep", "check", "runs", "calibration", "sensitivity")


def saved(folder: Path, name: str, *arguments: str) -> Path:
    """What a command prints with --json, as a file."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        main([*arguments, "--json"])
    path = folder / f"{name}.json"
    path.write_text(out.getvalue())
    assert json.loads(out.getvalue())
    return path


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """One result of each kind, made by the commands themselves."""
    folder = tmp_path_factory.mktemp("results")
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield dict(_results(folder))
    finally:
        os.chdir(before)


def _results(folder: Path) -> Iterator[tuple[str, Path]]:
    costs = [0.02 if block < 2 else 0.0001 * (block % 5 - 1) for block in range(BLOCKS)]
    table = {"model": "llama-2-7b", "blocks": costs, "transfer": {"int8": 0.001}}
    sensitivity = folder / "sensitivity.json"
    sensitivity.write_text(json.dumps(table))
    yield "sensitivity", sensitivity
    scenario = ("--hw", "a800", "--model", "llama-2-7b", "--prompt", "2k")
    budget = ("--sensitivity", "sensitivity.json", "--objectives", "latency,accuracy_cost")
    search = ("search", *scenario, "--trials", "24", *budget)
    yield "search", saved(folder, "search", *search)
    yield "plan", folder / "plan.yaml"
    lengths = ("search", "--hw", "rtx4090", "--model", "llama-2-7b", "--prompt", "256:1k")
    yield "policy", saved(folder, "policy", *lengths)
    yield "policy file", folder / "policy.yaml"
    grid = ("--hw", "a800,l40s", "--model", "llama-2-7b", "--tp", "2,4", "--prompt", "512,2k,8k")
    names = ("--strategies", "serial,gemm_overlap,iso,spd", "--jobs", "1", "-o", "table.csv")
    yield "sweep", saved(folder, "sweep", "sweep", *grid, *names)
    yield "table", folder / "table.csv"
    (folder / "gemms.csv").write_text(GEMMS)
    (folder / "runs.csv").write_text(RUNS)
    yield "check", saved(folder, "check", "check", "gemms.csv")
    yield "runs", saved(folder, "runs", "check", "runs.csv")
    fit = ("calibrate", "gemms.csv", "--base", "a100", "-o", "mine.yaml", "--date", "2026-01-31")
    yield "calibration", saved(folder, "calibration", *fit)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium that keeps its console and its network log."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver and find_spec("selenium")):
        if os.environ.get("ISOTUNE_REQUIRE_CHROMIUM"):
            pytest.fail("chromium, chromedriver or selenium is missing")
        pytest.skip("needs chromium, chromedriver and selenium")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    found = webdriver.Chrome(options=options, service=Service(driver))
    yield found
    found.quit()
