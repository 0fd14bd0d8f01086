"""SPD's saving against the share of blocks dropped, on a fast and on a slow link.

    python figures/spd_figures.py [--markdown]

LLaMA-2-70B on 8 GPUs of a100 (NVLink) and a100-lbw (PCIe), batch 1, 128 tokens, the setting
of the paper (Kim et al., arXiv 2502.20727), which reports about 20 % lower latency at under
1 % accuracy loss with 70-90 % of the blocks dropped. Blocks are dropped from the last to the
first, the order of the paper's scan.
"""

import argparse

import isotune
from isotune.simulator.schedule import Phase, Plan

MACHINES = ["a100", "a100-lbw"]
PHASES: list[Phase] = ["prefill", "decode"]
SHARES = [share / 10 for share in range(11)]
PAPER = (0.7, 0.9, 0.20)


def savings(hardware: str, phase: Phase) -> list[float]:
    """Saving of each share of dropped blocks."""
    scenario = isotune.scenario("llama-2-70b", hardware, phase=phase, prompt=128)
    blocks = scenario.model.num_hidden_layers
    plans = [Plan(dropped=tuple(range(blocks - round(share * blocks), blocks))) for share in SHARES]
    return [isotune.predict(scenario, plan).saving for plan in plans]


def reason(phase: Phase) -> str:
    """How much of the serial time all-reduces take on each link, which bounds the saving."""
    shares = []
    for hardware in MACHINES:
        serial = isotune.predict(isotune.scenario("llama-2-70b", hardware, phase=phase, prompt=128))
        shares.append(f"{serial.comm_s / serial.latency_s:.0%} on {hardware}")
    return (
        f"All-reduces take {' and '.join(shares)} of a serial {phase}; dropping one of two "
        "saves at most half of that."
    )


def main() -> None:
    """Print the table and whether the paper's figure lies between the curves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--markdown", action="store_true")
    markdown = parser.parse_args().markdown
    line = (lambda cells: "| " + " | ".join(cells) + " |") if markdown else "\t".join
    curves = {(phase, hw): savings(hw, phase) for phase in PHASES for hw in MACHINES}
    print(line(["dropped", *(f"{hw}, {phase}" for phase, hw in curves)]))
    if markdown:
        print(line(["---"] * (1 + len(curves))))
    for index, share in enumerate(SHARES):
        print(line([f"{share:.0%}", *(f"{curve[index]:.1%}" for curve in curves.values())]))
    print()
    for phase in PHASES:
        fast, slow = (curves[phase, hw] for hw in MACHINES)
        inside = [
            low < PAPER[2] < high
            for s, low, high in zip(SHARES, fast, slow, strict=True)
            if PAPER[0] <= s <= PAPER[1]
        ]
        verdict = "lies" if all(inside) else "does not lie"
        print(f"{phase}: the paper's 20 % {verdict} between the two links at 70-90 % dropped.")
        print(reason(phase))
        print()


if __name__ == "__main__":
    main()
