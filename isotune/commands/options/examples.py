"""One line to copy for each command; its help ends with it."""

from typing import Any

EXAMPLES = {
    (): "isotune search --hw a800 --model llama-2-7b --prompt 2k",
    ("search",): "isotune search --hw h100 --model llama-2-70b --prompt 16k --tp 4,8",
    ("compare",): "isotune compare --hw h100,a800 --engine nccl,vllm --prompt 4k",
    ("predict",): "isotune predict --hw a100 --strategy iso --chunks 2304,1792",
    ("sweep",): "isotune sweep --hw a800,h100 --prompt 1k,4k,16k -o table.csv",
    ("doctor",): "isotune doctor --json",
    ("hw",): "isotune hw show a800",
    ("hw", "list"): "isotune hw list --errors",
    ("hw", "show"): "isotune hw show a800",
    ("hw", "diff"): "isotune hw diff a100 a800",
    ("hw", "new"): "isotune hw new my-node --from a100",
    ("models",): "isotune models show llama-2-7b",
    ("models", "list"): "isotune models list",
    ("models", "show"): "isotune models show llama-2-7b",
    ("engines",): "isotune engines diff vllm sglang",
    ("engines", "list"): "isotune engines list",
    ("engines", "show"): "isotune engines show vllm",
    ("engines", "diff"): "isotune engines diff vllm sglang",
    ("measure",): "isotune measure --model llama-2-70b --nproc 8 -o here.csv",
    ("calibrate",): "isotune calibrate here.csv --base a800 -o here.yaml",
    ("check",): "isotune check here.csv --hw here.yaml",
    ("import",): "isotune import topo topo.txt",
    ("import", "nccl-tests"): "isotune import nccl-tests all_reduce.log -o reduces.csv",
    ("import", "aiconfigurator"): (
        "isotune import aiconfigurator system.yaml --from h100 -o mine.yaml"
    ),
    ("import", "tables"): (
        "isotune import tables --system h200_sxm --engine vllm --op gemm -o t.csv"
    ),
    ("import", "trace"): "isotune import trace trace.json",
    ("import", "topo"): "isotune import topo topo.txt",
    ("validate",): "isotune validate plan.yaml --layers 2",
    ("sensitivity",): "isotune sensitivity --model ./my-model/ --text calibration.txt --tp 8",
    ("recover",): "isotune recover --plan plan.yaml --text calibration.txt -o recovered",
    ("remeasure",): ("isotune remeasure plan.yaml --sensitivity sensitivity.json --text held.txt"),
    ("report",): "isotune report search.json -o report.html",
    ("export",): "isotune export plan.yaml --to vllm",
}
"""By the words of a command; the whole program has none."""


def add_examples(command: Any, path: tuple[str, ...]) -> None:
    """End the help of a command, and of those below it, with its example."""
    if path in EXAMPLES:
        command.epilog = f"Example:\n\n{EXAMPLES[path]}"
    for name, child in getattr(command, "commands", {}).items():
        add_examples(child, (*path, name))
